"""Feature pyramid: every map gets what the coarser ones know."""

from typing import cast

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from lightning_cv.contracts import Backbone


class FPN(nn.Module):
    """A backbone's maps merged top-down, each of `channels` channels, then coarser ones; itself a backbone.

    Lin et al. 2017, section 3 (torchvision's layers). The extra levels are stride-2 3x3 convolutions on the coarsest
    map, as in Lin et al. 2017b (RetinaNet), section 4. Differs from the paper: every map ends in a ReLU, without which
    a head of one convolution and the pyramid's own would be a single linear layer.

    Args:
        backbone: gives the maps that are merged.
        channels: of every map.
        extra_levels: coarser maps by convolution.
        pooled_levels: coarser maps after those, each every second cell of the one before, as in Lin et al. 2017,
            section 4.1, for region proposals.
        relu: False leaves out the ReLUs, as in the paper and in torchvision's detectors.
    """

    def __init__(
        self, backbone: Backbone, channels: int = 128, extra_levels: int = 0, pooled_levels: int = 0, relu: bool = True
    ) -> None:
        super().__init__()
        self.backbone = cast(nn.Module, backbone)
        self.merge = FeaturePyramidNetwork(list(backbone.out_channels), channels)
        self.extra = nn.ModuleList(nn.Conv2d(channels, channels, 3, 2, 1) for _ in range(extra_levels))
        self.pooled_levels, self.relu = pooled_levels, relu
        coarsest, further = backbone.strides[-1], extra_levels + pooled_levels
        self.strides = [*backbone.strides, *(coarsest * 2**i for i in range(1, further + 1))]
        self.out_channels = [channels] * len(self.strides)

    def forward(self, images: Tensor, /) -> list[Tensor]:
        """Maps (N, channels, ceil(H / strides[i]), ceil(W / strides[i])) of images (N, 3, H, W)."""
        named = {str(i): x for i, x in enumerate(self.backbone(images))}
        maps = [self._ended(x) for x in self.merge(named).values()]
        for conv in self.extra:
            maps.append(self._ended(conv(maps[-1])))
        for _ in range(self.pooled_levels):
            maps.append(maps[-1][..., ::2, ::2])
        return maps

    def _ended(self, x: Tensor) -> Tensor:
        return x.relu() if self.relu else x
