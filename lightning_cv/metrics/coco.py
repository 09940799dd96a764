"""Average precision as COCO defines it, by faster-coco-eval on records in memory. Letters: K classes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from lightning_cv.metrics.voc import Floats, ImageResult

BEYOND_ALL_SIZES = 1e12
"""An object area in px beyond COCO's range "all" (1e10): the evaluation leaves such an object out, yet matches it."""


class CocoPrecision(NamedTuple):
    """Average precisions, 0 to 1, NaN where there is no object to find."""

    ap: float  # mean over IoU .50, .55, ... .95
    ap_50: float
    ap_75: float
    per_class: Floats  # (K,) of `ap`


def coco_mean_average_precision(images: Sequence[ImageResult], num_classes: int) -> CocoPrecision:
    """COCO's box AP over all sizes and at most 100 detections an image.

    Lin et al. 2014, "Microsoft COCO", and its evaluation code: 101 recall points, mean over classes with an object.
    A difficult object (VOC's mark, which COCO has not) need not be found and a detection matched to it is not
    counted, one for each such object. It is NOT treated as a COCO crowd, which would also forgive every small false
    positive inside its box.
    """
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i + 1, "height": image.size[0], "width": image.size[1]} for i, image in enumerate(images)],
        "categories": [{"id": label, "name": str(label)} for label in range(1, num_classes + 1)],
        "annotations": _objects(images),
    }
    truth.createIndex()
    if not any((~image.difficult).any() for image in images):
        nan = float("nan")
        return CocoPrecision(nan, nan, nan, np.full(num_classes, nan))
    evaluation = COCOeval_faster(truth, truth.loadRes(_detections(images)), iouType="bbox", print_function=_silent)
    evaluation.evaluate()
    evaluation.accumulate()
    precision: Floats = evaluation.eval["precision"][:, :, :, 0, -1]  # (10 thresholds, 101 recalls, K), all sizes
    precision = np.where(precision < 0, np.nan, precision)  # -1 marks a class without objects
    return CocoPrecision(
        ap=float(np.nanmean(precision)),
        ap_50=float(np.nanmean(precision[0])),
        ap_75=float(np.nanmean(precision[5])),
        per_class=np.array([_mean(precision[:, :, k]) for k in range(num_classes)]),
    )


def _mean(values: Floats) -> float:
    found = values[~np.isnan(values)]
    return float(found.mean()) if found.size else float("nan")


def _objects(images: Sequence[ImageResult]) -> list[dict[str, Any]]:  # COCO json: ints, floats and lists
    objects = [
        (i, box, label, difficult)
        for i, image in enumerate(images)
        for box, label, difficult in zip(image.true_boxes, image.true_labels, image.difficult, strict=True)
    ]
    return [
        {
            "id": number,
            "image_id": i + 1,
            "category_id": int(label),
            "bbox": _corner_and_size(box),
            "area": BEYOND_ALL_SIZES if difficult else float((box[2:] - box[:2]).prod()),
            "iscrowd": 0,
        }
        for number, (i, box, label, difficult) in enumerate(objects, start=1)
    ]


def _detections(images: Sequence[ImageResult]) -> list[dict[str, Any]]:  # COCO json: ints, floats and lists
    return [
        {"image_id": i + 1, "category_id": int(label), "bbox": _corner_and_size(box), "score": float(score)}
        for i, image in enumerate(images)
        for box, score, label in zip(image.boxes, image.scores, image.labels, strict=True)
    ]


def _corner_and_size(box: Floats) -> list[float]:
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]


def _silent(*_: object) -> None:
    """The evaluation's progress lines go nowhere."""
