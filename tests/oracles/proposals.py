"""Average recall by pycocotools without classes, for proposals in plain lists."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def coco_recall(images, limits):
    """(thresholds, limits) recall of `ImageResult`s; difficult objects are crowds of no size that nothing touches."""
    truth, found = COCO(), []
    objects = [(n, box) for n, image in enumerate(images) for box in image.true_boxes[~image.difficult].tolist()]
    truth.dataset = {
        "images": [{"id": n, "height": 100, "width": 100} for n in range(len(images))],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [
            {"id": k + 1, "image_id": n, "category_id": 1, "bbox": sized(box), "area": 1.0, "iscrowd": 0}
            for k, (n, box) in enumerate(objects)
        ],
    }
    for n, image in enumerate(images):
        for box, score in zip(image.boxes.tolist(), image.scores.tolist(), strict=True):
            found.append({"image_id": n, "category_id": 1, "bbox": sized(box), "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = list(limits)
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["recall"])[:, 0, 0, :]


def sized(box):
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def greedy_recall(boxes, true_boxes, threshold, iou_of):
    """Share of objects that boxes, best first, find in turn."""
    free = list(true_boxes)
    for box in boxes:
        best = max(free, key=lambda other: iou_of(box, other), default=None)
        if best is not None and iou_of(box, best) >= threshold:
            free.remove(best)
    return 1 - len(free) / len(true_boxes)
