"""Hourglasses one after the other. Letters: N images; H, W sides of the images in px; h, w of the maps, a quarter."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.models.backbones.normalise import Normalise


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm and, unless told otherwise, ReLU; an odd kernel keeps the size."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, relu: bool = True
    ) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out_channels), *([nn.ReLU(inplace=True)] if relu else []))


class Residual(nn.Module):
    """relu(f(x) + x), f two 3x3 convolutions; x through a 1x1 convolution where its size or channels change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvNorm(in_channels, out_channels, stride=stride), ConvNorm(out_channels, out_channels, relu=False)
        )
        same = stride == 1 and in_channels == out_channels
        self.skip = nn.Identity() if same else ConvNorm(in_channels, out_channels, 1, stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output for (N, C, H, W)."""
        return F.relu(self.convs(x) + self.skip(x), inplace=True)


class Hourglass(nn.Module):
    """Halves a map as often as `channels` has further entries, and adds the way up to the way along, same shape.

    Newell et al. 2016, "Stacked hourglass networks"; the form of Law and Deng 2018: stride 2 instead of pooling,
    nearest-neighbour enlargement.
    """

    def __init__(self, channels: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        (here, below), count = channels[:2], blocks[0]
        self.along = nn.Sequential(*(Residual(here, here) for _ in range(count)))
        self.down = nn.Sequential(Residual(here, below, 2), *(Residual(below, below) for _ in range(count - 1)))
        self.deeper = (
            Hourglass(channels[1:], blocks[1:])
            if len(channels) > 2
            else nn.Sequential(*(Residual(below, below) for _ in range(blocks[1])))
        )
        self.up = nn.Sequential(*(Residual(below, below) for _ in range(count - 1)), Residual(below, here))

    def forward(self, x: Tensor) -> Tensor:
        """The map (N, C, h, w) after one way down and up."""
        low = self.up(self.deeper(self.down(x)))
        along: Tensor = self.along(x)
        return along + F.interpolate(low, scale_factor=2.0, mode="nearest")


class StackedHourglass(nn.Module):
    """One map of stride 4 for each hourglass, the last the best; every hourglass sees what the one before made.

    Law and Deng 2018, "CornerNet", section 3.5 (Newell et al. 2016): with the defaults Hourglass-104. Differs from the
    released code: an image that the hourglass cannot halve often enough gets black at the right and at the bottom, not
    on all sides, and the maps are cut to the image again.

    Args:
        channels: at stride 4 and at each further halving.
        blocks: residual blocks on the way along at each, half of an hourglass's; as many as `channels`.
        stacks: hourglasses.
        stem: channels of the first convolution, 7x7 of stride 2.
        out_channels: of the maps.
        mean, std: of each channel, 0 to 1; those of the released weights.
    """

    stride = 4

    def __init__(
        self,
        channels: Sequence[int] = (256, 256, 384, 384, 384, 512),
        blocks: Sequence[int] = (2, 2, 2, 2, 2, 4),
        stacks: int = 2,
        stem: int = 128,
        out_channels: int = 256,
        mean: Sequence[float] = (0.47026, 0.44719, 0.40790),
        std: Sequence[float] = (0.27810, 0.27408, 0.28864),
    ) -> None:
        super().__init__()
        if len(channels) < 2 or len(channels) != len(blocks) or min(blocks) < 1 or stacks < 1:
            raise ValueError(
                "StackedHourglass: channels and blocks need one number a size, two sizes at least, and stacks at least "
                f"1, got {list(channels)}, {list(blocks)} and {stacks}"
            )
        first, between = channels[0], range(stacks - 1)
        self.out_channels = out_channels
        self.multiple = self.stride * 2 ** (len(channels) - 1)
        self.normalise = Normalise(mean, std)
        self.stem = nn.Sequential(ConvNorm(3, stem, 7, 2), Residual(stem, first, 2))
        self.hourglasses = nn.ModuleList(Hourglass(channels, blocks) for _ in range(stacks))
        self.outs = nn.ModuleList(ConvNorm(first, out_channels) for _ in range(stacks))
        self.passed = nn.ModuleList(ConvNorm(first, first, 1, relu=False) for _ in between)
        self.returned = nn.ModuleList(ConvNorm(out_channels, first, 1, relu=False) for _ in between)
        self.mixed = nn.ModuleList(Residual(first, first) for _ in between)

    def forward(self, images: Tensor, /) -> list[Tensor]:
        """Maps (N, out_channels, h, w), one a stack, of images (N, 3, H, W)."""
        height, width = images.shape[-2:]
        x = self.stem(self.normalise(F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))))
        maps = []
        for i, (hourglass, out) in enumerate(zip(self.hourglasses, self.outs, strict=True)):
            maps.append(out(hourglass(x)))
            if i < len(self.mixed):
                x = self.mixed[i](F.relu(self.passed[i](x) + self.returned[i](maps[i])))
        return [one[..., : -(-height // self.stride), : -(-width // self.stride)] for one in maps]
