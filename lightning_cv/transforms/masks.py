"""Instance masks through whatever moves a picture along its axes. Letters: N masks; H, W before; h, w after.

Cropping, padding, stretching and mirroring all say the same: which row and which column of the old picture each row
and column of the new one shows.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.bool_]
OUTSIDE = -1


class Lookup(NamedTuple):
    """Old rows (h,) and columns (w,) that the new picture shows, or OUTSIDE."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def mirrored(self) -> "Lookup":
        """The same, left to right."""
        return Lookup(self.rows, self.columns[::-1])


def stretched(old: int, new: int) -> NDArray[np.int64]:
    """Along one axis: the old pixel in which the centre of each new one lies, (new,).

    >>> stretched(2, 4).tolist(), stretched(4, 2).tolist()
    ([0, 0, 1, 1], [1, 3])
    """
    return np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)


def placed(first: int, last: int, start: int, end: int, size: int) -> NDArray[np.int64]:
    """Along one axis: old pixels first..last stretched over the new ones start..end of `size`, OUTSIDE elsewhere.

    >>> placed(0, 2, 1, 3, 4).tolist()
    [-1, 0, 1, -1]
    """
    lookup = np.full(size, OUTSIDE, np.int64)
    lookup[start:end] = first + stretched(last - first, end - start)
    return lookup


def windowed(start: int, side: int, old: int, size: int) -> NDArray[np.int64]:
    """Along one axis: the picture's `old` pixels in a window of `side` from `start` on that is stretched to `size`.

    >>> windowed(-1, 3, 2, 3).tolist()
    [-1, 0, 1]
    """
    pixels = start + stretched(side, size)
    return np.where((pixels >= 0) & (pixels < old), pixels, OUTSIDE)


def look_up(masks: Masks, lookup: Lookup) -> Masks:
    """The masks (N, h, w) as the new picture shows them."""
    seen = masks[:, lookup.rows[:, None], lookup.columns]
    seen &= (lookup.rows != OUTSIDE)[:, None] & (lookup.columns != OUTSIDE)
    return np.asarray(seen, np.bool_)


def box_masks(boxes: NDArray[np.float32], height: int, width: int) -> Masks:
    """Pixels that each box covers, if only in part, (N, H, W) of boxes (N, 4).

    >>> box_masks(np.array([[0.4, 0.0, 1.6, 0.4]], np.float32), 1, 3).tolist()
    [[[True, True, False]]]
    """
    ys, xs = np.arange(height), np.arange(width)
    rows = (ys + 1 > boxes[:, 1:2]) & (ys < boxes[:, 3:4])  # (N, H)
    columns = (xs + 1 > boxes[:, 0:1]) & (xs < boxes[:, 2:3])  # (N, W)
    return np.asarray(rows[:, :, None] & columns[:, None, :], np.bool_)
