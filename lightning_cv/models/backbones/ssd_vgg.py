"""What SSD stands on: VGG-16 with its last layers thinned out, and smaller maps after it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from lightning_cv.contracts import Backbone
from lightning_cv.models.backbones.normalise import Normalise
from lightning_cv.models.backbones.vgg import CAFFE_MEAN, CAFFE_STD, CONVOLUTIONS, GROWTH


class L2Norm(nn.Module):
    """Each cell's channels brought to length 1, then a learned scale a channel, same shape.

    Liu et al. 2015, "ParseNet", section 3.3; SSD starts the scale at 20.
    """

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised map (N, C, H, W); its length is taken in float32."""
        length = x.float().square().sum(dim=1, keepdim=True).add(1e-10).sqrt()  # (N, 1, H, W)
        return (x / length * self.scale[:, None, None]).to(x.dtype)


class ReducedVGG16Backbone(nn.Module):
    """Two maps of VGG-16: the scaled conv4_3 at stride 8 and fc7 at stride 16.

    Liu et al. 2016, section 3: pool5 is 3x3 with stride 1, fc6 a dilated 3x3 convolution and fc7 a 1x1 one, whose
    weights are a part of VGG's (Chen et al. 2015, "DeepLab"); no dropout. Pools round up, as in Caffe. Differs from the
    release: images are RGB from 0 to 1, whose means the net takes off itself.

    Args:
        width: channels of the first stage, 64 in the paper; the others grow with it.
        hidden: channels of fc6 and fc7, 1024 in the paper.
        weights: path of a state dict: torchvision's VGG-16 (`features.0.weight` ..., of whose `classifier`, if it is
            there, every fourth channel and every third cell is taken), or a thinned one whose names are the layers'
            numbers (`0.weight` ... `33.weight`). None draws them at random.
        blue_first: the weights want blue, green, red, as Caffe's do.
        batch_norm: after every convolution; not in the paper, but without pretrained weights SSD hardly learns without
            it (Zhu et al. 2019, "ScratchDet").
        mean, std: of red, green and blue, 0 to 1; the default is of Caffe's VGG-16.
    """

    def __init__(
        self,
        width: int = 64,
        hidden: int = 1024,
        weights: str | None = None,
        blue_first: bool = False,
        batch_norm: bool = False,
        mean: Sequence[float] = CAFFE_MEAN,
        std: Sequence[float] = CAFFE_STD,
    ) -> None:
        super().__init__()
        channels = [width * growth for growth in GROWTH]
        self.strides: Sequence[int] = [8, 16]
        self.out_channels: Sequence[int] = [channels[3], hidden]
        self.normalise = Normalise(mean, std)
        layers: list[nn.Module] = []
        inputs = 3
        for stage, count in enumerate(CONVOLUTIONS):
            if stage == 4:
                self.to_conv4, layers = nn.Sequential(*layers), []
            if stage > 0:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            for _ in range(count):
                layers += _layer(nn.Conv2d(inputs, channels[stage], 3, padding=1), batch_norm)
                inputs = channels[stage]
        self.to_pool5 = nn.Sequential(*layers, nn.MaxPool2d(3, 1, 1))
        self.norm4 = L2Norm(channels[3])
        self.fc = nn.Sequential(
            *_layer(nn.Conv2d(channels[4], hidden, 3, padding=6, dilation=6), batch_norm),
            *_layer(nn.Conv2d(hidden, hidden, 1), batch_norm),
        )
        for conv in self._convolutions():
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # bias=True gives a tensor
        if weights is not None:
            self._load(weights, blue_first)

    def _convolutions(self) -> list[nn.Conv2d]:
        return [layer for layer in self.modules() if isinstance(layer, nn.Conv2d)]

    def _load(self, path: str, blue_first: bool) -> None:
        if not Path(path).is_file():
            raise ValueError(f"ReducedVGG16Backbone: no weights at {path}")
        state = torch.load(path, map_location="cpu", weights_only=True)
        given = _thinned(state) if "features.0.weight" in state else state
        numbers = [number for number in _LAYERS if f"{number}.weight" in given]
        if numbers not in (_LAYERS, _LAYERS[:-2]):  # weights of the convolutions alone are common
            raise ValueError(f"ReducedVGG16Backbone: {path} holds {len(numbers)} of VGG-16's {len(_LAYERS)} layers")
        for number, conv in zip(numbers, self._convolutions(), strict=False):
            weight, bias = given[f"{number}.weight"], given[f"{number}.bias"]
            if weight.shape != conv.weight.shape:
                raise ValueError(
                    f"ReducedVGG16Backbone: layer {number} of {path} is {tuple(weight.shape)}, ours "
                    f"{tuple(conv.weight.shape)}"
                )
            conv.load_state_dict({"weight": weight.flip(1) if blue_first and number == 0 else weight, "bias": bias})

    def forward(self, images: Tensor, /) -> list[Tensor]:
        """Maps (N, out_channels[i], ceil(H / strides[i]), ceil(W / strides[i])) of images (N, 3, H, W)."""
        x = self.to_conv4(self.normalise(images))
        return [self.norm4(x), self.fc(self.to_pool5(x))]


