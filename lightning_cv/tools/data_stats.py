"""`lightning-cv data stats`: what a data set holds, and anchors and class weights that suit it."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_cv.errors import UserError
from lightning_cv.tools.data_check import add_folder_arguments, class_names

if TYPE_CHECKING:  # `--help` shall not wait for the others
    from lightning_cv.tools.data_stats_read import Content, MaskCounts

STRIDE = 32
"""Pixels of a YOLO cell, in which its anchors are given too."""

SHARES = (0, 5, 25, 50, 75, 95, 100)
"""The percentiles that are printed."""

Summary = dict[str, Any]  # what json holds


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the arguments of `stats`."""
    parser = verbs.add_parser(
        "stats",
        help="count classes, measure boxes, find anchors and class weights",
        description="Counts images and objects, measures boxes as shares of their pictures, and finds anchors by "
        "k-means with the distance 1 - IoU. Crowds are left out of shapes and anchors, difficult objects are not.",
    )
    add_folder_arguments(parser)
    parser.add_argument("--split", metavar="NAME", help="a list, part or file of the folder (default: everything)")
    parser.add_argument("--anchors", metavar="K", type=int, help="find so many anchors")
    parser.add_argument(
        "--size", metavar="S", type=int, default=416,
        help="side in pixels that pictures are stretched to, for anchors (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="of k-means (default: %(default)s)")
    parser.add_argument(
        "--class-weights", action="store_true",
        help="count the pixels of class masks (layouts voc, by lists of ImageSets/Segmentation, and masks) and weigh "
        "classes by median frequency, for CrossEntropyLoss",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FIG.png", help="draw a figure")


def main(arguments: argparse.Namespace) -> int:
    """Prints what a folder holds; the exit status."""
    from lightning_cv.tools.data_check_layout import find_layout
    from lightning_cv.tools.data_check_look import available_processors
    from lightning_cv.tools.data_stats_read import read_content

    if arguments.size < 1:
        raise UserError(f"--size must be at least 1, got {arguments.size}")
    root = Path(arguments.root)
    layout = find_layout(root, arguments.layout)
    classes = class_names(root, layout, arguments.classes)
    weighed = arguments.class_weights
    if weighed and layout not in ("voc", "masks"):
        raise UserError(f"--class-weights: the layout {layout} has no class masks; voc and masks have")
    content = read_content(root, layout, arguments.split, classes, available_processors(), class_masks=weighed)
    summary: Summary = {"root": str(root), "layout": layout, "split": arguments.split} | summarize(content)
    if arguments.anchors is not None:
        if not content.has_boxes:
            raise UserError(f"--anchors {arguments.anchors}: {root} has no boxes")
        summary["anchors"] = find_anchors(content, arguments.anchors, arguments.size, arguments.seed)
    if weighed:
        summary["masks"] = weigh_classes(content, layout, classes)
    if arguments.out:
        _draw(summary, content, Path(arguments.out))
    if arguments.json:
        print(json.dumps(summary, indent=1))
    else:
        _print(summary)
        if arguments.out:
            print(arguments.out)
    return 0


def summarize(content: "Content") -> Summary:
    """Counts and shapes, as `--json` prints them."""
    import numpy as np

    per_image = np.bincount(content.owners, minlength=content.images)
    summary: Summary = {
        "images": content.images,
        "objects": len(content.labels),
        "classes": [_of_class(content, label) for label in range(len(content.class_names))],
        "objects_an_image": _percentiles(per_image) | {"mean": float(per_image.mean()) if content.images else 0.0},
        "images_without_objects": int((per_image == 0).sum()),
    }
    if content.apart_word:
        summary[content.apart_word] = int(content.apart.sum())
    if content.unreadable:
        summary["unreadable_annotations"] = content.unreadable
    if content.has_boxes:
        width, height = usable_shapes(content).T
        shapes = {"width": width, "height": height, "width / height": width / height, "area": width * height}
        summary["boxes"] = {name: _percentiles(values) for name, values in shapes.items()}
        summary["unusable_boxes"] = int(np.isnan(content.shapes[:, 0]).sum())
    return summary


def usable_shapes(content: "Content") -> Any:  # NDArray[float64]: numpy is not imported here
    """Shapes (N, 2) of boxes that have an area, as shares of their pictures; without crowds."""
    import numpy as np

    kept = np.isfinite(content.shapes).all(axis=1)
    if content.apart_word == "crowd":
        kept &= ~content.apart
    return content.shapes[kept]


def find_anchors(content: "Content", count: int, size: int, seed: int) -> Summary:
    """K-means anchors of pictures stretched to `size` pixels a side, in pixels and in cells of `STRIDE`."""
    import torch

    from lightning_cv.ops.kmeans import kmeans_anchors

    shapes = torch.from_numpy(usable_shapes(content)) * size
    found = kmeans_anchors(shapes, count, torch.Generator().manual_seed(seed))
    pixels = found.anchors.tolist()
    return {
        "size": size,
        "seed": seed,
        "mean_iou": found.mean_iou,
        "pixels": pixels,
        "cells": [[side / STRIDE for side in anchor] for anchor in pixels],
    }


def weigh_classes(content: "Content", layout: str, classes: Sequence[str]) -> Summary:
    """Pixels and weight of each class, as `--json` prints them; `classes` as for `read_content`.

    Raises:
        UserError: there is no mask with a pixel of a class, one holds a value without a name, or names are unknown.
    """
    from lightning_cv.tools.data_stats_read import count_pixels

    if not content.looks:
        raise UserError(
            f"--class-weights: no class masks ({'SegmentationClass/*.png' if layout == 'voc' else 'masks/'})"
        )
    if layout == "voc" and content.class_names[: len(classes)] != tuple(classes):
        raise UserError(
            "--class-weights: objects have names of their own: say them with --classes, from mask value 1 on"
        )
    counts = count_pixels(content.looks, ("background", *classes) if layout == "voc" else classes)
    weights = median_frequency_weights(counts)
    columns = zip(counts.class_names, counts.pixels.tolist(), counts.images.tolist(), weights, strict=True)
    return {
        "masks": counts.masks,
        "unreadable": counts.unreadable,
        "void_pixels": counts.void,
        "classes": [
            {"name": name, "pixels": pixels, "masks": images, "weight": weight}
            for name, pixels, images, weight in columns
        ],
        "rule": "median frequency (Eigen and Fergus 2015)",
        "class_weights": weights,
    }


def median_frequency_weights(counts: "MaskCounts") -> list[float]:
    """K weights: the median of all classes' frequencies by the frequency of each.

    Eigen and Fergus 2015, "Predicting depth, surface normals and semantic labels with a common multi-scale
    convolutional architecture": a class's frequency is the number of its pixels by the number of all pixels in the
    images that hold it. Ours: void pixels are left out, a class without a pixel is not in the median and weighs 1, and
    weights have four digits.
    """
    import numpy as np

    seen = counts.pixels > 0
    frequencies = counts.pixels[seen] / counts.around[seen]
    weights = np.ones(len(seen))
    weights[seen] = np.median(frequencies) / frequencies
    return [float(np.format_float_positional(weight, 4, fractional=False)) for weight in weights]


def _of_class(content: "Content", label: int) -> Summary:
    mine = content.labels == label
    entry: Summary = {"name": content.class_names[label], "objects": int(mine.sum())}
    if content.apart_word:
        entry[content.apart_word] = int(content.apart[mine].sum())
    entry["images"] = len(set(content.owners[mine].tolist()))
    if content.pixels is not None:
        entry["pixels"] = int(content.pixels[label])
    return entry


def _percentiles(values: Any) -> dict[str, float]:  # an array: numpy is not imported here
    import numpy as np

    if not len(values):
        return {}
    return dict(zip([f"{share}%" for share in SHARES], np.percentile(values, SHARES).tolist(), strict=True))


def _draw(summary: Summary, content: "Content", path: Path) -> None:
    import numpy as np
    from PIL import Image

    from lightning_cv.viz.statistics import ClassCount, statistics_figure

    apart = content.apart_word
    counts = [ClassCount(entry["name"], entry["objects"], entry.get(apart, 0)) for entry in summary["classes"]]
    anchors = summary.get("anchors", {"pixels": [], "size": 1})
    shapes = np.array(anchors["pixels"], np.float64).reshape(-1, 2) / anchors["size"]
    name = f"{Path(summary['root']).resolve().name} {summary['split'] or ''}".strip()
    title = f"{name}: {summary['images']:,} images, {summary['objects']:,} objects"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(statistics_figure(counts, usable_shapes(content), shapes, title, apart)).save(path)


def _print(summary: Summary) -> None:
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    what = "objects" if summary["layout"] in ("voc", "coco") else "labels"
    parts = [f"{summary['images']:,} images, {summary['objects']:,} {what}"]
    parts += [f"{summary[word]:,} {word}" for word in ("difficult", "crowd") if word in summary]
    parts.append(f"{summary['images_without_objects']:,} images without")
    for key in ("unusable_boxes", "unreadable_annotations"):
        if summary.get(key):
            parts.append(f"{summary[key]:,} {key.replace('_', ' ')} (see `data check`)")
    console.print(f"{summary['root']} ({summary['layout']}): {', '.join(parts)}", markup=False, soft_wrap=True)
    columns = [key for key in summary["classes"][0] if key != "name"] if summary["classes"] else []
    rows = [[entry["name"], *[f"{entry[key]:,}" for key in columns]] for entry in summary["classes"]]
    _print_table(console, ["class", *[what if key == "objects" else key for key in columns]], rows)
    shares = [f"{share}%" for share in SHARES]
    measured = {f"{what} an image": summary["objects_an_image"]} | {
        f"box {name}": values for name, values in summary.get("boxes", {}).items()
    }
    lines = [[name, *[f"{values[share]:.3g}" for share in shares]] for name, values in measured.items() if values]
    _print_table(console, ["", *shares], lines)
    if "anchors" in summary:
        _print_anchors(console, summary["anchors"])
    if "masks" in summary:
        _print_weights(console, summary["masks"])


def _print_weights(console: Any, masks: Summary) -> None:  # a rich Console: not imported here
    parts = [f"{masks['masks']:,} class masks, {masks['void_pixels']:,} void pixels"]
    if masks["unreadable"]:
        parts.append(f"{masks['unreadable']:,} unreadable (see `data check`)")
    if unseen := [entry["name"] for entry in masks["classes"] if not entry["pixels"]]:
        parts.append(f"no pixel of {', '.join(unseen)}: weight 1")
    console.print("; ".join(parts), markup=False, soft_wrap=True)
    weights = [_plain(entry["weight"]) for entry in masks["classes"]]
    rows = [
        [entry["name"], f"{entry['pixels']:,}", f"{entry['masks']:,}", weight]
        for entry, weight in zip(masks["classes"], weights, strict=True)
    ]
    _print_table(console, ["class", "pixels", "masks", "weight"], rows)
    console.print(f"# {masks['rule']}, for CrossEntropyLoss", markup=False)
    console.print(f"class_weights: [{', '.join(weights)}]", markup=False, soft_wrap=True)


def _plain(number: float) -> str:
    """Without an exponent, which YAML would read as text where it has no dot."""
    import numpy as np

    return np.format_float_positional(number, trim="0")


def _print_anchors(console: Any, anchors: Summary) -> None:  # a rich Console: not imported here
    heading = f"{len(anchors['pixels'])} anchors at {anchors['size']} x {anchors['size']} pixels"
    console.print(f"{heading}, mean IoU {anchors['mean_iou']:.4f}", markup=False)
    rows = [
        [f"{width:.1f}", f"{height:.1f}", f"{across:.2f}", f"{down:.2f}"]
        for (width, height), (across, down) in zip(anchors["pixels"], anchors["cells"], strict=True)
    ]
    _print_table(console, ["width", "height", f"width / {STRIDE}", f"height / {STRIDE}"], rows)


def _print_table(console: Any, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    table = Table(*titles)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    console.print(table)
