"""Panoptic segmentation: what a net proposes becomes a division of the image, and what it learns from.

Letters: Q masks that a net proposes; N segments; G things of an image; K classes; H, W of the net's image in pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes

from lightning_cv.contracts import VOID, Detections, DetectionTarget, FoundSegments, PanopticParts, PanopticTarget
from lightning_cv.ops.segments import placement_of

COCO_PIXELS = 640 * 480
"""Of a common picture of COCO, for which areas are published."""


class PanopticMerge(ABC):
    """Shares the pixels of an image out among overlapping masks. Its thresholds may change after training."""

    tunable: ClassVar[dict[str, tuple[float, ...]]]
    """Values of each threshold that are worth a try, in the order of the constructor's arguments."""

    @abstractmethod
    def __call__(self, parts: PanopticParts, /) -> FoundSegments:
        """Segments, each with a pixel, in the order in which they took theirs."""


class HeuristicMerge(PanopticMerge):
    """Things first, best score first, then stuff where nothing is yet; what is left is void.

    Kirillov et al. 2019, "Panoptic segmentation", section 6.2, with the constants of panopticapi and Detectron2. The
    least area of stuff is there 64 x 64 pixels of any picture; here it is that share of the picture, which is the same
    for 640 x 480 pixels. A padded border counts as picture.

    Args:
        score: a thing's least score.
        overlap: a thing of which more than this share is taken already goes.
        stuff_share: least part of the picture for a stuff class to be there.
    """

    tunable: ClassVar[dict[str, tuple[float, ...]]] = {
        "score": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        "overlap": (0.3, 0.5, 0.7),
        "stuff_share": (1 / 600, 1 / 150, 1 / 75, 1 / 40),
    }

    def __init__(self, score: float = 0.5, overlap: float = 0.5, stuff_share: float = 64 * 64 / COCO_PIXELS) -> None:
        _check(self, score=score, overlap=overlap, stuff_share=stuff_share)
        self.score, self.overlap, self.stuff_share = score, overlap, stuff_share

    def __call__(self, parts: PanopticParts, /) -> FoundSegments:
        """Segments, things before stuff."""
        free = torch.ones(parts.masks.shape[1:], dtype=torch.bool, device=parts.masks.device)  # (H, W)
        least = self.stuff_share * free.numel()
        taken: list[tuple[int, Tensor]] = []
        things = [q for q in _best_first(parts) if parts.is_thing[q] and parts.scores[q] >= self.score]
        for q in things:
            _take(parts.masks[q], free, self.overlap, q, taken)
        for q in (~parts.is_thing).nonzero()[:, 0].tolist():
            shown = parts.masks[q] & free
            if int(shown.sum()) >= max(least, 1):
                free &= ~shown
                taken.append((q, shown))
        return _segments(parts, taken)


class MaskWiseMerge(PanopticMerge):
    """All masks by their scores, things and stuff together: each takes what is free of it, unless much is taken.

    Li et al. 2022, "Panoptic SegFormer", algorithm 1, with the limits of their released code, which forgives things
    more overlap than stuff. Scores hold the quality of the masks already.

    Args:
        score: least score of a mask.
        thing_overlap, stuff_overlap: a mask of which more than this share is taken already goes.
    """

    tunable: ClassVar[dict[str, tuple[float, ...]]] = {
        "score": (0.1, 0.15, 0.2, 0.25, 0.3, 0.4),
        "thing_overlap": (0.2, 0.4, 0.6),
        "stuff_overlap": (0.2, 0.4, 0.6, 0.8),
    }

    def __init__(self, score: float = 0.25, thing_overlap: float = 0.4, stuff_overlap: float = 0.2) -> None:
        _check(self, score=score, thing_overlap=thing_overlap, stuff_overlap=stuff_overlap)
        self.score, self.thing_overlap, self.stuff_overlap = score, thing_overlap, stuff_overlap

    def __call__(self, parts: PanopticParts, /) -> FoundSegments:
        """Segments, best score first."""
        free = torch.ones(parts.masks.shape[1:], dtype=torch.bool, device=parts.masks.device)  # (H, W)
        taken: list[tuple[int, Tensor]] = []
        for q in _best_first(parts):
            if parts.scores[q] >= self.score:
                limit = self.thing_overlap if parts.is_thing[q] else self.stuff_overlap
                _take(parts.masks[q], free, limit, q, taken)
        return _segments(parts, taken)


def _check(merge: PanopticMerge, **thresholds: float) -> None:
    for name, value in thresholds.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{type(merge).__name__}: {name} must be from 0 to 1, got {value}")


def _best_first(parts: PanopticParts) -> list[int]:
    """Positions of the masks by falling score; equal scores stay in their order."""
    order: list[int] = parts.scores.argsort(descending=True, stable=True).tolist()
    return order


