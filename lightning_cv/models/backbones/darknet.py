"""Darknet's layers and trunks: tiny darknet of YOLOv2, and the 24 convolutions of YOLO v1.

Letters: N images, C channels in, D channels out, H, W cells of a map.
"""

import math

from torch import Tensor, nn

from lightning_cv.models.backbones.darknet_file import load_trunk

SLOPE = 0.1
"""Of the leaky ReLU below 0."""


class DarknetConv(nn.Module):
    """Convolution, batch norm, leaky ReLU: (N, C, H, W) to (N, D, ceil(H / stride), ceil(W / stride)).

    Redmon's darknet, `convolutional_layer.c`: weights normal with variance 2 / (C size^2), running statistics that move
    by a hundredth a step.

    Args:
        in_channels, out_channels: C and D.
        size: side of the filters, odd.
        stride: of the convolution.
        momentum: share of a batch in the running statistics.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int, stride: int = 1, momentum: float = 0.01) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(out_channels, momentum=momentum)  # before the convolution, as in darknet's files
        self.conv = nn.Conv2d(in_channels, out_channels, size, stride, size // 2, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Activations (N, D, ceil(H / stride), ceil(W / stride))."""
        activated: Tensor = self.activation(self.norm(self.conv(x)))
        return activated


class TinyDarknetBackbone(nn.Module):
    """One map: the first 13 layers of tiny YOLOv2, 416 x 416 pixels to 1024 x 13 x 13.

    Redmon's darknet, `yolov2-tiny-voc.cfg`, layers 0 to 12: six 3x3 convolutions, each followed by a pool, the channels
    doubling, then a seventh. Five pools halve the map; the sixth takes the maximum of 2 x 2 cells at every cell, of
    fewer in the last row and column.

    Args:
        width: channels of the first convolution.
        halvings: how many of the six pools halve the map; the others keep its size, as the sixth does.
        max_channels: no map has more.
        norm_momentum: see `DarknetConv`.
        weights: to go on from: a checkpoint of any net with such a backbone, or a file of darknet's that begins with
            these layers (a detector's, or one of ImageNet cut off after 13 layers); None draws them at random.
    """

    def __init__(
        self,
        width: int = 16,
        halvings: int = 5,
        max_channels: int = 1024,
        norm_momentum: float = 0.01,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if width < 1 or not 1 <= halvings <= 6:
            raise ValueError(
                f"TinyDarknetBackbone: width is at least 1 and halvings 1 to 6, got {width} and {halvings}"
            )
        layers: list[nn.Module] = []
        channels = 3
        for pool in range(6):
            out_channels = min(width * 2**pool, max_channels)
            layers.append(DarknetConv(channels, out_channels, 3, momentum=norm_momentum))
            layers.append(nn.MaxPool2d(2, ceil_mode=True) if pool < halvings else _keeping_pool())
            channels = out_channels
        layers.append(DarknetConv(channels, min(width * 64, max_channels), 3, momentum=norm_momentum))
        self.layers = nn.Sequential(*layers)
        self.out_channels, self.strides = [min(width * 64, max_channels)], [2**halvings]
        if weights is not None:
            load_trunk(self, weights)

    def forward(self, images: Tensor, /) -> list[Tensor]:
        """The map (N, out_channels[0], ceil(H / strides[0]), ceil(W / strides[0])) of images (N, 3, H, W)."""
        return [self.layers(images)]


def _keeping_pool() -> nn.Sequential:
    """Maximum of each cell and its neighbours right and below, same size; outside the map there is nothing to win."""
    return nn.Sequential(nn.ConstantPad2d((0, 1, 0, 1), -math.inf), nn.MaxPool2d(2, 1))


STAGES = (
    ((7, 1),),
    ((3, 3),),
    ((1, 2), (3, 4), (1, 4), (3, 8)),
    (*((1, 4), (3, 8)) * 4, (1, 8), (3, 16)),
    (*((1, 8), (3, 16)) * 2, (3, 16)),
    ((3, 16), (3, 16), (3, 16)),
)
"""Convolutions of YOLO v1 as size of the filters and channels in those of the first; each stage begins by halving."""

_STRIDED = (0, 5)
"""The stages whose first convolution halves; before the others stands a pool."""


class ExtractionBackbone(nn.Module):
    """One map: the 24 convolutions of YOLO v1, 448 x 448 pixels to 1024 x 7 x 7.

    Redmon et al. 2016, "You only look once", figure 3; the first 20 are the "extraction" net that was trained on
    ImageNet. Differs from the paper, as the released `yolov1.cfg` does: batch norm after each convolution.

    Args:
        width: channels of the first convolution, 64 in the paper.
        halvings: how many of the six stages begin by halving the map; the later ones then keep its size.
        norm_momentum: see `DarknetConv`.
        weights: as for `TinyDarknetBackbone`. A file that ends after the first 20 convolutions is taken, too.
    """

    def __init__(
        self, width: int = 64, halvings: int = 6, norm_momentum: float = 0.01, weights: str | None = None
    ) -> None:
        super().__init__()
        if width < 1 or not 1 <= halvings <= 6:
            raise ValueError(f"ExtractionBackbone: width is at least 1 and halvings 1 to 6, got {width} and {halvings}")
        layers: list[nn.Module] = []
        channels = 3
        for number, stage in enumerate(STAGES):
            halves = number < halvings
            if halves and number not in _STRIDED:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            for place, (size, growth) in enumerate(stage):
                stride = 2 if halves and number in _STRIDED and place == 0 else 1
                layers.append(DarknetConv(channels, width * growth, size, stride, norm_momentum))
                channels = width * growth
        self.layers = nn.Sequential(*layers)
        self.out_channels, self.strides = [channels], [2**halvings]
        if weights is not None:
            load_trunk(self, weights, least=_PRETRAINED)

    def forward(self, images: Tensor, /) -> list[Tensor]:
        """The map (N, out_channels[0], ceil(H / strides[0]), ceil(W / strides[0])) of images (N, 3, H, W)."""
        return [self.layers(images)]


_PRETRAINED = 20
"""Convolutions of the net that was trained on ImageNet."""
