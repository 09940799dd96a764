"""`lightning-cv data show`: what an augmentation preset makes of a data set, as one picture to look at."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_cv.errors import UserError

if TYPE_CHECKING:
    from lightning_cv.contracts import DetectionSample, LabelMap
    from lightning_cv.datamodules.base import SampleSource
    from lightning_cv.transforms import DetectionTransform

PRESETS = ("eval", "flip", "ssd", "two-stage", "yolo", "letterbox", "mosaic")
"""What `--preset` takes: the classes of `lightning_cv.transforms` under short names."""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The arguments of `data show`."""
    parser = verbs.add_parser(
        "show",
        help="draw augmented samples with boxes and masks into a PNG",
        description="Draws samples of a VOC or COCO folder as an augmentation preset hands them to a net: boxes with "
        "class names, difficult and crowd objects dashed, masks where the data has them.",
    )
    parser.add_argument("root", type=Path, help="the folder that holds VOCdevkit, or a COCO folder")
    parser.add_argument("--layout", choices=("auto", "voc", "coco"), default="auto", help="(default: %(default)s)")
    parser.add_argument("--preset", choices=PRESETS, default="ssd", help="(default: %(default)s)")
    parser.add_argument("--split", default="train", help="(default: %(default)s)")
    parser.add_argument("--year", default=None, help="of the folder (default: 2007 for VOC, 2017 for COCO)")
    parser.add_argument("--classes", metavar="A,B,...", help="class names of a VOC-like folder, in label order")
    parser.add_argument("--masks", action="store_true", help="object masks too")
    parser.add_argument("--count", metavar="N", type=int, default=12, help="samples (default: %(default)s)")
    parser.add_argument("--size", metavar="S", type=int, default=300, help="side in pixels (default: %(default)s)")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="of choice and augmentation")
    parser.add_argument("--out", type=Path, default=Path("samples.png"), help="(default: %(default)s)")


def main(options: argparse.Namespace) -> Path:
    """Writes the picture; its path."""
    import numpy as np
    from PIL import Image

    from lightning_cv.ops.counters import mix
    from lightning_cv.transforms import Mosaic
    from lightning_cv.viz.boxes import target_picture
    from lightning_cv.viz.canvas import tile
    from lightning_cv.viz.masks import tint_instances

    if options.count < 1 or options.size < 16:
        raise ValueError(f"--count must be at least 1 and --size at least 16, got {options.count} and {options.size}")
    source, label_map = open_folder(options)
    transform = preset(options.preset, options.size)
    chosen = np.random.default_rng(options.seed).permutation(len(source))[: options.count]
    pictures = []
    for index in chosen.tolist():
        seed = mix(options.seed, 0, index)
        sample = source[index]
        if isinstance(transform, Mosaic):
            others = transform.partners(seed, len(source))
            sample = transform.combine([sample, *(source[other] for other in others)], seed)
        image, target = transform(sample, seed)
        if "crowd" in target:
            target["difficult"] = target["difficult"] | target["crowd"]
        shown = tint_instances(image, target["masks"]) if "masks" in target else image
        pictures.append(target_picture(shown, target, label_map))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tile(pictures, columns=min(4, len(pictures)))).save(options.out)
    return Path(options.out)


def preset(name: str, size: int) -> "DetectionTransform":
    """A preset by its short name."""
    from lightning_cv import transforms

    made: dict[str, DetectionTransform] = {
        "eval": transforms.DetectionEval(size),
        "flip": transforms.FlipOnly(0.1),
        "ssd": transforms.SSDTrain(size),
        "two-stage": transforms.ShorterSideTrain([size], longer=round(size * 5 / 3)),
        "yolo": transforms.YOLOTrain(size),
        "letterbox": transforms.LetterboxEval(size),
        "mosaic": transforms.Mosaic(transforms.FlipOnly(0.1), size),
    }
    return made[name]


def open_folder(options: argparse.Namespace) -> "tuple[SampleSource[DetectionSample], LabelMap]":
    """The samples of a folder and its class names."""
    from lightning_cv.datasets.coco import CocoDetection
    from lightning_cv.datasets.voc import VOC_CLASSES, VOCDetection, VOCInstances

    layout = options.layout
    if layout == "auto":
        layout = "voc" if (options.root / "VOCdevkit").is_dir() else "coco"
    if layout == "coco":
        json, pictures = beside_pictures(options.root, options.split)
        coco = CocoDetection(
            options.root, options.split, options.year or "2017", json, pictures, with_masks=options.masks
        )
        return coco, coco.label_map
    names = tuple(options.classes.split(",")) if options.classes else _drawn_classes(options.root) or VOC_CLASSES
    reader = VOCInstances if options.masks else VOCDetection
    voc = reader(options.root, options.year or "2007", options.split, names)
    return voc, voc.label_map


def beside_pictures(root: Path, split: str) -> tuple[str | None, str | None]:
    """The json and the pictures of a split, below the root, where splits hold their json; None where they do not."""
    from lightning_cv.tools.data_check_layout import SPLIT_JSON, split_jsons

    known = [path.parent.name for path in split_jsons(root)]
    if not known or (root / "annotations").is_dir():
        return None, None
    if split not in known:
        raise UserError(f"{root} has no split {split!r}: there are {', '.join(known)}")
    return f"{split}/{SPLIT_JSON}", split


def _drawn_classes(root: Path) -> tuple[str, ...] | None:
    """Class names of drawn scenes, which their recipe holds."""
    import json

    recipe = root / "recipe.json"
    return tuple(json.loads(recipe.read_text())["classes"]) if recipe.is_file() else None