def _take(mask: Tensor, free: Tensor, overlap: float, number: int, taken: list[tuple[int, Tensor]]) -> None:
    """Give a mask what is free of it, unless more than a share of it is taken already."""
    shown = mask & free
    area, left = int(mask.sum()), int(shown.sum())
    if left > 0 and area - left <= overlap * area:
        free &= ~shown
        taken.append((number, shown))


def _segments(parts: PanopticParts, taken: list[tuple[int, Tensor]]) -> FoundSegments:
    segments = torch.zeros(parts.masks.shape[1:], dtype=torch.int64, device=parts.masks.device)
    for number, (_, shown) in enumerate(taken, start=1):
        segments[shown] = number
    kept = torch.tensor([q for q, _ in taken], dtype=torch.int64, device=parts.masks.device)
    return {"segments": segments, "labels": parts.labels[kept], "scores": parts.scores[kept]}


def instances_of(parts: PanopticParts) -> Detections:
    """The things as detections with masks, best first; a detection's label is the class plus 1."""
    things = parts.is_thing.nonzero()[:, 0]
    order = things[parts.scores[things].argsort(descending=True, stable=True)]
    return {
        "boxes": parts.boxes[order],
        "scores": parts.scores[order],
        "labels": parts.labels[order] + 1,
        "masks": parts.masks[order],
    }


def things_of(target: PanopticTarget, is_thing: Tensor) -> DetectionTarget:
    """The things of an image as objects with boxes and masks, labelled 1 to the number of thing classes.

    A crowd is a region of many objects and is none of them. Boxes hold the visible pixels.

    Args:
        target: of one image.
        is_thing: bool (K,).
    """
    chosen = is_thing[target["labels"]] & ~target["crowd"]  # (N,)
    numbers = chosen.nonzero()[:, 0] + 1
    masks = target["segments"] == numbers[:, None, None]  # (G, H, W)
    seen = masks.flatten(1).any(dim=1)
    masks, labels = masks[seen], target["labels"][chosen][seen]
    boxes = mask_boxes(masks)
    return {
        "image_id": target["image_id"],
        "boxes": boxes,
        "labels": is_thing.cumsum(0)[labels],
        "difficult": torch.zeros_like(labels, dtype=torch.bool),
        "original_size": target["original_size"],
        "masks": masks,
    }


def objects_of_segments(target: PanopticTarget, shape: Sequence[int]) -> DetectionTarget:
    """The true things of an image as objects for metrics, crowds among them; a label is the class plus 1.

    Masks and areas are in the pixels of the file where the target has these, and the boxes are those around them.

    Args:
        target: of one image.
        shape: height and width of the net's image.
    """
    truth = target.get("file", target)
    chosen = truth["is_thing"]  # (N,)
    masks = truth["segments"] == (chosen.nonzero()[:, 0] + 1)[:, None, None]  # (G, H, W)
    areas = masks.flatten(1).sum(dim=1)
    seen = areas > 0
    masks, boxes = masks[seen], mask_boxes(masks[seen])
    found: DetectionTarget = {
        "image_id": target["image_id"],
        "boxes": boxes,
        "labels": truth["labels"][chosen][seen] + 1,
        "difficult": torch.zeros(len(boxes), dtype=torch.bool),
        "crowd": truth["crowd"][chosen][seen],
        "original_size": target["original_size"],
    }
    if "placement" in target:
        found["placement"] = target["placement"]
    if "file" not in target:
        return found | {"masks": masks}
    x_scale, y_scale, left, top = placement_of(target, shape)
    found["boxes"] = boxes * boxes.new_tensor([x_scale, y_scale] * 2) + boxes.new_tensor([left, top] * 2)
    found["areas"] = areas[seen].double()
    return found | {"file_masks": masks}


def mask_boxes(masks: Tensor) -> Tensor:
    """The boxes float32 (G, 4) around masks bool (G, H, W), each with a pixel.

    >>> mask_boxes(torch.tensor([[[False, True, True], [False, True, False]]])).tolist()
    [[1.0, 0.0, 3.0, 2.0]]
    """
    if len(masks) == 0:
        return torch.zeros(0, 4, device=masks.device)
    boxes: Tensor = masks_to_boxes(masks).float()
    boxes[:, 2:] += 1  # torchvision's far edge is the last pixel
    return boxes


def stuff_mask(target: PanopticTarget, is_thing: Tensor) -> Tensor:
    """Class mask int64 (H, W) of the stuff: 0 for all things together, then 1 for the first stuff class, VOID.

    Kirillov et al. 2019, "Panoptic feature pyramid networks", section 3.1: "things" are one class more.

    Args:
        target: of one image.
        is_thing: bool (K,).
    """
    of_class = torch.where(is_thing, 0, (~is_thing).cumsum(0))  # (K,)
    table = torch.cat([of_class.new_full((1,), VOID), of_class[target["labels"]]])  # (N + 1,)
    return table[target["segments"]]
