"""Which class detections take for which. Letters: D detections, G objects of an image; K classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.metrics.detection import DetectionRecords
from lightning_cv.metrics.matching import NOBODY, take_in_turn
from lightning_cv.metrics.voc import Floats, ImageResult, pairwise_iou


def detection_confusion(
    images: Sequence[ImageResult], num_classes: int, *, iou: float = 0.5, score: float = 0.5
) -> NDArray[np.int64]:
    """Numbers of objects, (K + 1, K + 1), truth by prediction, background last: row K invented, column K missed.

    Detections of at least `score`, best first, each take the object of ANY class that they overlap most among those
    still free, if by `iou`. A difficult object or a crowd need not be found, and a detection that takes none of the
    others is not counted if it overlaps a difficult one by `iou`, or so much of it lies in a crowd, as by VOC's and
    COCO's rules.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    for image in images:
        order = np.argsort(-image.scores, kind="stable")
        order = order[image.scores[order] >= score]
        boxes, labels, true_labels = image.boxes[order], image.labels[order] - 1, image.true_labels - 1
        regular = np.flatnonzero(~image.excused)
        taken = take_in_turn(pairwise_iou(boxes, image.true_boxes[regular]), iou)  # (D,)
        hit = taken != NOBODY
        np.add.at(matrix, (true_labels[regular[taken[hit]]], labels[hit]), 1)
        np.add.at(matrix[num_classes], labels[~hit & ~_excused(image, boxes, iou)], 1)
        np.add.at(matrix[:, num_classes], true_labels[np.delete(regular, taken[hit])], 1)
    return matrix


def _excused(image: ImageResult, boxes: Floats, iou: float) -> NDArray[np.bool_]:
    """Which of the boxes (D, 4) lie on what need not be found, (D,)."""
    crowd = np.zeros(len(image.true_boxes), np.bool_) if image.crowd is None else image.crowd
    on_difficult = pairwise_iou(boxes, image.true_boxes[image.difficult & ~crowd]) >= iou
    crowds = image.true_boxes[crowd]
    sides = np.minimum(boxes[:, None, 2:], crowds[:, 2:]) - np.maximum(boxes[:, None, :2], crowds[:, :2])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    inside = sides.clip(min=0).prod(-1) >= iou * areas[:, None]  # (D, crowds)
    excused: NDArray[np.bool_] = on_difficult.any(1) | inside.any(1)
    return excused


class DetectionConfusion(DetectionRecords):
    """Confusion of a data set's detections, rules above; an image passed in twice counts once.

    Args:
        num_classes: classes, labelled 1 to K.
        iou: the overlap by which a detection takes an object.
        score: what a detection needs to be looked at.
    """

    higher_is_better = None

    def __init__(
        self,
        num_classes: int,
        iou: float = 0.5,
        score: float = 0.5,
        **kwargs: Any,  # torchmetrics' own settings
    ) -> None:
        super().__init__(num_classes, **kwargs)
        if not 0 < iou <= 1:
            raise ValueError(f"DetectionConfusion: iou must be above 0 and at most 1, got {iou}")
        self.iou, self.score = iou, score

    def compute(self) -> Tensor:
        """Numbers int64 (K + 1, K + 1), truth by prediction, background last."""
        return torch.from_numpy(self.evaluate_once(self.confusion))

    def confusion(self, images: Sequence[ImageResult]) -> NDArray[np.int64]:
        """Numbers (K + 1, K + 1) of given images under this metric's settings."""
        return detection_confusion(images, self.num_classes, iou=self.iou, score=self.score)
