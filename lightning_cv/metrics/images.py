"""How close images are to what they should be, image by image. Letters: N images; C channels; H, W.

Images hold values from 0 to 1.
"""

import torch
from torch import Tensor

WINDOW, DEVIATION = 11, 1.5
"""Pixels a side of SSIM's Gaussian window, and its standard deviation."""

C1, C2 = 0.01**2, 0.03**2
"""What keeps SSIM's quotients finite, for values from 0 to 1."""


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image (N, C, H, W) in dB, float64 (N,); infinite for equal images."""
    _check(images, targets)
    return masked_psnr(images, targets, torch.ones_like(images[:, :1], dtype=torch.bool))


def masked_psnr(images: Tensor, targets: Tensor, hidden: Tensor) -> Tensor:
    """PSNR of each image in dB over the pixels that `hidden`, bool (N, 1, H, W), marks, float64 (N,); NaN for none.

    For inpainting, where the shown pixels would hide what the filled ones are worth.
    """
    _check(images, targets)
    if hidden.dtype != torch.bool or hidden.shape != images[:, :1].shape:
        raise ValueError(f"hidden must be bool {tuple(images[:, :1].shape)}, got {hidden.dtype} {tuple(hidden.shape)}")
    errors = (images.double() - targets.double()).square().mean(1, keepdim=True)  # (N, 1, H, W)
    errors = torch.where(hidden, errors, 0.0).flatten(1).sum(1) / hidden.flatten(1).sum(1)  # (N,)
    return -10 * errors.log10()


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity of each image, float64 (N,), -1 to 1, mean over channels; sides of at least 11 pixels.

    Wang et al. 2004, "Image quality assessment": Gaussian window of 11 x 11 pixels and standard deviation 1.5,
    K1 = 0.01, K2 = 0.03, mean over the places where the whole window lies in the image, as in scikit-image.
    Torchmetrics 1.9 also counts places at the edge, where it mirrors the image, and so gives other values.
    """
    _check(images, targets)
    if min(images.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs sides of at least {WINDOW} pixels, got images {tuple(images.shape)}")
    x, y = images.double(), targets.double()  # a variance is the difference of two nearly equal numbers
    mean_x, mean_y = _windowed(x), _windowed(y)  # (N, C, H - 10, W - 10)
    spread = _windowed(x * x) + _windowed(y * y) - mean_x**2 - mean_y**2
    shared = _windowed(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return (luminance * (2 * shared + C2) / (spread + C2)).mean((1, 2, 3))


def _windowed(images: Tensor) -> Tensor:
    """Gaussian means over each 11 x 11 window, (N, C, H - 10, W - 10)."""
    height, width = images.shape[-2:]
    return _window_sums(height).to(images).T @ images @ _window_sums(width).to(images)


def _window_sums(side: int) -> Tensor:
    """Matrix (side, side - 10) with a window's weights in each column; its product is faster than a convolution."""
    weights = torch.softmax(-(torch.arange(WINDOW).double() - WINDOW // 2).square() / (2 * DEVIATION**2), dim=0)
    place = torch.arange(side)[:, None] - torch.arange(side - WINDOW + 1)  # (side, side - 10): 0 to 10 in the window
    return torch.where((place >= 0) & (place < WINDOW), weights[place.clamp(0, WINDOW - 1)], 0.0)


def _check(images: Tensor, targets: Tensor) -> None:
    if images.shape != targets.shape or images.ndim != 4:
        raise ValueError(
            f"need images twice in one shape (N, C, H, W), got {tuple(images.shape)}, {tuple(targets.shape)}"
        )
