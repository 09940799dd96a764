"""Pixel agreement of class masks, read off one confusion matrix summed over the data set. Letters: K classes.

Rows are the truth, columns the prediction. Pixels whose truth is VOID are nowhere in the matrix.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_cv.contracts import VOID


def confusion_matrix(preds: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Pixel counts int64 (K, K), truth by prediction, of class masks of equal shape; VOID in `targets` is left out.

    >>> confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 255]), num_classes=2).tolist()
    [[1, 1], [0, 0]]
    """
    if preds.shape != targets.shape:
        raise ValueError(f"class masks must have one shape, got {tuple(preds.shape)} and {tuple(targets.shape)}")
    counted = targets != VOID
    truth, guess = targets[counted].long(), preds[counted].long()
    for name, labels in (("target", truth), ("predicted", guess)):
        if labels.numel() and (labels.min() < 0 or labels.max() >= num_classes):
            wrong = sorted(set(labels[(labels < 0) | (labels >= num_classes)].tolist()))
            raise ValueError(
                f"{name} mask holds {wrong[:10]}, but there are {num_classes} classes, 0 to {num_classes - 1}"
            )
    return torch.bincount(truth * num_classes + guess, minlength=num_classes**2).reshape(num_classes, num_classes)


def iou_per_class(matrix: Tensor) -> Tensor:
    """Intersection over union of each class, float64 (K,); NaN for a class in neither truth nor prediction.

    Everingham et al. 2010, "The PASCAL VOC challenge", section 4.3: TP / (TP + FP + FN) over the whole data set.
    """
    matrix = matrix.double()
    hits = matrix.diagonal()
    return hits / (matrix.sum(0) + matrix.sum(1) - hits)


def mean_iou(matrix: Tensor) -> Tensor:
    """Mean of `iou_per_class` over the classes that occur, 0 to 1; NaN for an empty matrix.

    Differs from the VOC devkit, which divides by all K: a class absent from truth and prediction is left out.
    """
    return iou_per_class(matrix).nanmean()


def pixel_accuracy(matrix: Tensor) -> Tensor:
    """Share of counted pixels whose class is right, 0 to 1; NaN for an empty matrix."""
    matrix = matrix.double()
    return matrix.diagonal().sum() / matrix.sum()


class SegmentationIoU(Metric):
    """Confusion matrix of a data set, summed over batches and processes; `compute` gives the mean IoU.

    A pixel counts as often as it is passed in: evaluation samplers must not repeat images.
    """

    matrix: Tensor
    full_state_update = False
    higher_is_better = True

    def __init__(self, num_classes: int, **kwargs: Any) -> None:  # kwargs: torchmetrics' own settings
        super().__init__(**kwargs)
        if num_classes < 1:
            raise ValueError(f"SegmentationIoU: num_classes must be at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, targets: Tensor) -> None:
        """Count the pixels of class masks (N, H, W)."""
        self.matrix += confusion_matrix(preds, targets, self.num_classes)

    def compute(self) -> Tensor:
        """Mean IoU over the classes that occur."""
        return mean_iou(self.matrix)
