"""COCO's twelve figures for boxes or masks from annotations and results in COCO's format, by faster-coco-eval.

Lin et al. 2014, "Microsoft COCO", and its evaluation code. Letters: K classes.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as rle

from lightning_cv.metrics.voc import Floats

IouType = Literal["bbox", "segm"]
Entry = dict[str, Any]  # a json object in COCO's format

SIZES = {"": 0, "s": 1, "m": 2, "l": 3}
"""Areas in px: all, below 32 squared, between, above 96 squared."""
MOST = {1: 0, 10: 1, 100: 2}
"""Detections an image, best first, that are looked at."""
TOGETHER = 200
"""Masks that are measured at a time: pycocotools 2.0 counts them in a byte."""


class CocoFigures(NamedTuple):
    """COCO's figures, 0 to 1, NaN where there is no object to find."""

    figures: dict[str, float]  # AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl
    per_class: dict[int, float]  # AP by category id


def coco_figures(truth: Entry, results: Sequence[Entry], iou_type: IouType) -> CocoFigures:
    """The figures of results on the images that `truth` declares.

    Areas of masks are those of the masks, also where a result names its box too (COCO's own code then takes the box's).

    Args:
        truth: "images", "annotations" and "categories" in COCO's format.
        results: "image_id", "category_id", "score" and "bbox" or, as RLE, "segmentation"; they are not changed.
        iou_type: "bbox" or "segm".
    """
    known = COCO()
    known.dataset = truth
    known.createIndex()
    found = COCO()
    found.dataset = truth | {"annotations": _found(results, iou_type)}
    found.createIndex()
    kind = COCOeval_faster if iou_type == "bbox" else _MaskEvaluation
    evaluation = kind(known, found, iouType="bbox", print_function=_silent)
    evaluation.evaluate()
    evaluation.accumulate()
    precision = _known(evaluation.eval["precision"])  # (10 overlaps, 101 recalls, K, 4 sizes, 3 numbers)
    recall = _known(evaluation.eval["recall"])  # (10 overlaps, K, 4 sizes, 3 numbers)
    figures = {f"AP{size}": _mean(precision[:, :, :, place, 2]) for size, place in SIZES.items()}
    figures |= {"AP50": _mean(precision[0, :, :, 0, 2]), "AP75": _mean(precision[5, :, :, 0, 2])}
    figures |= {f"AR{most}": _mean(recall[:, :, 0, place]) for most, place in MOST.items()}
    figures |= {f"AR{size}": _mean(recall[:, :, place, 2]) for size, place in SIZES.items() if size}
    order = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    categories = enumerate(evaluation.params.catIds)
    return CocoFigures(
        {name: figures[name] for name in order},
        {int(category): _mean(precision[:, :, row, 0, 2]) for row, category in categories},
    )


class _MaskEvaluation(COCOeval_faster):  # type: ignore[misc]  # faster-coco-eval has no types
    """An evaluation of "bbox" whose overlaps are those of masks, by pycocotools.

    The library's own "segm" rewrites every mask before it compares the few of one image and category.
    """

    def computeIoU(self, imgId: int, catId: int) -> Floats:  # the library calls it so
        """Overlaps (D, G) of D detections of an image and a category, best first, with its G objects."""
        true, found = (data.get(imgId, catId) for data in (self.gt_dataset, self.dt_dataset))
        order = np.argsort([-entry["score"] for entry in found], kind="stable")[: self.params.maxDets[-1]]
        image = self.cocoGt.imgs[imgId]
        objects = [_run_lengths(entry["segmentation"], image) for entry in true]
        overlaps: Floats = rle.iou(
            [found[place]["segmentation"] for place in order], objects, [entry["iscrowd"] for entry in true]
        )
        return overlaps


def _run_lengths(shape: Any, image: Entry) -> Entry:  # Any: json
    """An object's mask in pycocotools' form, from polygons, runs or that form."""
    size = image["height"], image["width"]
    found: Entry = shape
    if isinstance(shape, list):
        found = rle.merge(rle.frPyObjects(shape, *size))
    elif isinstance(shape["counts"], list):
        found = rle.frPyObjects(shape, *size)
    return found


def _found(results: Sequence[Entry], iou_type: IouType) -> list[Entry]:
    """Results as annotations: what one kind of evaluation reads of them, a number and the area."""
    shape = "bbox" if iou_type == "bbox" else "segmentation"
    shapes = [entry[shape] for entry in results]
    if iou_type == "bbox":
        areas = [width * height for _, _, width, height in shapes]
    else:
        pieces = (shapes[start : start + TOGETHER] for start in range(0, len(shapes), TOGETHER))
        areas = [area for piece in pieces for area in rle.area(piece).tolist()]
    return [
        {
            "id": number,
            "image_id": entry["image_id"],
            "category_id": entry["category_id"],
            "score": entry["score"],
            shape: form,
            "area": area,
        }
        for number, (entry, form, area) in enumerate(zip(results, shapes, areas, strict=True), 1)
    ]


def _known(values: Floats) -> Floats:
    """NaN in the place of the -1 that marks what there is none of."""
    return np.where(np.asarray(values) < 0, np.nan, values)


def _mean(values: Floats) -> float:
    found = values[~np.isnan(values)]
    return float(found.mean()) if found.size else math.nan


def _silent(*_: object) -> None:
    """The evaluation's progress lines go nowhere."""
