"""A light residual net for training from scratch on small pictures with a CPU."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.models.backbones.normalise import Normalise
from lightning_cv.models.backbones.transfer import load_part


def _conv_norm(in_channels: int, out_channels: int, stride: int, scale: float = 1.0) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    norm = nn.BatchNorm2d(out_channels)
    nn.init.constant_(norm.weight, scale)
    return nn.Sequential(conv, norm)


class _Residual(nn.Module):
    """x + f(x) with two 3x3 convolutions, after He et al. 2016; starts as the identity (last scale 0)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _conv_norm(channels, channels, 1), _conv_norm(channels, channels, 1, scale=0.0)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.second(F.relu(self.first(x), inplace=True))
        return F.relu(residual.add_(x), inplace=True)


class SmallBackbone(nn.Module):
    """Maps at `strides` (any of 4, 8, 16, 32), finest first, of RGB images.

    Our own: two stride-2 convolutions, then for each stride a stride-2 convolution (none at 4) and `blocks` residual
    blocks; `width` channels at stride 4, twice as many at each further stride, at most `max_channels`. Most of the
    work lies from stride 8 on, where a CPU is not held up by memory.

    Args:
        width: channels at stride 4, even.
        blocks: residual blocks at strides 4, 8, 16, 32.
        strides: of the maps that come out.
        max_channels: no map has more.
        mean, std: of each channel, 0 to 1.
        weights: a checkpoint of any net with such a backbone, to go on from; None draws them at random.
    """

    def __init__(
        self,
        width: int = 48,
        blocks: Sequence[int] = (0, 1, 1, 1),
        strides: Sequence[int] = (8, 16, 32),
        max_channels: int = 256,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.25, 0.25, 0.25),
        weights: str | None = None,
    ) -> None:
        super().__init__()
        all_strides = (4, 8, 16, 32)
        if not strides or list(strides) != sorted(set(strides) & set(all_strides)):
            raise ValueError(f"SmallBackbone: strides must rise and be among {all_strides}, got {list(strides)}")
        if width < 2 or width % 2 or len(blocks) != 4:
            raise ValueError(f"SmallBackbone: width must be even and blocks four numbers, got {width}, {list(blocks)}")
        channels = [min(width * 2**i, max_channels) for i in range(4)]
        self.strides = list(strides)
        self.out_channels = [channels[all_strides.index(stride)] for stride in strides]
        self.normalise = Normalise(mean, std)
        self.stem = nn.Sequential(
            _conv_norm(3, width // 2, 2), nn.ReLU(inplace=True), _conv_norm(width // 2, width, 2), nn.ReLU(inplace=True)
        )
        stages = []
        for i in range(all_strides.index(strides[-1]) + 1):
            down = [] if i == 0 else [_conv_norm(channels[i - 1], channels[i], 2), nn.ReLU(inplace=True)]
            stages.append(nn.Sequential(*down, *(_Residual(channels[i]) for _ in range(blocks[i]))))
        self.stages = nn.ModuleList(stages)
        if weights is not None:
            load_part(self, weights, "SmallBackbone")

    def forward(self, images: Tensor, /) -> list[Tensor]:
        """Maps (N, out_channels[i], ceil(H / strides[i]), ceil(W / strides[i])) of images (N, 3, H, W)."""
        x = self.stem(self.normalise(images))
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if 4 * 2**i in self.strides:
                maps.append(x)
        return maps
