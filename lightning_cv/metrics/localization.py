"""One object an image: is its class right, and does the box lie on it? Letters: N images."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_cv.metrics.records import ImageRecords


class Localized(NamedTuple):
    """One image."""

    class_right: bool
    iou: float  # of the box with the true one, whatever the class


class Localization(NamedTuple):
    """Figures of a data set, 0 to 1; NaN without an image."""

    accuracy: float  # share of images with class right and IoU at least the threshold
    class_accuracy: float
    mean_iou: float


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of each box with its partner, float64 (N,), of boxes (N, 4) twice; 0 for empty boxes.

    >>> paired_iou(torch.tensor([[0, 0, 2, 2]]), torch.tensor([[1, 0, 3, 2]]))
    tensor([0.3333], dtype=torch.float64)
    """
    boxes, others = boxes.double(), others.double()
    size = torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])
    overlap = size.clamp(min=0).prod(1)
    areas = [(part[:, 2:] - part[:, :2]).clamp(min=0).prod(1) for part in (boxes, others)]
    union = areas[0] + areas[1] - overlap
    return torch.where(union > 0, overlap / union, 0.0)


def localization(images: Sequence[Localized], threshold: float = 0.5) -> Localization:
    """Share of right images and mean IoU.

    Russakovsky et al. 2015, "ImageNet large scale visual recognition challenge", section 4.2, with one object and one
    guess an image; there it is the error, 1 minus this share.
    """
    if not images:
        return Localization(float("nan"), float("nan"), float("nan"))
    right = [image.class_right and image.iou >= threshold for image in images]
    return Localization(
        accuracy=sum(right) / len(images),
        class_accuracy=sum(image.class_right for image in images) / len(images),
        mean_iou=sum(image.iou for image in images) / len(images),
    )


class LocalizationAccuracy(ImageRecords[Localized]):
    """Figures of one guess an image; an image passed in twice counts once.

    Args:
        iou: the overlap that makes a box right.
    """

    def __init__(self, iou: float = 0.5, **kwargs: Any) -> None:  # kwargs: torchmetrics' own settings
        super().__init__(**kwargs)
        if not 0 < iou <= 1:
            raise ValueError(f"LocalizationAccuracy: iou must be above 0 and at most 1, got {iou}")
        self.iou = iou

    def update(
        self, boxes: Tensor, labels: Tensor, true_boxes: Tensor, true_labels: Tensor, image_ids: Sequence[str]
    ) -> None:
        """Keep a batch: boxes (N, 4) on one scale an image, labels (N,)."""
        number = len(image_ids)
        for name, values, shape in (
            ("boxes", boxes, (number, 4)),
            ("true boxes", true_boxes, (number, 4)),
            ("labels", labels, (number,)),
            ("true labels", true_labels, (number,)),
        ):
            if tuple(values.shape) != shape:
                raise ValueError(f"{name} of {number} images must have shape {shape}, got {tuple(values.shape)}")
        empty = ~(true_boxes[:, 2:] > true_boxes[:, :2]).all(1)
        for wrong, what in ((boxes.isnan().any(1), "box is not of numbers"), (empty, "true box is empty")):
            if wrong.any():
                raise ValueError(f"image {image_ids[int(wrong.int().argmax())]}: the {what}")
        right, overlaps = (labels == true_labels).tolist(), paired_iou(boxes, true_boxes).tolist()
        self.records.update(zip(image_ids, map(Localized, right, overlaps), strict=True))

    def compute(self) -> Localization:
        """Figures of all images."""
        return self.evaluate_once(self.figures)

    def figures(self, images: Sequence[Localized]) -> Localization:
        """Figures of given images under this metric's threshold."""
        return localization(images, self.iou)
