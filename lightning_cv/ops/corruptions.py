"""What a denoising or inpainting autoencoder is shown instead of the image that it has to give back.

All randomness comes from one seed an image (`ops.noise`), so that evaluation spoils an image in the same way every time
and a resumed run goes on as if it had never stopped. Letters: N images; C channels; H, W.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_cv.ops.noise import normal_noise, uniform_noise


class Corrupted(NamedTuple):
    """Spoilt images, and which pixels they do not show."""

    images: Tensor  # (N, C, H, W), 0 to 1
    hidden: Tensor | None  # bool (N, 1, H, W); None where no pixel is hidden as a whole


class Corruption(ABC):
    """A way of spoiling images; `hides` says whether it takes pixels away, as for inpainting."""

    hides = False

    @abstractmethod
    def __call__(self, images: Tensor, seeds: Tensor) -> Corrupted:
        """Spoilt copies of images (N, C, H, W), each by its own seed, int64 (N,)."""


class GaussianNoise(Corruption):
    """Adds N(0, sigma^2) to every pixel and channel and cuts off at 0 and 1.

    Vincent et al. 2010, "Stacked denoising autoencoders", section 3.3. Differs: cut off, so that it stays an image.
    """

    def __init__(self, sigma: float = 0.5) -> None:
        if not 0 < sigma < math.inf:
            raise ValueError(f"corruption.sigma must be positive, got {sigma}")
        self.sigma = sigma

    def __call__(self, images: Tensor, seeds: Tensor) -> Corrupted:
        """Noisy copies."""
        noise = normal_noise(seeds, images[0].numel() if len(images) else 0).view_as(images)
        return Corrupted(torch.addcmul(images, noise, images.new_tensor(self.sigma)).clamp_(0, 1), None)


class SaltAndPepper(Corruption):
    """Turns a share of the pixels black or white, all channels together, each with probability one half.

    Vincent et al. 2010, section 3.3.
    """

    def __init__(self, share: float = 0.25) -> None:
        self.share = _share("share", share)

    def __call__(self, images: Tensor, seeds: Tensor) -> Corrupted:
        """Copies with black and white pixels."""
        noise = _one_a_pixel(images, seeds)  # (N, 1, H, W)
        white = (noise < self.share / 2).to(images)
        return Corrupted(torch.where(noise < self.share, white, images), None)


class BoxMask(Corruption):
    """Hides one rectangle an image; each side is a share of the image's, drawn evenly from a range.

    Pathak et al. 2016, "Context encoders", the central region; differs: anywhere in the image.

    Args:
        smallest, largest: share of a side, at least one pixel.
        fill: value of hidden pixels.
    """

    hides = True

    def __init__(self, smallest: float = 0.3, largest: float = 0.5, fill: float = 0.5) -> None:
        self.smallest, self.largest = _share("smallest", smallest), _share("largest", largest)
        if smallest > largest:
            raise ValueError(f"corruption.smallest must not exceed largest, got {smallest} and {largest}")
        self.fill = _fill(fill)

    def __call__(self, images: Tensor, seeds: Tensor) -> Corrupted:
        """Copies with a filled rectangle."""
        height, width = images.shape[-2:]
        places = uniform_noise(seeds, 4)  # (N, 4): how tall, how wide, how far down, how far right
        rows = self._covered(height, places[:, 0], places[:, 2])
        columns = self._covered(width, places[:, 1], places[:, 3])
        return _filled(images, (rows[:, :, None] & columns[:, None])[:, None], self.fill)

    def _covered(self, side: int, length: Tensor, place: Tensor) -> Tensor:
        """Which of an image's rows or columns the rectangle covers, bool (N, side)."""
        pixels = ((self.smallest + length * (self.largest - self.smallest)) * side).round().clamp(1, side)
        first = (place * (side - pixels + 1)).floor()
        index = torch.arange(side, device=length.device)
        return (index >= first[:, None]) & (index < (first + pixels)[:, None])


class RandomMask(Corruption):
    """Hides each pixel, all channels together, with probability `share`; hidden ones have the value `fill`."""

    hides = True

    def __init__(self, share: float = 0.5, fill: float = 0.5) -> None:
        self.share, self.fill = _share("share", share), _fill(fill)

    def __call__(self, images: Tensor, seeds: Tensor) -> Corrupted:
        """Copies with filled pixels."""
        return _filled(images, _one_a_pixel(images, seeds) < self.share, self.fill)


def spoil(corruption: Corruption | None, images: Tensor, seeds: Tensor) -> Corrupted:
    """What the corruption makes of images (N, C, H, W); without one, the images themselves."""
    return Corrupted(images, None) if corruption is None else corruption(images, seeds)


def _filled(images: Tensor, hidden: Tensor, fill: float) -> Corrupted:
    return Corrupted(images.masked_fill(hidden, fill), hidden)


def _one_a_pixel(images: Tensor, seeds: Tensor) -> Tensor:
    """Uniform noise (N, 1, H, W)."""
    height, width = images.shape[-2:]
    return uniform_noise(seeds, height * width).view(len(images), 1, height, width)


def _share(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"corruption.{name} must be between 0 and 1, got {value}")
    return value


def _fill(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"corruption.fill must be within 0 and 1, got {value}")
    return value
