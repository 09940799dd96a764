"""`lightning-cv export`: a checkpoint's net as ONNX or TorchScript, run once to see that it says the same."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_cv.errors import UserError

if TYPE_CHECKING:  # `--help` shall not wait for it
    from lightning_cv.cli.predictor import Model


def main(argv: list[str]) -> int:
    """Write the file and compare it with the net; 0 when they agree, 1 when they do not."""
    options = _parser().parse_args(argv)
    if options.out.is_dir():
        raise UserError(f"--out {options.out} is a folder, not a file")
    if options.size and min(options.size) < 1:
        raise UserError(f"--size: height and width are at least 1, got {options.size[0]} and {options.size[1]}")
    import torch  # heavy, and not needed to refuse

    from lightning_cv.cli.predictor import load_model
    from lightning_cv.tools.export import compare, export, exportable

    model = load_model(options.ckpt, "cpu")
    generator = torch.Generator().manual_seed(0)
    shape = _image_shape(model, options.size)
    example = torch.rand(2 if options.dynamic_batch else 1, *shape, generator=generator)
    subject = exportable(model.task.net, example)
    about = {"class_names": json.dumps(model.label_map.names), "net": type(model.task.net).__name__}
    try:
        export(subject, example, options.out, options.format, about)
    except OSError as error:
        raise UserError(f"cannot write --out {options.out}: {error.strerror or error}") from error
    images = torch.rand(3 if options.dynamic_batch else 1, *shape, generator=generator)
    differences = compare(subject, options.out, options.format, images)
    print(f"images (N, C, H, W) of {tuple(example.shape[1:])}, {'any N' if options.dynamic_batch else 'N = 1'}, 0 to 1")
    for one in differences:
        print(f"{one.output} {subject.outputs[one.output]}: differs from the net by at most {one.worst:.1e}")
    print(f"{type(model.task.net).__name__} -> {options.out}, {options.out.stat().st_size / 1e6:.1f} MB")
    if wrong := [one.output for one in differences if not one.is_rounding]:
        print(f"{', '.join(wrong)}: that is more than rounding; do not trust the file", file=sys.stderr)
        return 1
    return 0


def _image_shape(model: "Model", size: list[int] | None) -> tuple[int, int, int]:
    """Channels, height and width of the images: as asked, or those that evaluation makes of a picture of 480 x 640."""
    fixed: tuple[int, int, int] | None = getattr(model.task.net, "image_shape", None)
    if fixed is not None:
        if size and tuple(size) != fixed[1:]:
            raise UserError(f"--size {size[0]} {size[1]}: this net takes images of {fixed[1]} x {fixed[2]} only")
        return fixed
    import numpy as np

    channels, height, width = model.datamodule.prepare_image(np.zeros((480, 640, 3), np.uint8)).shape
    return (channels, *size) if size else (channels, height, width)  # type: ignore[return-value]  # two numbers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-cv export",
        description="Write the net of a checkpoint as a file that runs without this package, and compare the two on "
        "random images. Detectors give boxes and scores before non-maximum suppression, segmentation nets logits, "
        "autoencoders codes and the logits of what they decode to.",
    )
    parser.add_argument("--ckpt", type=Path, required=True, help="checkpoint of a run")
    parser.add_argument("--format", choices=("onnx", "torchscript"), default="onnx", help="default onnx")
    parser.add_argument("--out", type=Path, required=True, help="the file, overwritten if it exists")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"),
        help="of the images in pixels (default: what evaluation makes of a picture of 480 x 640)",
    )  # fmt: skip
    parser.add_argument("--dynamic-batch", action="store_true", help="take any number of images instead of one")
    return parser
