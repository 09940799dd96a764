"""The verb `lightning-cv evaluate`: scores saved predictions in the official formats against the ground truth."""

import argparse
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_cv.errors import UserError
from lightning_cv.metrics.bootstrap import bootstrap_interval
from lightning_cv.metrics.voc import Floats

KINDS = {
    "voc-detection": ("text files a class, comp3 or comp4, against a VOC year folder", "evaluate_voc:detection"),
    "voc-segmentation": ("palette PNGs against a VOC year folder", "evaluate_voc:segmentation"),
    "coco": ("a results json against an instances json", "evaluate_coco:instances"),
    "coco-panoptic": ("a panoptic json with its PNG files against another", "evaluate_coco:panoptic"),
    "boxes-txt": ("a text file an image: class score x y w h, against class x y w h", "evaluate_boxes:boxes"),
}


OPTIONS = {
    "split": ("test", ("voc-detection", "voc-segmentation")),
    "classes": (None, ("voc-detection", "voc-segmentation")),
    "ap": ("area", ("voc-detection", "boxes-txt")),
    "iou": ([0.5], ("voc-detection", "boxes-txt")),
    "strict": (False, ("voc-detection", "boxes-txt")),
    "iou_type": (["bbox"], ("coco",)),
    "bootstrap": (0, ("voc-detection", "voc-segmentation", "boxes-txt")),
}
"""Default of each option that only some kinds have, and these kinds."""


class Scores(NamedTuple):
    """Figures by name, over all classes and by class; NaN where there is nothing to judge."""

    images: int
    figures: dict[str, float]
    per_class: dict[str, dict[str, float]]
    absent: list[str]  # classes that no mean counts, for there is nothing of them
    invented: Sequence[str] = ()  # classes that are predicted where the truth has none: they count as 0
    intervals: Mapping[str, tuple[float, float]] = MappingProxyType({})  # of the figures that were asked to have one


def intervals_of(
    names: Iterable[str], figures: Callable[[NDArray[np.int64]], Floats], images: int, draws: int
) -> dict[str, tuple[float, float]]:
    """Bootstrap interval of each figure; none without `draws`."""
    if not draws:
        return {}
    low, high = bootstrap_interval(figures, images, draws).tolist()
    return dict(zip(names, zip(low, high, strict=True), strict=True))


def main(argv: Sequence[str]) -> int:
    """Prints a table, or one JSON object; the exit status."""
    arguments = parse(argv)
    module, function = KINDS[arguments.kind][1].split(":")
    score: Callable[[argparse.Namespace], Scores] = getattr(import_module(f"lightning_cv.tools.{module}"), function)
    scores = score(arguments)
    if arguments.json:
        print(json.dumps(_as_json(arguments, scores)))
    else:
        print(table(scores))
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments with their defaults; an option that the kind has not is refused."""
    arguments = parser().parse_args(argv)
    for name, (default, kinds) in OPTIONS.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
        elif arguments.kind not in kinds:
            raise UserError(
                f"--{name.replace('_', '-')} is an option of {' and '.join(kinds)}, not of {arguments.kind}"
            )
    _refuse_strange(arguments)
    return arguments


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    kinds = "\n".join(f"  {kind:<17} {what}" for kind, (what, _) in KINDS.items())
    found = argparse.ArgumentParser(
        prog="lightning-cv evaluate",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Scores saved predictions as the official evaluators do.",
        epilog=f"kinds:\n{kinds}\n\nexample:\n  lightning-cv evaluate voc-detection --gt data/VOCdevkit/VOC2007 "
        "--split test \\\n    --pred results/Main --ap 11point --iou 0.5 0.75",
    )
    found.add_argument("kind", choices=KINDS, metavar="KIND", help="see below")
    found.add_argument("--gt", type=Path, required=True, metavar="PATH", help="ground truth: folder or json")
    found.add_argument("--pred", type=Path, required=True, metavar="PATH", help="predictions: folder or json")
    found.add_argument("--split", metavar="NAME", help="VOC: the list of images (default: test)")
    found.add_argument(
        "--classes", metavar="NAMES", help="VOC: class names with commas between (default: VOC's 20, or those found)"
    )
    found.add_argument(
        "--ap", choices=("area", "11point"),
        help="VOC and boxes-txt: how precision is averaged; 11point is VOC 2007's (default: area)",
    )  # fmt: skip
    found.add_argument(
        "--iou", type=float, nargs="+", metavar="T",
        help="VOC and boxes-txt: overlaps that make a detection right (default: 0.5)",
    )  # fmt: skip
    found.add_argument(
        "--strict", action="store_true", default=None, help="VOC and boxes-txt: the overlap must exceed --iou"
    )
    found.add_argument(
        "--iou-type", choices=("bbox", "segm"), nargs="+",
        help="coco: boxes, masks or both (default: bbox)",
    )  # fmt: skip
    found.add_argument(
        "--bootstrap", type=int, metavar="DRAWS",
        help="VOC and boxes-txt: intervals that hold the figures of 95 %% of so many resamples of the images",
    )  # fmt: skip
    found.add_argument("--json", action="store_true", help="print one JSON object")
    return found


def table(scores: Scores) -> str:
    """The figures, then a line a class that has any; the others are named."""
    names = list(dict.fromkeys(name for row in scores.per_class.values() for name in row))
    judged = {label: row for label, row in scores.per_class.items() if label not in scores.absent}
    wide = max(map(len, [*judged, *scores.figures, "images"]))
    lines = [f"{'images':<{wide}}  {scores.images:>10}"]
    for name, value in scores.figures.items():
        ends = "  95 %: {} to {}".format(*map(_shown, scores.intervals[name])) if name in scores.intervals else ""
        lines.append(f"{name:<{wide}}  {_shown(value):>10}{ends}")
    if judged:
        lines += ["", f"{'class':<{wide}}" + "".join(f"  {name:>10}" for name in names)]
    for label, row in judged.items():
        cells = "".join(f"  {_shown(row[name]):>10}" for name in names)
        lines.append(f"{label:<{wide}}{cells}")
    for what, classes in (("absent, in no mean", scores.absent), ("not in the truth, count as 0", scores.invented)):
        if classes:
            lines += ["", *textwrap.wrap(f"{what}: {', '.join(classes)}", 100)]
    return "\n".join(lines)


def _shown(value: float) -> str:
    if math.isnan(value):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.6f}"


def _as_json(arguments: argparse.Namespace, scores: Scores) -> dict[str, object]:
    def known(row: dict[Any, float]) -> dict[Any, float | None]:
        return {name: None if math.isnan(value) else value for name, value in row.items()}

    return {
        "kind": arguments.kind,
        "gt": str(arguments.gt),
        "pred": str(arguments.pred),
        "images": scores.images,
        "figures": known(scores.figures),
        "intervals": {name: list(known(dict(enumerate(ends))).values()) for name, ends in scores.intervals.items()},
        "per_class": {label: known(row) for label, row in scores.per_class.items()},
        "absent": scores.absent,
        "invented": list(scores.invented),
    }


def _refuse_strange(arguments: argparse.Namespace) -> None:
    for option, path in (("--gt", arguments.gt), ("--pred", arguments.pred)):
        if not path.exists():
            raise UserError(f"{option}: no file or folder {path}")
    for iou in arguments.iou:
        if not 0 < iou <= 1:
            raise UserError(f"--iou must be above 0 and at most 1, got {iou}")
    if arguments.bootstrap < 0:
        raise UserError(f"--bootstrap must be at least 0, got {arguments.bootstrap}")
