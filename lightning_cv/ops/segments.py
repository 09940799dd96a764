"""Divisions of an image into segments. Letters: N segments; H, W of the net's image; h, w of the file."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_cv.contracts import DetectionTarget, FoundSegments, PanopticTarget, Placement


def in_file_pixels(found: FoundSegments, placement: Placement, size: tuple[int, int]) -> FoundSegments:
    """The segments of a prepared image in the pixels of its file of `size` (h, w).

    A pixel of the file takes the segment of the prepared image's pixel in which its centre lies. Segments without a
    pixel left are dropped, the others numbered anew.
    """
    segments = found["segments"]
    rows, columns = shown_at((segments.shape[0], segments.shape[1]), placement, size)
    return drop_empty(found | {"segments": segments[rows.to(segments.device)[:, None], columns.to(segments.device)]})


def placement_of(target: DetectionTarget | PanopticTarget, shape: Sequence[int]) -> Placement:
    """Where a prepared image of `shape` (H, W) shows its file; the whole of it where the target does not say."""
    height, width = target["original_size"]
    return target.get("placement", Placement(shape[1] / width, shape[0] / height))


def shown_at(shape: tuple[int, int], placement: Placement, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Rows (h,) and columns (w,) of a prepared image of `shape` (H, W) in which the centres of the file's pixels lie.

    >>> shown_at((4, 4), Placement(1.0, 0.5, left=1.0), (4, 3))
    (tensor([0, 0, 1, 1]), tensor([1, 2, 3]))
    """
    rows = _positions(size[0], placement.y_scale, placement.top, shape[0])
    return rows, _positions(size[1], placement.x_scale, placement.left, shape[1])


def drop_empty(found: FoundSegments) -> FoundSegments:
    """The segments that have a pixel, numbered anew in their order."""
    number = len(found["labels"])
    seen = torch.bincount(found["segments"].flatten(), minlength=number + 1)[1:] > 0  # (N,)
    table = torch.cat([seen.new_zeros(1, dtype=torch.int64), torch.where(seen, seen.cumsum(0), 0)])
    kept: FoundSegments = {"segments": table[found["segments"]], "labels": found["labels"][seen]}
    if "scores" in found:
        kept["scores"] = found["scores"][seen]
    return kept


def painted(masks: Tensor, labels: Tensor, priority: Tensor) -> Tensor:
    """Class mask, int64 (H, W), of instance masks (N, H, W) of labels (N,); where they overlap, the highest priority.

    Pixels of no mask are 0, the background.

    >>> painted(torch.tensor([[[True, True, False]], [[False, True, False]]]), torch.tensor([3, 4]), torch.arange(2))
    tensor([[3, 4, 0]])
    """
    canvas = labels.new_zeros(masks.shape[1:])  # (H, W)
    for number in priority.argsort().tolist():
        canvas[masks[number]] = labels[number]
    return canvas


def _positions(length: int, scale: float, start: float, limit: int) -> Tensor:
    """Position in the prepared image of each pixel's centre along a side of the file, (length,)."""
    centres = torch.arange(length, dtype=torch.float64) + 0.5
    return (centres * scale + start).floor().long().clamp(0, limit - 1)
