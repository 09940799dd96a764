"""VGG-16 as a feature pyramid."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD, Normalise
from lightning_cv.models.begun import note_begun

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Convolutions of the five stages."""

GROWTH = (1, 2, 4, 8, 8)
"""Channels of the stages, in those of the first."""

CAFFE_MEAN = (0.4810938, 0.4575245, 0.4078705)
"""Means (red, green, blue) of 122.67892, 116.66877 and 104.00699 of 255, which the original's weights expect."""

CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)
"""The original's weights expect values up to 255."""


class VGG16Backbone(nn.Module):
    """The maps after chosen pools of VGG-16 (1 to 5: strides 2 to 32), finest first; nothing after the last of them.

    Simonyan and Zisserman 2015, configuration D, without the fully connected layers. Differs from the paper: pools
    round sizes up, so that a map covers the whole image.

    Args:
        pools: which pools give a map, rising.
        width: channels of the first stage, 64 in the paper.
        weights: path of a state dict with torchvision's names (`features.0.weight` ...); None draws them at random.
        mean, std: of red, green and blue, 0 to 1.
        last_pool: False leaves out the last map's pool, which then has half the stride: of pools (5,) it is conv5_3 at
            stride 16, on which Fast and Faster R-CNN stand.
        frozen_stages: the first so many stages keep their weights: 2 in Fast and Faster R-CNN.
    """

    def __init__(
        self,
        pools: Sequence[int] = (3, 4, 5),
        width: int = 64,
        weights: str | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        last_pool: bool = True,
        frozen_stages: int = 0,
    ) -> None:
        super().__init__()
        if not pools or list(pools) != sorted(set(pools) & set(range(1, 6))):
            raise ValueError(f"VGG16Backbone: pools must rise from 1 to 5, got {list(pools)}")
        if not 0 <= frozen_stages <= pools[-1]:
            raise ValueError(f"VGG16Backbone: frozen_stages must be 0 to {pools[-1]}, got {frozen_stages}")
        self.strides = [2**pool for pool in pools]
        if not last_pool:
            self.strides[-1] //= 2
        self.out_channels = [width * GROWTH[pool - 1] for pool in pools]
        self.normalise = Normalise(mean, std)
        layers: list[nn.Module] = []
        self._map_layers = []
        channels = 3
        for stage in range(pools[-1]):
            for _ in range(CONVOLUTIONS[stage]):
                conv = nn.Conv2d(channels, width * GROWTH[stage], 3, padding=1)
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # bias=True gives a tensor
                layers += [conv, nn.ReLU(inplace=True)]
                channels = conv.out_channels
            if last_pool or stage + 1 < pools[-1]:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            if stage + 1 in pools:
                self._map_layers.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        self.begun = weights is not None or frozen_stages == 0
        self.register_load_state_dict_post_hook(note_begun)  # type: ignore[no-untyped-call]  # torch states none
        if weights is not None:
            self._load(weights)
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        for conv in convolutions[: sum(CONVOLUTIONS[:frozen_stages])]:
            conv.requires_grad_(False)

    def check_begun(self) -> None:
        """A `ValueError` where stages are frozen that were never given weights."""
        if not self.begun:
            raise ValueError(
                "VGG16Backbone: frozen_stages keeps weights that were never given: --model.net.features.weights FILE, "
                "torchvision's VGG-16, or frozen_stages 0"
            )

    def _load(self, weights: str) -> None:
        if not Path(weights).is_file():
            raise ValueError(f"VGG16Backbone: no weights at {weights}")
        state = torch.load(weights, map_location="cpu", weights_only=True)
        wanted = self.features.state_dict()
        missing = [f"features.{name}" for name in wanted if f"features.{name}" not in state]
        if missing:
            raise ValueError(f"VGG16Backbone: {weights} lacks {missing[:3]}")
        self.features.load_state_dict({name: state[f"features.{name}"] for name in wanted})

    def forward(self, images: Tensor, /) -> list[Tensor]:
        """Maps (N, out_channels[i], ceil(H / strides[i]), ceil(W / strides[i])) of images (N, 3, H, W)."""
        x = self.normalise(images)
        maps = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self._map_layers:
                maps.append(x)
        return maps
