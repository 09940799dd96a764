"""Detections from several looks at an image. Letters: N images; H, W sides in pixels; D detections.

A look is a function from images (N, 3, h, w) to their detections, boxes in pixels of what it is given.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms

from lightning_cv.contracts import Detections
from lightning_cv.ops.boxes import mirror_boxes

Look = Callable[[Tensor], list[Detections]]


class BoxInference(ABC):
    """How a trained detector looks at images; training knows nothing of it."""

    @abstractmethod
    def __call__(self, look: Look, images: Tensor) -> list[Detections]:
        """Detections, one entry an image of (N, 3, H, W), boxes in pixels of it."""


class SeveralLooks(BoxInference):
    """What is found at several sizes of the image, each also mirrored: multi-scale and flip test-time augmentation.

    Args:
        scales: sizes relative to the image. A size other than 1 is rounded to whole steps of `multiple` pixels.
        flip: look at the mirrored image too.
        iou_threshold: from which overlap boxes of a class are taken to be of one object.
        top: detections kept of an image.
        multiple: what the net needs sides to be a multiple of.
    """

    def __init__(
        self,
        scales: Sequence[float] = (0.75, 1.0, 1.25),
        flip: bool = True,
        iou_threshold: float = 0.45,
        top: int = 200,
        multiple: int = 32,
    ) -> None:
        name = type(self).__name__
        if not scales or not all(scale > 0 for scale in scales):
            raise ValueError(f"{name}: scales must be numbers above 0, got {list(scales)}")
        if not 0 <= iou_threshold <= 1 or top < 1 or multiple < 1:
            raise ValueError(
                f"{name}: iou_threshold must be from 0 to 1, top and multiple at least 1, got {iou_threshold}, {top} "
                f"and {multiple}"
            )
        self.scales, self.flip = tuple(scales), flip
        self.iou_threshold, self.top, self.multiple = iou_threshold, top, multiple

    @abstractmethod
    def together(self, boxes: Tensor, scores: Tensor, labels: Tensor, looks: int) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels, best score first, of those that all looks at an image have found."""

    def __call__(self, look: Look, images: Tensor) -> list[Detections]:
        """Detections, one entry an image of (N, 3, H, W), best score first, boxes in pixels of it."""
        heaps: list[list[Detections]] = [[] for _ in images]
        for scale in self.scales:
            scaled = self._resized(images, scale)
            ratio = [images.shape[side] / scaled.shape[side] for side in (-1, -2)]
            for mirrored in (False, True) if self.flip else (False,):
                found = look(scaled.flip(-1) if mirrored else scaled)
                for heap, one in zip(heaps, found, strict=True):
                    boxes = mirror_boxes(one["boxes"], scaled.shape[-1]) if mirrored else one["boxes"]
                    heap.append({**one, "boxes": boxes * boxes.new_tensor(ratio * 2)})
        return [self._of(heap) for heap in heaps]

    def _resized(self, images: Tensor, scale: float) -> Tensor:
        if scale == 1:
            return images
        sides = [max(1, round(side * scale / self.multiple)) * self.multiple for side in images.shape[-2:]]
        return F.interpolate(images, sides, mode="bilinear", antialias=scale < 1)

    def _of(self, heap: list[Detections]) -> Detections:
        if any("masks" in one for one in heap):
            raise ValueError(
                f"{type(self).__name__} is for boxes: the net's detections have masks, which it cannot bring together"
            )
        boxes, scores, labels = (torch.cat([one[key] for one in heap]) for key in ("boxes", "scores", "labels"))
        boxes, scores, labels = self.together(boxes, scores, labels, len(heap))
        return {"boxes": boxes[: self.top], "scores": scores[: self.top], "labels": labels[: self.top]}


class Pooled(SeveralLooks):
    """One heap of all looks, thinned class by class: a box that overlaps a better one by more than the threshold goes.

    Scores stay as they are. CornerNet does the same to its pairs before soft-NMS, see its `flip_test`.
    """

    def together(self, boxes: Tensor, scores: Tensor, labels: Tensor, looks: int) -> tuple[Tensor, Tensor, Tensor]:
        """See `SeveralLooks`."""
        keep = batched_nms(boxes, scores, labels, self.iou_threshold)  # (D,), best first
        return boxes[keep], scores[keep], labels[keep]


class Fused(SeveralLooks):
    """Weighted boxes fusion: boxes of one object become their mean; what few looks have found loses score.

    Solovyev et al. 2021, section 2.1: a box joins the cluster of its class whose mean box it overlaps most, if by more
    than the threshold, or begins one. The mean is weighted by the scores; a cluster's score is the mean of its scores,
    times the share of the looks that its number of boxes is of, at most 1.
    """

    def __init__(
        self,
        scales: Sequence[float] = (0.75, 1.0, 1.25),
        flip: bool = True,
        iou_threshold: float = 0.55,
        top: int = 200,
        multiple: int = 32,
    ) -> None:
        super().__init__(scales, flip, iou_threshold, top, multiple)

    def together(self, boxes: Tensor, scores: Tensor, labels: Tensor, looks: int) -> tuple[Tensor, Tensor, Tensor]:
        """See `SeveralLooks`; the clusters are found on the CPU, one box after the other."""
        order = scores.argsort(descending=True, stable=True)
        boxes, scores, labels = boxes[order], scores[order], labels[order]
        found = [
            (*self._clusters(boxes[labels == label], scores[labels == label], looks), label)
            for label in torch.unique(labels)
        ]
        fused = torch.cat([boxes[:0], *(means for means, _, _ in found)])
        sure = torch.cat([scores[:0], *(mean for _, mean, _ in found)])
        names = torch.cat([labels[:0], *(label.expand(len(means)) for means, _, label in found)])
        order = sure.argsort(descending=True, stable=True)
        return fused[order], sure[order], names[order]

    def _clusters(self, boxes: Tensor, scores: Tensor, looks: int) -> tuple[Tensor, Tensor]:
        """Mean boxes (C, 4) and scores (C,) of the clusters of one class's boxes (D, 4), best score first."""
        corners = boxes.double().cpu().numpy()
        weights = scores.double().clamp(min=1e-12).cpu().numpy()  # boxes of score 0 have a mean, too
        sums, means = np.zeros_like(corners), np.zeros_like(corners)  # (D, 4)
        total, counts = np.zeros(len(corners)), np.zeros(len(corners))
        clusters = 0
        for box, weight in zip(corners, weights, strict=True):
            overlaps = _overlaps(box, means[:clusters])  # (C,)
            own = int(overlaps.argmax()) if overlaps.max(initial=0.0) > self.iou_threshold else clusters
            clusters = max(clusters, own + 1)
            sums[own] += box * weight
            total[own] += weight
            counts[own] += 1
            means[own] = sums[own] / total[own]
        seen = counts[:clusters]
        sure = total[:clusters] / seen * np.minimum(seen, looks) / looks
        return boxes.new_tensor(means[:clusters]), scores.new_tensor(sure)


def _overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Overlap over union of a box (4,) and others (C, 4); `iou` is slow for one box at a time."""
    shared = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])  # (C, 2)
    common = shared.clip(min=0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + areas - common
    ratio: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return ratio
