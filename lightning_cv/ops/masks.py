"""Instance masks: in the pixels of a file, and as the small squares that a net predicts.

Letters: N masks; H, W of the prepared image; h, w of its file; P boxes, D detections; M side of a predicted square.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import roi_align

from lightning_cv.contracts import Placement
from lightning_cv.ops.segments import shown_at


def masks_in_file_pixels(masks: Tensor, placement: Placement, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Each mask (h, w) of those (N, H, W) of a prepared image, column by column in memory, as COCO's coding reads it.

    A pixel of the file has the value of the prepared image's pixel in which its centre lies. One mask after the other,
    for they may be large.

    >>> masks = torch.tensor([[[True, False]]])
    >>> [mask.tolist() for mask in masks_in_file_pixels(masks, Placement(0.5, 0.5), (2, 4))]
    [[[1, 1, 0, 0], [1, 1, 0, 0]]]
    """
    rows, columns = (axis.numpy() for axis in shown_at((masks.shape[-2], masks.shape[-1]), placement, size))
    for mask in masks.cpu().numpy():
        shown = np.zeros(size[::-1], np.uint8)  # (w, h)
        height, width = _extent(mask.any(axis=1), rows), _extent(mask.any(axis=0), columns)
        shown[width, height] = mask[rows[height, None], columns[width]].T
        yield shown.T


def _extent(occupied: NDArray[np.bool_], shown: NDArray[np.int64]) -> slice:
    """Where, along an axis of the file, the first to the last occupied pixel of the prepared image are shown.

    `shown` rises. Most of a mask is empty and need not be looked up.
    """
    places = np.flatnonzero(occupied)
    if not len(places):
        return slice(0, 0)
    return slice(int(np.searchsorted(shown, places[0])), int(np.searchsorted(shown, places[-1], side="right")))


def check_masks(masks: Tensor, count: int, shape: Sequence[int], what: str) -> None:
    """An error that begins with `what`, unless masks are bool (count, H, W) with the image's `shape` (H, W)."""
    wanted = (count, *shape)
    if masks.dtype != torch.bool or masks.shape != wanted:
        raise ValueError(
            f"{what} must be bool and of the image's size, {wanted}, got {masks.dtype} and {tuple(masks.shape)}"
        )


def mask_targets(masks: Tensor, owners: Tensor, boxes: Tensor, size: int, aligned: bool = True) -> Tensor:
    """What a net should say of its boxes, (P, M, M): the share of each cell that the box's object covers, 0 to 1.

    He et al. 2017, section 3: the part of the mask within the box. Differs from the paper, whose targets are 0 or 1: a
    cell at the object's border is as much as is covered, the mean of its pixels by RoIAlign, as in torchvision.

    Args:
        masks: bool (N, H, W).
        owners: int64 (P,), which mask belongs to each box.
        boxes: (P, 4) in pixels of the masks.
        size: M.
        aligned: a pixel lies around its middle; False puts it at its corner, as torchvision does, which moves the
            target by half a pixel.

    >>> masks = torch.tensor([[[True, False], [True, False]]])
    >>> mask_targets(masks, torch.tensor([0]), torch.tensor([[0.0, 0.0, 2.0, 2.0]]), 1)
    tensor([[[0.5000]]])
    """
    if len(boxes) == 0:
        return boxes.new_zeros(0, size, size)
    regions = torch.cat([owners[:, None].to(boxes), boxes], dim=1)  # (P, 5)
    shares: Tensor = roi_align(masks[:, None].to(boxes), regions, size, 1.0, aligned=aligned)
    return shares[:, 0]


def paste_masks(squares: Tensor, boxes: Tensor, height: int, width: int, threshold: float = 0.5) -> Tensor:
    """The masks bool (D, H, W) of an image, of probabilities (D, M, M) stretched over their boxes (D, 4).

    He et al. 2017, section 3, "Inference"; as in Detectron2: a pixel takes the value at its middle, bilinear between
    the middles of the square's cells and falling to 0 beyond them, and no box is rounded.

    Args:
        squares: of each detection, of its own class.
        boxes: in pixels of the image.
        height, width: of the image.
        threshold: probability from which a pixel belongs to the object.
    """
    shown = torch.zeros(len(boxes), height, width, dtype=torch.bool, device=boxes.device)
    for mask, square, box in zip(shown, squares.float(), boxes.tolist(), strict=True):
        first_y, rows = _hats(box[1], box[3], height, square)  # (h, M)
        first_x, columns = _hats(box[0], box[2], width, square)  # (w, M)
        values = rows @ square @ columns.T  # (h, w)
        mask[first_y : first_y + len(rows), first_x : first_x + len(columns)] = values >= threshold
    return shown


def _hats(low: float, high: float, extent: int, square: Tensor) -> tuple[int, Tensor]:
    """Along one axis: the first pixel that a box reaches, and each reached pixel's weight on each cell, (h, M)."""
    side = square.shape[-1]
    cell = max(high - low, 1e-6) / side
    first, last = max(math.floor(low - cell), 0), min(math.ceil(high + cell), extent)
    places = (torch.arange(first, max(last, first), device=square.device) + 0.5 - low) / cell - 0.5  # (h,), in cells
    return first, (1 - (places[:, None] - torch.arange(side, device=square.device)).abs()).clamp(min=0)


def paste_masks_in_whole_pixels(
    squares: Tensor, boxes: Tensor, height: int, width: int, threshold: float = 0.5
) -> Tensor:
    """As `paste_masks`, in torchvision's way, for its weights: every edge is cut to a pixel, up to one off.

    Around the square lies a border of one cell of zeros; the box, enlarged as much, takes all pixels from its first to
    its last edge, both counted.
    """
    shown = torch.zeros(len(boxes), height, width, dtype=torch.bool, device=boxes.device)
    side = squares.shape[-1]
    squares = F.pad(squares.float(), (1, 1, 1, 1))  # (D, M + 2, M + 2)
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * ((side + 2) / side)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    edges = torch.cat([middle - half, middle + half], dim=1).long().tolist()
    for mask, square, (x1, y1, x2, y2) in zip(shown, squares, edges, strict=True):
        pixels = (max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
        grown = F.interpolate(square[None, None], pixels, mode="bilinear", align_corners=False)[0, 0] >= threshold
        first_y, first_x, last_y, last_x = max(y1, 0), max(x1, 0), min(y2 + 1, height), min(x2 + 1, width)
        mask[first_y:last_y, first_x:last_x] = grown[first_y - y1 : last_y - y1, first_x - x1 : last_x - x1]
    return shown
