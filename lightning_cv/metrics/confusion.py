"""Which class detections take for which. Letters: D detections, G objects of an image; K classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.metrics.detection import DetectionRecords
from lightning_cv.metrics.matching import NOBODY, take_in_turn
from lightning_cv.metrics.voc import ImageResult, pairwise_iou


def detection_confusion(
    images: Sequence[ImageResult], num_classes: int, *, iou: float = 0.5, score: float = 0.5
) -> NDArray[np.int64]:
    """Numbers of objects, (K + 1, K + 1), truth by prediction, background last: row K invented, column K missed.

    Detections of at least `score`, best first, each take the object of ANY class that they overlap most among those
    still free, if by `iou`. A difficult object or a crowd need not be found, and whatever takes it is not counted.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    for image in images:
        order = np.argsort(-image.scores, kind="stable")
        order = order[image.scores[order] >= score]
        taken = take_in_turn(pairwise_iou(image.boxes[order], image.true_boxes), iou)  # (D,)
        labels, hit = image.labels[order] - 1, taken != NOBODY
        regular = hit.copy()
        regular[hit] = ~image.excused[taken[hit]]
        np.add.at(matrix, (image.true_labels[taken[regular]] - 1, labels[regular]), 1)
        np.add.at(matrix[num_classes], labels[~hit], 1)
        missed = ~image.excused
        missed[taken[hit]] = False
        np.add.at(matrix[:, num_classes], image.true_labels[missed] - 1, 1)
    return matrix


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
