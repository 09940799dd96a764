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
        yield np.asfortranarray(mask[rows[:, None], columns], np.uint8)


def check_masks(masks: Tensor, count: int, shape: Sequence[int], what: str) -> None:
    """An error that begins with `what`, unless masks are bool (count, H, W) with the image's `shape` (H, W)."""
    wanted = (count, *shape)
    if masks.dtype != torch.bool or masks.shape != wanted:
        raise ValueError(
            f"{what} must be bool and of the image's size, {wanted}, got {masks.dtype} and {tuple(masks.shape)}"
        )
