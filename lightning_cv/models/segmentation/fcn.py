"""Fully convolutional segmentation. Letters: N images, K classes with background, f the factor of an upsampling."""

import itertools
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.contracts import Backbone
from lightning_cv.ops.upsample import bilinear_kernel, resize_bilinear


class BilinearUpsample(nn.Module):
    """Maps f times as large by a transposed convolution that begins as bilinear interpolation, (N, C, f*H, f*W).

    Long, Shelhamer and Darrell 2015, section 3.3. Differs from the paper: one filter a channel, where the paper's
    release has a filter for every pair and leaves all but the diagonal at zero; the border is repeated first, so that
    the untrained layer equals bilinear interpolation up to the edge.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.deconv = nn.ConvTranspose2d(
            channels, channels, 2 * factor, factor, factor // 2 + factor, groups=channels, bias=False
        )
        self.deconv.weight.data.copy_(bilinear_kernel(factor).expand_as(self.deconv.weight))

    def forward(self, x: Tensor) -> Tensor:
        """Upsampled maps."""
        return cast(Tensor, self.deconv(F.pad(x, (1, 1, 1, 1), mode="replicate")))


class FCN(nn.Module):
    """Class logits at the image's own size: 1x1 scores of several maps, summed from coarse to fine, upsampled.

    Long, Shelhamer and Darrell 2015, section 4.2 (FCN-32s, -16s, -8s are `stride` 32, 16, 8 on VGG-16); with a
    backbone that goes on to finer maps, stride 4 or 2 work likewise. Differs from the paper: "same" padding throughout
    instead of 100 pixels around the image and crops by fixed offsets; the fully connected layers are the backbone's
    business; all skips are learned at once. As in the paper the upsampling to the image is fixed, those between maps
    start bilinear and train.

    Args:
        backbone: gives the maps; it normalises its input itself.
        num_classes: K, background counted; 1 for background and object by one logit.
        stride: of the finest map that is scored, one of the backbone's; its coarser maps are all used.
        dropout: chance of a channel of the coarsest map to be left out in training.
    """

    def __init__(self, backbone: Backbone, num_classes: int, stride: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"FCN: num_classes must be at least 1, got {num_classes}")
        if stride not in backbone.strides:
            raise ValueError(f"FCN: stride {stride} is none of the backbone's {list(backbone.strides)}")
        self.num_classes = num_classes
        self.backbone = cast(nn.Module, backbone)
        self.first = list(backbone.strides).index(stride)
        strides = list(backbone.strides)[self.first :]
        self.dropout = nn.Dropout2d(dropout)
        self.scores = nn.ModuleList(_score(width, num_classes) for width in backbone.out_channels[self.first :])
        self.stride = stride
        # upsampling i brings the sum at map i + 1 to map i
        self.upsamplings = nn.ModuleList(
            BilinearUpsample(num_classes, coarse // fine) for fine, coarse in itertools.pairwise(strides)
        )

    def forward(self, images: Tensor, /) -> Tensor:
        """Logits (N, K, H, W) of images (N, 3, H, W) of any size."""
        maps = self.backbone(images)[self.first :]
        maps[-1] = self.dropout(maps[-1])
        scores = [score(x) for score, x in zip(self.scores, maps, strict=True)]
        total = scores[-1]
        for finer, upsample in zip(scores[-2::-1], reversed(self.upsamplings), strict=True):
            total = finer + upsample(total)[..., : finer.shape[-2], : finer.shape[-1]]
        total = total.contiguous()  # a class at a time from here on: softmax is quicker so
        height, width = (side * self.stride for side in total.shape[-2:])
        return resize_bilinear(total, (height, width))[..., : images.shape[-2], : images.shape[-1]]


def _score(channels: int, num_classes: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, 0.0)  # type: ignore[arg-type]  # bias=True gives a tensor
    return conv
