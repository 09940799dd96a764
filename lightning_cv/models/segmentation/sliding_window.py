"""The lecture's first two ideas: a classifier at every pixel, and the same net as convolutions over the whole image.

Letters: N images; P windows; K classes with background; w side of a window; h, v windows down and across.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.models.backbones.normalise import Normalise
from lightning_cv.ops.windows import positions, windows_in_turn


class FullResolution(nn.Module):
    """A stack of convolutions that keeps the image's size: every pixel is classified from the window around it.

    The lecture's second idea, no down-sampling; with "valid" convolutions the same layers classify single windows, as
    in Farabet et al. 2013 and Ciresan et al. 2012.

    Args:
        num_classes: K, background counted.
        width: channels of all maps.
        depth: number of 3x3 convolutions; a pixel sees 2 * depth + 1 pixels a side.
        mean, std: of each channel, 0 to 1.
    """

    def __init__(
        self,
        num_classes: int,
        width: int = 16,
        depth: int = 7,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.25, 0.25, 0.25),
    ) -> None:
        super().__init__()
        if min(num_classes, width, depth) < 1:
            raise ValueError(
                f"FullResolution: num_classes, width and depth are at least 1, got {num_classes}, {width} and {depth}"
            )
        self.num_classes, self.window = num_classes, 2 * depth + 1
        self.normalise = Normalise(mean, std)
        layers: list[nn.Module] = []
        for i in range(depth):
            conv = nn.Conv2d(width if i else 3, width, 3, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.score = nn.Conv2d(width, num_classes, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]  # bias=True gives a tensor

    def forward(self, images: Tensor, /) -> Tensor:
        """Logits (N, K, H, W) of images (N, 3, H, W): every convolution's input is padded with zeros."""
        x = self.normalise(images)
        for layer in self.layers:  # not F.pad, whose copy of every map the backward pass would keep
            x = F.conv2d(x, layer.weight, padding=1) if isinstance(layer, nn.Conv2d) else layer(x)
        logits: Tensor = self.score(x)
        return logits

    def classify(self, windows: Tensor) -> Tensor:
        """Logits (P, K) of normalised windows (P, 3, w, w), for the pixel in the middle of each."""
        return cast(Tensor, self.score(self.layers(windows))).flatten(1)


class SlidingWindow(nn.Module):
    """The lecture's first idea: cut out the window around each pixel, classify it, go on to the next.

    Away from the border by a window's half, where the two pad differently, the logits are those of the same net run
    over the whole image. What overlapping windows share is worked out again for each: `(2 * depth - 1)^2` times as
    much arithmetic in the first layer.

    Args:
        net: classifies windows.
        step: pixels from one window to the next; pixels between take the logits of the nearest one, of two the later.
        at_once: windows that are copied and classified together. This bounds the memory of prediction; training keeps
            the maps of all windows for the backward pass, and batch normalisation sees this many at a time.
    """

    def __init__(self, net: FullResolution, step: int = 1, at_once: int = 4096) -> None:
        super().__init__()
        if step < 1 or at_once < 1:
            raise ValueError(f"SlidingWindow: step and at_once are at least 1, got {step} and {at_once}")
        self.net, self.step, self.at_once = net, step, at_once
        self.num_classes = net.num_classes

    def forward(self, images: Tensor, /) -> Tensor:
        """Logits (N, K, H, W) of images (N, 3, H, W)."""
        height, width = images.shape[-2:]
        down, across = positions(height, self.step), positions(width, self.step)
        windows = windows_in_turn(self.net.normalise(images), self.net.window, self.step, self.at_once)
        logits = torch.cat([self.net.classify(some) for some in windows])  # (N*h*v, K)
        coarse = logits.view(len(images), down, across, self.num_classes).permute(0, 3, 1, 2)  # (N, K, h, v)
        rows, columns = (
            ((torch.arange(side, device=images.device) + self.step // 2) // self.step).clamp(max=count - 1)
            for side, count in ((height, down), (width, across))
        )
        return coarse[..., rows[:, None], columns]
