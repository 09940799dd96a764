"""Instance masks in the pixels of a file. Letters: N masks; H, W of the prepared image; h, w of its file."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
