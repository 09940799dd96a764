"""COCO's figures for boxes from records in memory. Letters: K classes; G objects of an image."""

from collections.abc import Sequence

from lightning_cv.metrics.coco_results import CocoFigures, Entry, coco_figures
from lightning_cv.metrics.voc import Floats, ImageResult

BEYOND_ALL_SIZES = 1e12
"""An object area in px^2 beyond COCO's range "all" (1e10): the evaluation leaves such an object out, yet matches it."""


def box_figures(images: Sequence[ImageResult], num_classes: int) -> CocoFigures:
    """COCO's twelve figures and the AP by label, 1 to K.

    Crowds are COCO's: any number of detections may lie in one. A difficult object (VOC's mark, which COCO has not) need
    not be found and a detection matched to it is not counted, one for each such object. It is NOT treated as a crowd,
    which would also forgive every small false positive inside its box.
    """
    truth = {
        "images": [{"id": i, "height": image.size[0], "width": image.size[1]} for i, image in enumerate(images, 1)],
        "categories": [{"id": label, "name": str(label)} for label in range(1, num_classes + 1)],
        "annotations": _objects(images),
    }
    return coco_figures(truth, _detections(images), "bbox")


def _objects(images: Sequence[ImageResult]) -> list[Entry]:
    entries = [entry for number, image in enumerate(images, 1) for entry in _objects_of(image, number)]
    return [entry | {"id": number} for number, entry in enumerate(entries, 1)]


def _objects_of(image: ImageResult, number: int) -> list[Entry]:
    boxes, count = image.true_boxes, len(image.true_boxes)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) if image.areas is None else image.areas  # (G,)
    crowd = [False] * count if image.crowd is None else image.crowd.tolist()
    columns = (boxes, image.true_labels.tolist(), areas.tolist(), image.difficult.tolist(), crowd)
    return [
        {
            "image_id": number,
            "category_id": label,
            "bbox": _corner_and_size(box),
            "area": BEYOND_ALL_SIZES if difficult else area,
            "iscrowd": int(many),
        }
        for box, label, area, difficult, many in zip(*columns, strict=True)
    ]


def _detections(images: Sequence[ImageResult]) -> list[Entry]:
    return [
        {"image_id": number, "category_id": label, "bbox": _corner_and_size(box), "score": score}
        for number, image in enumerate(images, 1)
        for box, score, label in zip(image.boxes, image.scores.tolist(), image.labels.tolist(), strict=True)
    ]


def _corner_and_size(box: Floats) -> list[float]:
    x1, y1, x2, y2 = box.tolist()
    return [x1, y1, x2 - x1, y2 - y1]
