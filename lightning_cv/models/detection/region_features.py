"""From maps to a feature of each region: where it is read off, and what is computed of it.

Letters: N images, R regions of all images, C channels, S cells a side.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_cv.models.backbones.timm import timm_state
from lightning_cv.ops.roi import align_on_levels, align_regions, pool_regions, pyramid_level, with_image_index


class RegionReader(nn.Module):
    """Reads S x S cells of each region off the maps: of a pyramid, off the one that suits the region's size.

    Args:
        size: S.
        maps: the finest so many are read, None all. The map that an FPN adds for region proposals is not.
        canonical_size: see `pyramid_level`.
    """

    def __init__(self, size: int = 7, maps: int | None = None, canonical_size: float = 224.0) -> None:
        super().__init__()
        if size < 1 or (maps is not None and maps < 1):
            raise ValueError(f"{type(self).__name__}: size and maps are at least 1, got {size} and {maps}")
        self.size, self.maps, self.canonical_size = size, maps, canonical_size

    @abstractmethod
    def read(self, x: Tensor, regions: Tensor, stride: float) -> Tensor:
        """Cells (R, C, S, S) of regions (R, 5) of one map."""

    def forward(self, maps: Sequence[Tensor], strides: Sequence[int], boxes: Sequence[Tensor], /) -> Tensor:
        """Cells (R, C, S, S) of the boxes of all images, image by image."""
        maps, strides = maps[: self.maps], strides[: self.maps]
        regions = with_image_index(boxes)
        if len(maps) == 1:
            return self.read(maps[0], regions, strides[0])
        level = pyramid_level(regions[:, 1:], strides, self.canonical_size)  # (R,)
        rows = [(level == number).nonzero()[:, 0] for number in range(len(maps))]
        parts = [self.read(x, regions[row], s) for x, row, s in zip(maps, rows, strides, strict=True)]
        return torch.cat(parts)[torch.cat(rows).argsort()]


class RoIPool(RegionReader):
    """The largest value of each cell, see `pool_regions` (Girshick 2015)."""

    def read(self, x: Tensor, regions: Tensor, stride: float) -> Tensor:
        """Cells of regions of one map."""
        return pool_regions(x, regions, stride, self.size)


class RoIAlign(RegionReader):
    """The mean of bilinear samples in each cell, see `align_regions` (He et al. 2017).

    Args:
        size, maps, canonical_size: see `RegionReader`.
        sampling, aligned: see `align_regions`.
    """

    def __init__(
        self,
        size: int = 7,
        maps: int | None = None,
        canonical_size: float = 224.0,
        sampling: int = 2,
        aligned: bool = True,
    ) -> None:
        super().__init__(size, maps, canonical_size)
        self.sampling, self.aligned = sampling, aligned

    def read(self, x: Tensor, regions: Tensor, stride: float) -> Tensor:
        """Cells of regions of one map."""
        return align_regions(x, regions, stride, self.size, self.sampling, self.aligned)

    def forward(self, maps: Sequence[Tensor], strides: Sequence[int], boxes: Sequence[Tensor], /) -> Tensor:
        """Cells (R, C, S, S) of the boxes of all images, image by image; on a CPU of all maps at once."""
        maps, strides = maps[: self.maps], strides[: self.maps]
        if maps[0].device.type != "cpu" or self.sampling < 1:
            return super().forward(maps, strides, boxes)
        regions = with_image_index(boxes)
        level = pyramid_level(regions[:, 1:], strides, self.canonical_size)
        return align_on_levels(maps, strides, regions, level, self.size, self.sampling, self.aligned)


class RegionHead(nn.Module):
    """Cells (R, C, S, S) become vectors (R, `out_features`)."""

    out_features: int

    @abstractmethod
    def forward(self, cells: Tensor, /) -> Tensor:
        """The vector of each region."""


RegionHeadMaker = Callable[[int, int], RegionHead]
"""Builds a head from C and S: a class, or a class path with its other arguments."""


class TruncatedLinear(nn.Linear):
    """A linear layer that in evaluation may use only the largest singular values of its weights.

    Girshick 2015, section 3.1: W of u x v becomes two layers of t (u + v) weights. Checkpoints hold W as trained.

    Args:
        inputs, outputs: v and u.
        rank: t; None computes with W in evaluation, too.
    """

    def __init__(self, inputs: int, outputs: int, rank: int | None = None) -> None:
        super().__init__(inputs, outputs)
        if rank is not None and not 1 <= rank <= min(inputs, outputs):
            raise ValueError(f"TruncatedLinear: rank must be 1 to {min(inputs, outputs)}, got {rank}")
        self.rank = rank
        self._factors: tuple[Tensor, Tensor] | None = None
        self._made_of: Tensor | None = None

    def forward(self, x: Tensor, /) -> Tensor:
        """Outputs (R, u) of inputs (R, v)."""
        if self.training or self.rank is None:
            return super().forward(x)
        some = self._some_weights()
        if self._factors is None or self._made_of is None or not torch.equal(self._made_of, some):
            with torch.inference_mode(False):  # else training with a frozen layer could not use them
                self._factors, self._made_of = truncated_svd(self.weight.detach().clone(), self.rank), some.clone()
        first, second = self._factors
        return F.linear(F.linear(x, first.to(x.dtype)), second.to(x.dtype), self.bias)

    def train(self, mode: bool = True) -> "TruncatedLinear":
        """Training mode, after which factors are made anew."""
        if mode:
            self._factors = None
        super().train(mode)
        return self

    def _some_weights(self) -> Tensor:
        """A few thousand weights: fused optimizers and averaging change them without a trace in torch's version."""
        flat = self.weight.detach().flatten()
        return flat[:: max(1, len(flat) // 4096)]


def truncated_svd(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Two factors (t, v) and (u, t), the second times the first nearest to a weight (u, v) of all of that rank."""
    left, values, right = torch.linalg.svd(weight.float(), full_matrices=False)
    return values[:rank, None] * right[:rank], left[:, :rank].contiguous()


def load_classifier(layers: Sequence[nn.Linear], path: str) -> None:
    """Fill fully connected layers from the first ones of a state dict of torchvision, `classifier.N.weight` in order.

    Raises:
        ValueError: there is no such file, or its layers are of other shapes.
    """
    if not Path(path).is_file():
        raise ValueError(f"no weights at {path}")
    state = torch.load(path, map_location="cpu", weights_only=True)
    found = sorted(int(name.split(".")[1]) for name in state if re.fullmatch(r"classifier\.\d+\.weight", name))
    numbers = [number for number in found if state[f"classifier.{number}.weight"].dim() == 2]
    for place, layer in enumerate(layers):
        own = {
            name: state.get(f"classifier.{numbers[place]}.{name}") if place < len(numbers) else None
            for name in ("weight", "bias")
        }
        weight, bias = own["weight"], own["bias"]
        if weight is None or bias is None or weight.shape != layer.weight.shape:
            shape = tuple(layer.weight.shape)
            raise ValueError(f"{path}: its fully connected layer {place + 1} is not of shape {shape}")
        layer.load_state_dict({"weight": weight, "bias": bias})


class TwoLinearHead(RegionHead):
    """Two fully connected layers with ReLU, VGG's fc6 and fc7 (Girshick 2015) or those of Lin et al. 2017.

    Args:
        channels, size: C and S.
        hidden: outputs of both, 4096 with VGG, 1024 with an FPN.
        dropout: after each in training, 0.5 with VGG.
        weights: path of a state dict with torchvision's names of VGG's (`classifier.0.weight` ...), for 512 channels,
            7 cells a side and 4096 outputs; None draws them at random.
        ranks: of both layers in evaluation, see `TruncatedLinear`: (1024, 256) in Girshick 2015, section 4.4.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        hidden: int = 1024,
        dropout: float = 0.0,
        weights: str | None = None,
        ranks: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        first, second = ranks or (None, None)
        self.fc6 = TruncatedLinear(channels * size**2, hidden, first)
        self.fc7 = TruncatedLinear(hidden, hidden, second)
        self.dropout = nn.Dropout(dropout)
        self.out_features = hidden
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        if weights is not None:
            load_classifier([self.fc6, self.fc7], weights)

    def forward(self, cells: Tensor, /) -> Tensor:
        """The vector of each region."""
        x = self.dropout(F.relu(self.fc6(cells.flatten(1))))
        out: Tensor = self.dropout(F.relu(self.fc7(x)))
        return out


class TimmStageHead(RegionHead):
    """A timm net's last stages, run on each region, then the mean over its cells: ResNet-C4's fifth stage.

    He et al. 2016, appendix A: RoI pooling before conv5_1.

    Args:
        channels, size: C and S, 14 in the paper.
        name: timm's name of the net.
        stages: layers of it in their order, the last ones.
        weights: path of a state dict with timm's names; None draws them at random.
        freeze_norm: keep the statistics of batch normalisation and their scale and shift.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        name: str = "resnet50",
        stages: Sequence[str] = ("layer4",),
        weights: str | None = None,
        freeze_norm: bool = False,
    ) -> None:
        super().__init__()
        net = timm.create_model(name, pretrained=False)
        if weights is not None:
            net.load_state_dict(timm_state(weights))
        self.stages = nn.Sequential(*(net.get_submodule(stage) for stage in stages))
        self.out_features = cast(int, net.num_features)
        self.freeze_norm = freeze_norm
        if freeze_norm:
            for module in self._norms():
                module.requires_grad_(False)
        self.train()
        inputs = next(layer for layer in self.stages.modules() if isinstance(layer, nn.Conv2d)).in_channels
        if inputs != channels:
            raise ValueError(f"TimmStageHead: {name}'s {stages[0]} takes {inputs} channels, the map has {channels}")

    def _norms(self) -> list[_BatchNorm]:
        return [module for module in self.stages.modules() if isinstance(module, _BatchNorm)]

    def train(self, mode: bool = True) -> "TimmStageHead":
        """Training mode, in which what is frozen stays frozen."""
        super().train(mode)
        if self.freeze_norm:
            for module in self._norms():
                module.eval()
        return self

    def forward(self, cells: Tensor, /) -> Tensor:
        """The vector of each region."""
        out: Tensor = self.stages(cells)
        return out.mean(dim=(2, 3))
