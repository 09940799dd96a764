"""Overlap of masks where a pixel may have several labels, or one that is on or off. Letters: N images; L labels.

Counts are summed over the data set before they are divided. Elements whose truth is VOID are nowhere in them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import VOID
from lightning_cv.metrics.records import ImageRecords


def counts_per_image(scores: Tensor, targets: Tensor, threshold: float = 0.5) -> Tensor:
    """Hits, false alarms and misses of each image's labels, int64 (N, L, 3); a score above the threshold means "on".

    Args:
        scores: (N, L, ...) probabilities, or logits with a threshold of 0.
        targets: (N, L, ...) of 0, 1 and VOID, bool or whole numbers.
        threshold: on the scale of the scores.

    Raises:
        ValueError: for shapes that differ, other targets, or a score that is not a number.

    >>> counts_per_image(torch.tensor([[[0.9, 0.2, 0.9]]]), torch.tensor([[[1, 1, 255]]])).tolist()
    [[[1, 0, 1]]]
    """
    if scores.shape != targets.shape or scores.ndim < 2:
        raise ValueError(f"need two of shape (N, L, ...), got {tuple(scores.shape)} and {tuple(targets.shape)}")
    if scores.isnan().any():
        raise ValueError("a score is not a number")
    true, counted = targets == 1, targets != VOID
    strange = counted & ~true & (targets != 0)
    if strange.any():
        raise ValueError(f"targets must be 0, 1 or {VOID}, got {sorted(set(targets[strange].tolist()))[:10]}")
    found = scores > threshold
    parts = [found & true, found & ~true & counted, ~found & true]  # (N, L, ...) each
    return torch.stack([part.flatten(2).sum(2) for part in parts], dim=2)  # (N, L, 3)


def iou_per_label(counts: Tensor) -> Tensor:
    """Intersection over union of each label, float64 (L,), from counts (L, 3); NaN where it is never on."""
    hits, alarms, misses = counts.double().unbind(1)
    return hits / (hits + alarms + misses)


def dice_per_label(counts: Tensor) -> Tensor:
    """Dice coefficient, also F1, of each label, float64 (L,), from counts (L, 3); NaN where it is never on.

    Dice 1945: twice the intersection by the sum of both sizes. It is 2 IoU / (1 + IoU).
    """
    hits, alarms, misses = counts.double().unbind(1)
    return 2 * hits / (2 * hits + alarms + misses)


class LabelOverlap(NamedTuple):
    """Means over the labels that are on anywhere, float64, 0 to 1."""

    iou: Tensor  # ()
    dice: Tensor  # ()


class MultilabelOverlap(ImageRecords[NDArray[np.int64]]):
    """IoU and Dice of a data set's masks; one label is binary segmentation. An image passed in twice counts once.

    Args:
        num_labels: L.
        threshold: above which a score says that a label is on: 0.5 for probabilities, 0 for logits.
    """

    def __init__(
        self,
        num_labels: int = 1,
        threshold: float = 0.5,
        **kwargs: Any,  # torchmetrics' own settings
    ) -> None:
        super().__init__(**kwargs)
        if num_labels < 1:
            raise ValueError(f"MultilabelOverlap: num_labels must be at least 1, got {num_labels}")
        self.num_labels, self.threshold = num_labels, threshold

    def update(self, scores: Tensor, targets: Tensor, image_ids: Sequence[str]) -> None:
        """Count a batch (N, L, H, W)."""
        if scores.ndim < 2 or scores.shape[1] != self.num_labels:
            raise ValueError(f"expected {self.num_labels} labels, got scores of shape {tuple(scores.shape)}")
        counts = counts_per_image(scores, targets, self.threshold).cpu().numpy()  # (N, L, 3)
        self.records |= dict(zip(image_ids, counts, strict=True))

    def compute(self) -> LabelOverlap:
        """Means over labels; NaN if none is ever on."""
        counts = self.evaluate_once(self.counts)
        return LabelOverlap(iou_per_label(counts).nanmean(), dice_per_label(counts).nanmean())

    def counts(self, images: Sequence[NDArray[np.int64]]) -> Tensor:
        """Hits, false alarms and misses of each label in given images, int64 (L, 3)."""
        return torch.from_numpy(sum(images, np.zeros((self.num_labels, 3), np.int64)))
