"""How close images are to what they should be, image by image. Letters: N images; C channels; H, W.

Images hold values from 0 to 1. The figures of a data set are means over its images, so they do not depend on batches.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_cv.metrics.records import ImageRecords
from lightning_cv.metrics.voc import Floats

WINDOW, DEVIATION = 11, 1.5
"""Pixels a side of SSIM's Gaussian window, and its standard deviation."""

C1, C2 = 0.01**2, 0.03**2
"""What keeps SSIM's quotients finite, for values from 0 to 1."""


class ImageFigures(NamedTuple):
    """Of one image, or the means over a data set."""

    psnr: float  # dB; infinite for equal images
    ssim: float  # -1 to 1
    hidden_psnr: float  # dB over the hidden pixels alone; NaN without any


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


class ImageQuality(ImageRecords[ImageFigures]):
    """Mean PSNR, SSIM and PSNR of hidden pixels over a data set; an image passed in twice counts once."""

    def update(self, images: Tensor, targets: Tensor, image_ids: Sequence[str], hidden: Tensor | None = None) -> None:
        """Keep a batch (N, C, H, W) and, for inpainting, which pixels (N, 1, H, W) were hidden."""
        if len(images) != len(image_ids):
            raise ValueError(f"{len(images)} images, but {len(image_ids)} image ids")
        columns = [psnr(images, targets), ssim(images, targets)]
        columns.append(
            torch.full_like(columns[0], torch.nan) if hidden is None else masked_psnr(images, targets, hidden)
        )
        rows = torch.stack(columns, dim=1).tolist()  # (N, 3)
        self.records.update({image_id: ImageFigures(*row) for image_id, row in zip(image_ids, rows, strict=True)})

    def compute(self) -> ImageFigures:
        """Means over all images; NaN without any, and for hidden pixels over the images that have some."""
        return self.evaluate_once(mean_figures)


def mean_figures(images: Sequence[ImageFigures]) -> ImageFigures:
    """Means over images; an image without hidden pixels has no share in that figure."""
    columns = np.array(images, dtype=np.float64).reshape(-1, len(ImageFigures._fields)).T
    return ImageFigures(*(_mean(column[~np.isnan(column)]) for column in columns))


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")


def _check(images: Tensor, targets: Tensor) -> None:
    if images.shape != targets.shape or images.ndim != 4:
        raise ValueError(
            f"need images twice in one shape (N, C, H, W), got {tuple(images.shape)}, {tuple(targets.shape)}"
        )