def _layer(conv: nn.Conv2d, batch_norm: bool) -> list[nn.Module]:
    norm = [nn.BatchNorm2d(conv.out_channels)] if batch_norm else []
    return [conv, *norm, nn.ReLU(inplace=True)]


_LAYERS = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33]
"""Numbers of the convolutions among all layers; the last two are fc6 and fc7."""


def _thinned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's VGG-16 by layer numbers; fc6 and fc7 as convolutions with a part of their weights."""
    given = {name.removeprefix("features."): value for name, value in state.items() if name.startswith("features.")}
    if "classifier.0.weight" in state:
        fc6 = state["classifier.0.weight"]
        fc6 = fc6.view(len(fc6), -1, 7, 7)
        given |= {"31.weight": fc6[::4, :, ::3, ::3], "31.bias": state["classifier.0.bias"][::4]}
        fc7 = state["classifier.3.weight"][::4, ::4, None, None]
        given |= {"33.weight": fc7, "33.bias": state["classifier.3.bias"][::4]}
    return given


@dataclass(frozen=True)
class ExtraStage:
    """A 1x1 convolution to `inner` channels and one of `kernel` to `channels`, both with ReLU."""

    inner: int
    channels: int
    kernel: int = 3
    stride: int = 2
    padding: int = 1


class ExtraStages(nn.Module):
    """A backbone's maps and smaller ones, each made from the one before; itself a backbone.

    Liu et al. 2016, section 3, "conv8_1" on; Xavier initialisation as in their code. The stated stride of a map without
    padding only says how far apart its cells are.
    """

    def __init__(self, backbone: Backbone, stages: Sequence[ExtraStage]) -> None:
        super().__init__()
        self.backbone = cast(nn.Module, backbone)
        strides, channels = list(backbone.strides), list(backbone.out_channels)
        self.stages = nn.ModuleList()
        for stage in stages:
            first = nn.Conv2d(channels[-1], stage.inner, 1)
            second = nn.Conv2d(stage.inner, stage.channels, stage.kernel, stage.stride, stage.padding)
            for conv in (first, second):
                nn.init.xavier_uniform_(conv.weight)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # bias=True gives a tensor
            self.stages.append(nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True)))
            strides.append(strides[-1] * stage.stride)
            channels.append(stage.channels)
        self.strides: Sequence[int] = strides
        self.out_channels: Sequence[int] = channels

    def forward(self, images: Tensor, /) -> list[Tensor]:
        """Maps (N, out_channels[i], H_i, W_i) of images (N, 3, H, W)."""
        maps: list[Tensor] = list(self.backbone(images))
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps
