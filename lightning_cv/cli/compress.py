"""`lightning-cv compress`: an autoencoder's codes as real bytes, against JPEG, WebP, PNG, zlib and PCA."""

import argparse
import json
from pathlib import Path

from lightning_cv.errors import UserError


def main(argv: list[str]) -> int:
    """Compare, print the table, write it and the figure; the exit status."""
    options = _parser().parse_args(argv)
    if options.images < 1 or options.train_images < 2:
        raise UserError(
            f"at least 1 image and 2 training images are needed, got {options.images}, {options.train_images}"
        )
    from lightning_cv.cli.autoencoders import MARK, autoencoder_of, images_of, other_data, result_folder
    from lightning_cv.metrics.compression import eight_bits
    from lightning_cv.tools.compress import Images, as_json, compare, print_comparison, write_comparison

    out = result_folder(options.out)
    model = autoencoder_of(options.ckpt, options.device, options.root)
    train, _ = images_of(model.datamodule, "train", options.train_images)
    tested = {model.data_name: model.datamodule}
    for asked in options.other:
        name, datamodule = other_data(asked, model, options.root)
        tested[f"{name} ({asked})" if name in tested else name] = datamodule
    sets = []
    for name, datamodule in tested.items():
        images, _ = images_of(datamodule, options.split, options.images)
        sets.append(Images(f"{name}, {options.split}, {len(images):,} images", eight_bits(images)))
    rows = compare(model.net, Images("train", eight_bits(train)), sets, model.device, model.picture)
    about = MARK | {"ckpt": str(options.ckpt), "split": options.split, "train_images": len(train)}
    write_comparison(rows, about, out)
    if options.json:
        print(json.dumps(as_json(rows, about), indent=1))
    else:
        print_comparison(rows)
        print(f"-> {out}/compression.png, .csv, .json")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-cv compress",
        description="Compress images with an autoencoder and with hard-coded codecs and compare bits and quality. The "
        "net's codes are quantised and entropy-coded under histograms of its training codes; every rate is the length "
        "of bytes that were written and read again.",
    )
    parser.add_argument("--ckpt", type=Path, required=True, help="checkpoint of an autoencoder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, made if it does not exist")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="what is compressed (default test)")
    parser.add_argument(
        "--other", metavar="EXPERIMENT", nargs="+", default=[],
        help="other data to compress with the same net: the data block of an experiment or of a file such as "
        "_base/fashion_mnist; its image size becomes the net's",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=int, default=1000, metavar="N", help="N images, drawn by a fixed seed (default 1000)"
    )
    parser.add_argument(
        "--train-images", type=int, default=10000, metavar="N",
        help="training images that histograms and components are fitted on, drawn likewise (default 10000)",
    )  # fmt: skip
    parser.add_argument("--root", help="data root, where it is not that of the checkpoint")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default auto)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser
