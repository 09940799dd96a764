"""Ways to bring a map back to twice its size. Letters: N images, C channels, H, W cells of the coarse map.

All take the coarse map (N, C, H, W), the places of the pool's maxima (int64, as `max_pool2d` gives them) and the size
of the finer map, twice H and W or one less, and give (N, C, *size). Most have no use for the places.
"""

from abc import abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.ops.upsample import bed_of_nails, bilinear_kernel, resize_bilinear


class Upsampler(nn.Module):
    """What all have in common.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    @abstractmethod
    def forward(self, x: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
        """The finer map."""


class Nearest(Upsampler):
    """Every value four times."""

    def forward(self, x: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
        """The finer map."""
        return _cut(F.interpolate(x, scale_factor=2.0, mode="nearest"), size)


class BedOfNails(Upsampler):
    """Every value at the upper left of its four cells, zeros at the others."""

    def forward(self, x: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
        """The finer map."""
        return _cut(bed_of_nails(x), size)


class MaxUnpool(Upsampler):
    """Every value where the pool found its maximum, zeros elsewhere (Zeiler and Fergus 2014, section 2.1)."""

    def forward(self, x: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
        """The finer map."""
        height, width = (int(side) for side in size)  # traced, sides are tensors
        return F.max_unpool2d(x, places, [2, 2], output_size=[height, width])


class Bilinear(Upsampler):
    """Bilinear interpolation; pixels are areas, so corners are not aligned."""

    def forward(self, x: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
        """The finer map."""
        return _cut(resize_bilinear(x, (2 * x.shape[-2], 2 * x.shape[-1])), size)


class TransposedConv(Upsampler):
    """A learned transposed convolution of stride 2 that begins as bilinear interpolation (Long et al. 2015, 3.3).

    Args:
        channels: C; every channel is made of all.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.deconv = nn.ConvTranspose2d(channels, channels, 4, 2, 1)
        nn.init.zeros_(self.deconv.weight)
        diagonal = range(channels)
        self.deconv.weight.data[diagonal, diagonal] = bilinear_kernel(2)
        nn.init.zeros_(self.deconv.bias)  # type: ignore[arg-type]  # bias=True gives a tensor

    def forward(self, x: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
        """The finer map."""
        return _cut(self.deconv(x), size)


class PixelShuffle(Upsampler):
    """A 1x1 convolution to four times the channels, dealt out over the four cells (Shi et al. 2016, section 3.2).

    Begins as nearest neighbours, which leaves out the checkerboard that random weights draw (Aitken et al. 2017).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.conv = nn.Conv2d(channels, 4 * channels, 1)
        nn.init.kaiming_normal_(self.conv.weight[::4].data, mode="fan_out", nonlinearity="linear")
        self.conv.weight.data = self.conv.weight.data[::4].repeat_interleave(4, dim=0)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # bias=True gives a tensor

    def forward(self, x: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
        """The finer map."""
        return _cut(F.pixel_shuffle(self.conv(x), 2), size)


def _cut(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x[..., : size[0], : size[1]]
