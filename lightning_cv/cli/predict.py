"""`lightning-cv predict`: a checkpoint used on images of one's own, drawn and in a machine-readable form."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lightning_cv.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
MARK = {"written_by": "lightning-cv predict"}
"""What index.json says of itself: by it, not by its name, a folder is known as an earlier result."""


def main(argv: list[str]) -> int:
    """Predict on every image; 0 when all were looked at, 1 when some could not be read or did not fit into memory."""
    options = _parser().parse_args(argv)
    _refuse_foreign(options.images, options.out)
    files = [(file, name) for file, name in _images(options.images) if not _lies_in(file, options.out)]
    if not files:
        raise UserError(f"no images in {options.images} but those in --out {options.out}, which are results")
    from lightning_cv.cli.predictor import predict_all  # heavy, and not needed to refuse

    skipped = predict_all(files, options, MARK)
    for line in skipped:
        print(f"skipped {line}", file=sys.stderr)
    print(f"{len(files) - len(skipped)} of {len(files)} images -> {options.out}")
    return 1 if skipped else 0


def _refuse_foreign(images: Path, out: Path) -> None:
    """Refuse to write where files lie that no earlier call wrote, or where the images lie."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file, not a folder")
    if images.exists() and _lies_in(images, out):
        raise UserError(f"the images {images} lie in --out {out}: choose a folder of their own for the results")
    if out.is_dir() and any(out.iterdir()) and not _is_earlier_result(out):
        raise UserError(f"--out {out} holds files that are no earlier result: choose a new or empty folder")


def _is_earlier_result(out: Path) -> bool:
    try:
        content = json.loads((out / "index.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.items() >= MARK.items()


def _lies_in(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


def _images(place: Path) -> list[tuple[Path, str]]:
    """Files to predict on, and each result's name: the path below the folder, with the suffix where two clash."""
    if place.is_file():
        return [(place, place.stem)]
    if not place.is_dir():
        raise UserError(f"no file or folder {place}")
    files = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"no images in {place}; looked for {' '.join(SUFFIXES)}")
    names = [str(path.relative_to(place).with_suffix("")) for path in files]
    return list(_unique(files, names, place))


def _unique(files: list[Path], names: list[str], root: Path) -> Iterator[tuple[Path, str]]:
    counts = Counter(names)
    for file, name in zip(files, names, strict=True):
        yield file, name if counts[name] == 1 else str(file.relative_to(root)).replace(".", "_")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-cv predict",
        description="Use a checkpoint on images: drawn pictures, and predictions.json (COCO results for boxes) with "
        "index.json (image and class names), palette PNGs for class masks, PNGs of 0 and 255 for each of the "
        "labels that may overlap, or panoptic_results.json with a folder of PNGs for panoptic segmentations.",
    )
    parser.add_argument("--ckpt", type=Path, required=True, help="checkpoint of a run")
    parser.add_argument("--images", type=Path, required=True, help="an image, or a folder that is searched for images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, made if it does not exist")
    parser.add_argument(
        "--inference",
        help="how to look at images instead of as the checkpoint says: a class path, or a YAML or JSON mapping with "
        "class_path and init_args as under model.inference of an experiment; null is once",
    )
    parser.add_argument(
        "--proposals", type=Path, metavar="DIR",
        help="for a net that judges proposals of its data: a folder of `lightning-cv proposals build`, as whose "
        "pictures these are searched (default: data.proposals of the checkpoint)",
    )  # fmt: skip
    parser.add_argument("--min-score", type=float, default=0.01, help="lowest score that is written (default 0.01)")
    parser.add_argument("--show-score", type=float, default=0.3, help="lowest score that is drawn (default 0.3)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default auto)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser
