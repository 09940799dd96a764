"""One encoder and decoder whose way of upsampling is an argument, and its relative that never shrinks.

Letters: N images, K classes with background.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.models.backbones.normalise import Normalise
from lightning_cv.models.segmentation.upsamplers import Upsampler

_MEAN, _STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class EncoderDecoder(nn.Module):
    """Convolutions and max pools down, convolutions and an upsampler at each step back up, no skips.

    The lecture's comparison of upsamplings, on the pattern of Noh et al. 2015 and SegNet (Badrinarayanan et al. 2017):
    nets of different upsamplers share everything else, first weights included.

    Args:
        num_classes: K, background counted.
        upsample: makes the upsampler of a step from its number of channels.
        width: channels at the image's own size; each step down has twice as many, at most `max_channels`.
        depth: how often the size is halved.
        convolutions: 3x3 convolutions with batch normalisation at each size, down and up.
        max_channels: no map has more.
        mean, std: of each channel, 0 to 1.
    """

    def __init__(
        self,
        num_classes: int,
        upsample: Callable[[int], Upsampler],
        width: int = 16,
        depth: int = 4,
        convolutions: int = 2,
        max_channels: int = 128,
        mean: Sequence[float] = _MEAN,
        std: Sequence[float] = _STD,
    ) -> None:
        super().__init__()
        if num_classes < 1 or depth < 1 or width < 1 or convolutions < 1:
            raise ValueError(
                "EncoderDecoder: num_classes, depth, width and convolutions are at least 1, got "
                f"{num_classes}, {depth}, {width} and {convolutions}"
            )
        self.num_classes = num_classes
        self.normalise = Normalise(mean, std)
        channels = [min(width * 2**level, max_channels) for level in range(depth + 1)]
        starts = [3, *channels[:-1]]
        self.down = nn.ModuleList(_block(a, b, convolutions) for a, b in zip(starts, channels, strict=True))
        self.up = nn.ModuleList(_block(b, a, convolutions) for a, b in pairwise(channels))
        self.last = _block(width, width, 1)
        self.score = nn.Conv2d(width, num_classes, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]  # bias=True gives a tensor
        # last, so that what is drawn above is the same for all of them
        self.upsamplers = nn.ModuleList(upsample(count) for count in channels[:-1])

    def forward(self, images: Tensor, /) -> Tensor:
        """Logits (N, K, H, W) of images (N, 3, H, W) of any size."""
        x, pools = self.down[0](self.normalise(images)), []
        for block in self.down[1:]:
            size = (x.shape[-2], x.shape[-1])
            x, places = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            pools.append((places, size))
            x = block(x)
        for block, upsampler, (places, size) in reversed(list(zip(self.up, self.upsamplers, pools, strict=True))):
            x = upsampler(block(x), places, size)  # with as many channels as the pool had
        logits: Tensor = self.score(self.last(x))
        return logits


class DilatedNet(nn.Module):
    """The same number of convolutions at the image's own size: what pools would widen, dilation does.

    Yu and Koltun 2016, "Multi-scale context aggregation by dilated convolutions", section 3: dilation 1, 2, 4 ... and
    back. Every convolution costs as at full size; the memory of its maps is the price.

    Args:
        num_classes, width, convolutions, mean, std: as for `EncoderDecoder`; all maps have `width` channels.
        depth: dilations up to 2 ** depth.
    """

    def __init__(
        self,
        num_classes: int,
        width: int = 16,
        depth: int = 4,
        convolutions: int = 1,
        mean: Sequence[float] = _MEAN,
        std: Sequence[float] = _STD,
    ) -> None:
        super().__init__()
        if num_classes < 1 or depth < 0 or width < 1 or convolutions < 1:
            raise ValueError(
                "DilatedNet: num_classes, width and convolutions are at least 1 and depth at least 0, got "
                f"{num_classes}, {width}, {convolutions} and {depth}"
            )
        self.num_classes = num_classes
        self.normalise = Normalise(mean, std)
        dilations = [2**level for level in (*range(depth + 1), *range(depth - 1, -1, -1))]
        self.layers = nn.Sequential(
            *(_block(3 if i == 0 else width, width, convolutions, rate) for i, rate in enumerate(dilations))
        )
        self.score = nn.Conv2d(width, num_classes, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]  # bias=True gives a tensor

    def forward(self, images: Tensor, /) -> Tensor:
        """Logits (N, K, H, W) of images (N, 3, H, W) of any size."""
        logits: Tensor = self.score(self.layers(self.normalise(images)))
        return logits


def _block(channels: int, out_channels: int, convolutions: int, dilation: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(convolutions):
        conv = nn.Conv2d(
            channels if i == 0 else out_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers += [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
