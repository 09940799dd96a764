"""The semantic branch of Panoptic FPN. Letters: N images, L maps, C classes; H, W of the image in pixels."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.contracts import VOID


class SemanticBranch(nn.Module):
    """A class for every pixel from a feature pyramid: all maps brought to the finest one and added.

    Kirillov et al. 2019, "Panoptic feature pyramid networks", section 3.1 and figure 3: on its way each map has a 3x3
    convolution, group norm and ReLU before every doubling, the finest one without a doubling; then one 1x1 convolution
    and bilinear upsampling. Differs for sides that no stride divides: a doubling ends at the next map's size.

    Args:
        channels, strides: of the maps, finest first; each stride is twice the one before.
        num_classes: C.
        maps: the finest so many are read, None all. The map that an FPN adds for region proposals is not.
        width: channels of the convolutions.
        groups: of the group norms.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        maps: int | None = None,
        width: int = 128,
        groups: int = 32,
    ) -> None:
        super().__init__()
        channels, strides = list(channels)[:maps], list(strides)[:maps]
        if any(after != 2 * before for before, after in pairwise(strides)):
            raise ValueError(f"SemanticBranch: each map's stride must be twice the one before, got {strides}")
        if width % groups:
            raise ValueError(f"SemanticBranch: width must be a multiple of groups, got {width} and {groups}")
        self.ways = nn.ModuleList(
            nn.ModuleList(_step(width if i else own, width, groups) for i in range(max(level, 1)))
            for level, own in enumerate(channels)
        )
        self.logits = nn.Conv2d(width, num_classes, 1)
        nn.init.kaiming_normal_(self.logits.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.logits.bias)  # type: ignore[arg-type]  # bias=True gives a tensor

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int], /) -> Tensor:
        """Logits (N, C, H, W), float32, of maps finest first, for images of `size` (H, W)."""
        sizes = [x.shape[-2:] for x in maps]
        total: Tensor | None = None
        for level, (steps, x) in enumerate(zip(self.ways, maps[: len(self.ways)], strict=True)):
            assert isinstance(steps, nn.ModuleList)
            for done, step in enumerate(steps):
                x = step(x)
                if level:
                    x = F.interpolate(x, size=sizes[level - 1 - done], mode="bilinear", align_corners=False)
            total = x if total is None else total + x
        assert total is not None
        return F.interpolate(self.logits(total).float(), size=size, mode="bilinear", align_corners=False)

    def loss(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Cross entropy of logits (N, C, H, W), mean over the pixels of the masks int64 (N, H, W) that are not VOID.

        Without such a pixel it is 0, and so are its gradients.
        """
        with torch.autocast(logits.device.type, enabled=False):
            total = F.cross_entropy(logits.float(), masks, ignore_index=VOID, reduction="sum")
            return total / (masks != VOID).sum().clamp(min=1)


def _step(inputs: int, width: int, groups: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.GroupNorm(groups, width), nn.ReLU(inplace=True))


SemanticBranchMaker = Callable[[Sequence[int], Sequence[int], int], SemanticBranch]
"""Builds one from the channels and strides of the maps and C: a class, or a class path with its other arguments."""
