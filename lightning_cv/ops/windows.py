"""Windows of an image, one around each pixel or around every few.

Letters: N images; C channels; H, W sides in pixels; w side of a window, odd; s step; h, v positions down and across;
P windows copied together.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def positions(side: int, step: int) -> int:
    """How many windows are centred along a side: on pixel 0, s, 2s and so on."""
    return -(-side // step)


def windows_around(images: Tensor, window: int, step: int = 1) -> Tensor:
    """Windows (N, h, v, C, w, w) centred on every `step`-th pixel of images (N, C, H, W), zeros beyond the border.

    A view of the padded images: it takes no memory until something makes a copy of it.
    """
    if window < 1 or window % 2 == 0 or step < 1:
        raise ValueError(f"windows_around: the window must be odd and the step at least 1, got {window} and {step}")
    padded = F.pad(images, (window // 2,) * 4)
    return padded.unfold(2, window, step).unfold(3, window, step).permute(0, 2, 3, 1, 4, 5)  # (N, h, v, C, w, w)


def windows_in_turn(images: Tensor, window: int, step: int = 1, at_once: int = 4096) -> Iterator[Tensor]:
    """The windows of `windows_around`, (P, C, w, w) at a time: image by image, row by row, at most `at_once` together.

    Only these are copied, so memory does not grow with the image. A gradient with respect to the images themselves does
    take the memory of all windows.

    Raises:
        ValueError: `window` is even or not positive, `step` or `at_once` below 1.
    """
    if at_once < 1:
        raise ValueError(f"windows_in_turn: at_once must be at least 1, got {at_once}")
    windows = windows_around(images, window, step)
    count, down, across = windows.shape[:3]
    for places in torch.split(torch.arange(count * down * across, device=images.device), at_once):
        rows = places // across
        yield windows[rows // down, rows % down, places % across]  # (P, C, w, w)


def number_of_boxes(height: int, width: int) -> int:
    """How many boxes of whole pixels an image holds: each pair of its lines by each pair of its columns.

    >>> number_of_boxes(600, 800)
    57768120000
    """
    return height * (height + 1) // 2 * (width * (width + 1) // 2)
