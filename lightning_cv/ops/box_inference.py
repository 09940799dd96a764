"""Detections from several looks at an image. Letters: N images; H, W sides in pixels; D detections.

A look is a function from images (N, 3, h, w) to their detections, boxes in pixels of what it is given.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
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


class Pooled(BoxInference):
    """What is found at several sizes of the image, each also mirrored, in one heap that is thinned class by class.

    Multi-scale and flip test-time augmentation. Scores stay as they are. CornerNet does the same to its pairs before
    soft-NMS, see its `flip_test`.

    Args:
        scales: sizes relative to the image. A size other than 1 is rounded to whole steps of `multiple` pixels.
        flip: look at the mirrored image too.
        iou_threshold: a box that overlaps a better one of its class by more goes.
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
        if not scales or not all(scale > 0 for scale in scales):
            raise ValueError(f"Pooled: scales must be numbers above 0, got {list(scales)}")
        if not 0 <= iou_threshold <= 1 or top < 1 or multiple < 1:
            raise ValueError(
                f"Pooled: iou_threshold must be from 0 to 1, top and multiple at least 1, got {iou_threshold}, {top} "
                f"and {multiple}"
            )
        self.scales, self.flip = tuple(scales), flip
        self.iou_threshold, self.top, self.multiple = iou_threshold, top, multiple

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
        return [self._thinned(heap) for heap in heaps]

    def _resized(self, images: Tensor, scale: float) -> Tensor:
        if scale == 1:
            return images
        sides = [max(1, round(side * scale / self.multiple)) * self.multiple for side in images.shape[-2:]]
        return F.interpolate(images, sides, mode="bilinear", antialias=scale < 1)

    def _thinned(self, heap: list[Detections]) -> Detections:
        if any("masks" in one for one in heap):
            raise ValueError("Pooled is for boxes: the net's detections have masks, which it cannot bring together")
        boxes, scores, labels = (torch.cat([one[key] for one in heap]) for key in ("boxes", "scores", "labels"))
        keep = batched_nms(boxes, scores, labels, self.iou_threshold)[: self.top]  # (D,), best first
        return {"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep]}
