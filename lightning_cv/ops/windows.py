"""Windows of an image, one around each pixel or around every few.

Letters: N images; C channels; H, W sides in pixels; w side of a window, odd; s step; h, v positions down and across.
"""

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


def number_of_boxes(height: int, width: int) -> int:
    """How many boxes of whole pixels an image holds: each pair of its lines by each pair of its columns.

    >>> number_of_boxes(600, 800)
    57768120000
    """
    return height * (height + 1) // 2 * (width * (width + 1) // 2)
