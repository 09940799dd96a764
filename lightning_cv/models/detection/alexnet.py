"""AlexNet's convolutions, for regions."""

from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD, Normalise

SHAPES = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
"""Channels, kernel, stride and padding of the five convolutions."""

POOLED = (0, 1, 4)
"""After these a pool of 3 with stride 2."""


class AlexNetFeatures(nn.Module):
    """The map after AlexNet's last pool, stride 32: 6 x 6 cells of 256 channels for 224 or 227 pixels.

    Krizhevsky 2014, "One weird trick", as in torchvision. Differs from the net of Krizhevsky et al. 2012, on which
    R-CNN stands: 64 and 192 channels instead of 96 and 256, one group, no response normalisation. For crops of a fixed
    size only: pools round sizes down, so that the map does not cover what lies at the far edges of other images.

    Args:
        weights: path of a state dict with torchvision's names (`features.0.weight` ...); None draws them at random.
        frozen: the first so many convolutions keep their weights.
    """

    def __init__(self, weights: str | None = None, frozen: int = 0) -> None:
        super().__init__()
        if not 0 <= frozen <= len(SHAPES):
            raise ValueError(f"AlexNetFeatures: frozen must be 0 to {len(SHAPES)}, got {frozen}")
        self.strides, self.out_channels = [32], [SHAPES[-1][0]]
        self.normalise = Normalise(IMAGENET_MEAN, IMAGENET_STD)
        layers: list[nn.Module] = []
        channels = 3
        for number, (out, kernel, stride, padding) in enumerate(SHAPES):
            layers += [nn.Conv2d(channels, out, kernel, stride, padding), nn.ReLU(inplace=True)]
            channels = out
            if number in POOLED:
                layers.append(nn.MaxPool2d(3, 2))
        self.features = nn.Sequential(*layers)
        if weights is not None:
            self._load(weights)
        for conv in [layer for layer in layers if isinstance(layer, nn.Conv2d)][:frozen]:
            conv.requires_grad_(False)

    def _load(self, weights: str) -> None:
        if not Path(weights).is_file():
            raise ValueError(f"AlexNetFeatures: no weights at {weights}")
        state = torch.load(weights, map_location="cpu", weights_only=True)
        wanted = [f"features.{name}" for name in self.features.state_dict()]
        if missing := [name for name in wanted if name not in state]:
            raise ValueError(f"AlexNetFeatures: {weights} lacks {missing[:3]}")
        self.features.load_state_dict({name.removeprefix("features."): state[name] for name in wanted})

    def forward(self, images: Tensor, /) -> list[Tensor]:
        """One map (N, 256, h, w) of images (N, 3, H, W) of at least 63 pixels a side."""
        return [self.features(self.normalise(images))]
