"""Scores of every pixel from several looks at an image. Letters: N images; K classes or labels; H, W sides in pixels.

A look is a function from images (N, 3, h, w) to probabilities (N, K, h, w). All looks at a pixel count alike.
`ops.window_inference` and `ops.net_product` look otherwise.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

Look = Callable[[Tensor], Tensor]


class DenseInference(ABC):
    """How a trained net looks at images; training knows nothing of it."""

    of_logits: ClassVar[bool] = False
    """Whether a look gives logits and this does, too, instead of probabilities."""

    exclusive: ClassVar[bool] = False
    """Whether it is for classes of which a pixel has exactly one."""

    @abstractmethod
    def __call__(self, look: Look, images: Tensor, image_ids: Sequence[str] = ()) -> Tensor:
        """Probabilities (N, K, H, W) of images (N, 3, H, W), whose ids are known where a data set gave them."""


class Averaged(DenseInference):
    """Mean over several sizes of the image, each also mirrored: multi-scale and flip test-time augmentation.

    Probabilities are averaged, brought back to the image's size bilinearly: what was stretched a little by rounding is
    shrunk by as much.

    Args:
        scales: sizes relative to the image. A size other than 1 is rounded to whole steps of `multiple` pixels, at
            least one.
        flip: look at the mirrored image too.
        multiple: what the net needs sides to be a multiple of; 32 serves nets with strides up to it, 1 rounds to
            pixels, for nets that take any size.

    Raises:
        ValueError: no scale, a scale that is not above 0, or a multiple below 1.
    """

    def __init__(
        self,
        scales: Sequence[float] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
        flip: bool = True,
        multiple: int = 32,
    ) -> None:
        if not scales or not all(scale > 0 for scale in scales):
            raise ValueError(f"Averaged: scales must be numbers above 0, got {list(scales)}")
        if multiple < 1:
            raise ValueError(f"Averaged: multiple must be at least 1, got {multiple}")
        self.scales, self.flip, self.multiple = tuple(scales), flip, multiple

    def __call__(self, look: Look, images: Tensor, image_ids: Sequence[str] = ()) -> Tensor:
        """Probabilities (N, K, H, W) of images (N, 3, H, W); the ids are not used."""
        size = (images.shape[-2], images.shape[-1])
        total = torch.zeros((), device=images.device)
        for scale in self.scales:
            scaled = _resized(images, (self._side(size[0], scale), self._side(size[1], scale)))
            total = total + _resized(look(scaled), size)
            if self.flip:
                total = total + _resized(look(scaled.flip(-1)).flip(-1), size)
        return total / (len(self.scales) * (2 if self.flip else 1))

    def _side(self, side: int, scale: float) -> int:
        """A side of the image that is looked at; the image itself is taken as it comes."""
        return side if scale == 1 else max(1, round(side * scale / self.multiple)) * self.multiple


class Tiles(DenseInference):
    """Mean over square tiles that cover the image, for images larger than memory holds at once.

    Tiles begin every `step` pixels, the last ones end at the border. An image no larger than a tile is looked at whole.

    Args:
        size: side of a tile in pixels.
        step: from tile to tile, at most `size`.
        within: how each tile is looked at; None is once.
    """

    def __init__(self, size: int = 512, step: int = 384, within: DenseInference | None = None) -> None:
        if not 1 <= step <= size:
            raise ValueError(f"Tiles: step must be from 1 to size, got size {size} and step {step}")
        if within is not None and within.of_logits:
            raise ValueError(f"Tiles: within must look at probabilities, which {type(within).__name__} does not")
        self.size, self.step, self.within = size, step, within

    def __call__(self, look: Look, images: Tensor, image_ids: Sequence[str] = ()) -> Tensor:
        """Probabilities (N, K, H, W) of images (N, 3, H, W); the ids are not used."""
        height, width = images.shape[-2:]
        total, looks = torch.zeros((), device=images.device), images.new_zeros(height, width)
        for top in tile_starts(height, self.size, self.step):
            for left in tile_starts(width, self.size, self.step):
                place = (..., slice(top, top + self.size), slice(left, left + self.size))
                tile = images[place]
                found = self.within(look, tile) if self.within else look(tile)
                if total.ndim == 0:
                    total = found.new_zeros(*found.shape[:2], height, width)
                total[place] += found
                looks[place] += 1
        return total / looks


def tile_starts(side: int, size: int, step: int) -> list[int]:
    """Where tiles of a size begin along a side.

    >>> tile_starts(10, 4, 3), tile_starts(11, 4, 3), tile_starts(3, 4, 3)
    ([0, 3, 6], [0, 3, 6, 7], [0])
    """
    last = max(0, side - size)
    return [*range(0, last, step), last]


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
