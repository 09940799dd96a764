"""Pixel agreement of class masks, read off one confusion matrix summed over the data set. Letters: K classes.

Rows are the truth, columns the prediction. Pixels whose truth is VOID are nowhere in the matrix.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import VOID
from lightning_cv.metrics.records import ImageRecords

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
    for name, mask in (("target", targets), ("predicted", preds)):
        low, high = torch.where(counted, mask, 0).aminmax() if mask.numel() else (0, 0)
        if low < 0 or high >= num_classes:
            wrong = sorted(set(mask[counted & ((mask < 0) | (mask >= num_classes))].tolist()))
            raise ValueError(
                f"{name} mask holds {wrong[:10]}, but there are {num_classes} classes, 0 to {num_classes - 1}"
            )
    left_out = num_classes**2  # a place behind the matrix
    places = torch.where(counted, targets.long() * num_classes + preds, left_out).flatten()
    return torch.bincount(places, minlength=left_out + 1)[:left_out].reshape(num_classes, num_classes)


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


def dice_per_class(matrix: Tensor) -> Tensor:
    """Dice coefficient, also F1, of each class, float64 (K,); NaN for a class in neither truth nor prediction.

    Dice 1945: twice the intersection by the sum of both sizes, over the whole data set.
    """
    matrix = matrix.double()
    return 2 * matrix.diagonal() / (matrix.sum(0) + matrix.sum(1))


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


class PixelCounts(NamedTuple):
    """Confusion matrix of one image, of which most entries are 0."""

    places: NDArray[np.int64]  # of the entries that are not 0, in the flattened matrix
    pixels: NDArray[np.int64]  # in these


class SegmentationIoU(ImageRecords[PixelCounts]):
    """Confusion matrix of a data set, an image passed in twice counted once; `compute` gives the mean IoU.

    Args:
        num_classes: K.
        absent: what a class in neither truth nor prediction adds to the mean; "zero" is the VOC devkit's way.
    """

    def __init__(
        self,
        num_classes: int,
        absent: Absent = "skip",
        **kwargs: Any,  # torchmetrics' own settings
    ) -> None:
        super().__init__(**kwargs)
        if num_classes < 1:
            raise ValueError(f"SegmentationIoU: num_classes must be at least 1, got {num_classes}")
        if absent not in ("skip", "zero"):
            raise ValueError(f"SegmentationIoU: absent must be 'skip' or 'zero', got {absent!r}")
        self.num_classes, self.absent = num_classes, absent

    def update(self, preds: Tensor, targets: Tensor, image_ids: Sequence[str]) -> None:
        """Count the pixels of class masks (N, H, W)."""
        if not len(preds) == len(targets) == len(image_ids):
            raise ValueError(f"{len(preds)} predictions, {len(targets)} truths and {len(image_ids)} image ids")
        for guess, truth, image_id in zip(preds, targets, image_ids, strict=True):
            matrix = confusion_matrix(guess, truth, self.num_classes).flatten().cpu().numpy()
            places = np.flatnonzero(matrix)
            self.records[image_id] = PixelCounts(places, matrix[places])

    def compute(self) -> Tensor:
        """Mean IoU, over the classes that occur unless `absent` says otherwise."""
        return mean_iou(self.evaluate_once(self.matrix), self.absent)

    def matrix(self, images: Sequence[PixelCounts]) -> Tensor:
        """Pixel counts int64 (K, K) of given images, truth by prediction."""
        total = np.zeros(self.num_classes**2, np.int64)
        for image in images:
            total[image.places] += image.pixels
        return torch.from_numpy(total).reshape(self.num_classes, self.num_classes)
