"""Pixel agreement of class masks, read off one confusion matrix summed over the data set. Letters: K classes.

Rows are the truth, columns the prediction. Pixels whose truth is VOID are nowhere in the matrix.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_cv.contracts import VOID

Absent = Literal["skip", "zero"]
"""What a class in neither truth nor prediction adds to a mean: nothing at all, or an IoU of 0."""


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


def mean_iou(matrix: Tensor, absent: Absent = "skip") -> Tensor:
    """Mean of `iou_per_class`, 0 to 1.

    A class in neither truth nor prediction is left out, and an empty matrix gives NaN; with `absent="zero"` it counts
    as 0, so that the sum is divided by all K as in the VOC devkit (`VOCevalseg.m`).
    """
    iou = iou_per_class(matrix)
    return iou.nanmean() if absent == "skip" else iou.nan_to_num(0.0).mean()


def frequency_weighted_iou(matrix: Tensor) -> Tensor:
    """Mean of `iou_per_class` weighted by the true pixels of each class, 0 to 1; NaN for an empty matrix.

    Long et al. 2015, "Fully convolutional networks", section 5.
    """
    pixels = matrix.double().sum(1)
    return (pixels * iou_per_class(matrix).nan_to_num(0.0)).sum() / pixels.sum()


def accuracy_per_class(matrix: Tensor) -> Tensor:
    """Share of each class's true pixels that have it, float64 (K,); NaN for a class that is not in the truth."""
    matrix = matrix.double()
    return matrix.diagonal() / matrix.sum(1)


def mean_class_accuracy(matrix: Tensor) -> Tensor:
    """Mean of `accuracy_per_class` over the classes of the truth, 0 to 1; NaN for an empty matrix.

    Long et al. 2015, section 5, "mean accuracy", there divided by all classes.
    """
    return accuracy_per_class(matrix).nanmean()


def absent_classes(matrix: Tensor, class_names: Sequence[str]) -> list[str]:
    """Names of the classes without a true pixel: their IoU is 0 or NaN, whatever the net does.

    >>> absent_classes(torch.tensor([[3, 1], [0, 0]]), ["cat", "dog"])
    ['dog']
    """
    if len(class_names) != len(matrix):
        raise ValueError(f"{len(class_names)} class names for a matrix of {len(matrix)} classes")
    return [name for name, pixels in zip(class_names, matrix.sum(1).tolist(), strict=True) if pixels == 0]


def pixel_accuracy(matrix: Tensor) -> Tensor:
    """Share of counted pixels whose class is right, 0 to 1; NaN for an empty matrix."""
    matrix = matrix.double()
    return matrix.diagonal().sum() / matrix.sum()


class SegmentationIoU(Metric):
    """Confusion matrix of a data set, summed over batches and processes; `compute` gives the mean IoU.

    A pixel counts as often as it is passed in: evaluation samplers must not repeat images.

    Args:
        num_classes: K.
        absent: what a class in neither truth nor prediction adds to the mean; "zero" is the VOC devkit's way.
    """

    matrix: Tensor
    full_state_update = False
    higher_is_better = True

    def __init__(
        self,
        num_classes: int,
        absent: Absent = "skip",
        **kwargs: Any,  # torchmetrics' own settings
    ) -> None:
        super().__init__(compute_with_cache=False, **kwargs)  # a cached result would leave other processes waiting
        if num_classes < 1:
            raise ValueError(f"SegmentationIoU: num_classes must be at least 1, got {num_classes}")
        if absent not in ("skip", "zero"):
            raise ValueError(f"SegmentationIoU: absent must be 'skip' or 'zero', got {absent!r}")
        self.num_classes, self.absent = num_classes, absent
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, targets: Tensor) -> None:
        """Count the pixels of class masks (N, H, W)."""
        self.matrix += confusion_matrix(preds, targets, self.num_classes)

    def compute(self) -> Tensor:
        """Mean IoU, over the classes that occur unless `absent` says otherwise."""
        return mean_iou(self.matrix, self.absent)
