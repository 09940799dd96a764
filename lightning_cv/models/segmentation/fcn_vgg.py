"""The fully convolutional net of the paper, on VGG-16. Letters: N images, K classes with background."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD, Normalise
from lightning_cv.models.backbones.vgg import CAFFE_MEAN, CAFFE_STD, CONVOLUTIONS, GROWTH
from lightning_cv.ops.upsample import bilinear_kernel

FC6 = 7
"""Cells of 32 pixels a side that fc6 looks at."""

ENOUGH = 97
"""Pixels of padding with which an image of one pixel has as many cells."""


class Grid(NamedTuple):
    """Where the cells of a map lie: cell i is centred at pixel `stride * i + offset` of the image."""

    stride: float
    offset: float

    def conv(self, kernel: int, padding: int, stride: int = 1) -> "Grid":
        """The grid after a convolution or pool."""
        return Grid(self.stride * stride, self.offset + self.stride * ((kernel - 1) / 2 - padding))

    def deconv(self, factor: int) -> "Grid":
        """The grid after a transposed convolution of kernel 2 * factor and stride factor, without padding."""
        step = self.stride / factor
        return Grid(step, self.offset - step * (2 * factor - 1) / 2)

    def steps_to(self, other: "Grid") -> int:
        """How many cells of the other grid, of the same stride, lie before this one's first."""
        steps = (self.offset - other.offset) / other.stride
        assert self.stride == other.stride, "two maps meet at one stride"
        assert steps == int(steps), "a crop is of whole cells"
        return int(steps)


class FCNVGG(nn.Module):
    """FCN-32s, FCN-16s and FCN-8s: logits of an image of any size at that size.

    Long, Shelhamer and Darrell 2015, and Shelhamer et al. 2017 ("PAMI"), sections 4.1 to 4.3, with the constants of
    the released nets: 100 pixels of padding around the image, pools that round up, fc6 and fc7 as convolutions with
    dropout, scores that begin at zero, upsampling by transposed convolutions that begin bilinear, crops that bring the
    maps back into place (19; 5 and 27; 5, 9 and 31 cells, here worked out from where cells lie). Differs from the
    release: images are RGB from 0 to 1, whose means the net takes off itself.

    Args:
        num_classes: K, background counted; 1 for background and object by one logit.
        stride: 32, 16 or 8.
        padding: around the image; with 1 all convolutions but fc6 keep the size, and fc6 is padded to keep it too. Any
            other has to be large enough for scores up to the image's edge: 81, 73 and 69 at stride 32, 16 and 8.
        skip_scales: factors on the maps of pool4 and pool3 before they are scored: 1 and 1 for training in stages,
            0.01 and 0.0001 for all at once, as published.
        learned_upsampling: train the transposed convolutions; the release holds them, for learning brought nothing.
        width: channels of the first stage, 64 in the paper; the others grow with it.
        hidden: channels of fc6 and fc7, 4096 in the paper.
        dropout: of fc6 and fc7.
        weights: a file to begin from: torchvision's state dict of VGG-16, whose classifier becomes fc6 and fc7, or a
            checkpoint of this net, also at a coarser stride, whose finer scores stay at zero and whose filters of
            another factor stay bilinear. None draws them.
        mean, std: of each channel, 0 to 1. None is what the weights were trained with: ImageNet's of torchvision's
            file, what a checkpoint holds, and without weights those of Caffe's VGG-16.
        keep_scores: False lets scores begin at zero, and upsampling bilinear, whatever the weights hold, for other
            classes than theirs.
    """

    def __init__(
        self,
        num_classes: int,
        stride: int = 8,
        padding: int = 100,
        skip_scales: tuple[float, float] = (1.0, 1.0),
        learned_upsampling: bool = False,
        width: int = 64,
        hidden: int = 4096,
        dropout: float = 0.5,
        weights: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        keep_scores: bool = True,
    ) -> None:
        super().__init__()
        if stride not in (8, 16, 32):
            raise ValueError(f"FCNVGG: stride is 32, 16 or 8, got {stride}")
        if padding < 1 or num_classes < 1:
            raise ValueError(f"FCNVGG: padding and num_classes are at least 1, got {padding} and {num_classes}")
        self.num_classes, self.stride, self.skip_scales, self.padding = num_classes, stride, skip_scales, padding
        self.normalise = Normalise(CAFFE_MEAN if mean is None else mean, CAFFE_STD if std is None else std)
        channels = [width * growth for growth in GROWTH]
        self.stages = nn.ModuleList(
            _stage(channels[i - 1] if i else 3, channels[i], count, padding if i == 0 else 1)
            for i, count in enumerate(CONVOLUTIONS)
        )
        inner = 0 if padding > 1 else 3
        self.fc = nn.Sequential(
            nn.Conv2d(channels[-1], hidden, FC6, padding=inner), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Conv2d(hidden, hidden, 1), nn.ReLU(inplace=True), nn.Dropout(dropout),
        )  # fmt: skip
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # bias=True gives a tensor
        self.score = _zeros(hidden, num_classes)
        self.skip_scores = nn.ModuleList(_zeros(channels[i], num_classes) for i in ((3, 2) if stride < 32 else ()))
        if stride == 16:
            del self.skip_scores[1]
        factors = {32: [32], 16: [2, 16], 8: [2, 2, 8]}[stride]
        self.upsamplings = nn.ModuleList(_deconv(num_classes, factor, learned_upsampling) for factor in factors)
        self.crops = _crops(padding, inner, factors)
        if padding > 1 and self.crops[-1] < 0:
            least = padding - self.crops[-1]
            raise ValueError(
                f"FCNVGG: padding {padding} leaves the image's edge without scores: at stride {stride} it is 1, or at "
                f"least {least}"
            )
        if weights is not None:
            stated = {name for name, value in (("normalise.mean", mean), ("normalise.std", std)) if value is not None}
            self._load(weights, stated, keep_scores)

    def _load(self, path: str, stated: set[str], keep_scores: bool) -> None:
        if not Path(path).is_file():
            raise ValueError(f"FCNVGG: no weights at {path}")
        content = torch.load(path, map_location="cpu", weights_only=True)
        state: dict[str, Tensor] = content.get("state_dict", content)
        own = self.state_dict()
        given = _of_torchvision(own, state) if "features.0.weight" in state else _of_fcn(own, state)
        wanted = [name for name in own if name.startswith(("stages.", "fc."))]
        bad = [name for name in wanted if name not in given or given[name].shape != own[name].shape]
        if bad:
            raise ValueError(f"FCNVGG: {path}: {len(bad)} of {len(wanted)} tensors are missing or of another shape")
        if unknown := [name for name in wanted if not given[name].isfinite().all()]:
            why = " (torchvision's file of features only has no classifier)" if "features.0.weight" in state else ""
            raise ValueError(f"FCNVGG: {path}: {unknown[0]} is not finite{why}")
        scores = [name for name in given if name.startswith(("score.", "skip_scores."))]
        other = [name for name in scores if len(given[name]) != self.num_classes]
        if keep_scores and any(given[name].any() for name in other):  # none are lost where all are zero
            raise ValueError(
                f"FCNVGG: {path} scores {len(given[other[0]])} classes, this net {self.num_classes}: keep_scores=false "
                "lets its scores begin at zero"
            )
        filters = {name for name in given if name.startswith("upsamplings.")}
        dropped = stated | (set(other) if keep_scores else filters | set(scores))
        self.load_state_dict({name: value for name, value in given.items() if name not in dropped}, strict=False)

    def forward(self, images: Tensor, /) -> Tensor:
        """Logits (N, K, H, W) of images (N, 3, H, W)."""
        x, maps = self.normalise(images), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        if 1 < self.padding < ENOUGH and min(x.shape[-2:]) < FC6:
            raise ValueError(
                f"FCNVGG: an image of {tuple(images.shape[-2:])} px with {self.padding} px of padding is too small for "
                f"fc6, which takes {FC6} cells of 32 px; {ENOUGH} px of padding are enough for any image"
            )
        total = self.score(self.fc(x))
        skips = zip(self.skip_scores, self.skip_scales, (maps[3], maps[2]), strict=False)
        for (score, scale, finer), upsample, crop in zip(skips, self.upsamplings, self.crops, strict=False):
            total, finer = _in_place(upsample(total), score(finer * scale), crop)
            total = total + finer
        height, width = images.shape[-2:]
        crop = self.crops[-1]
        logits: Tensor = self.upsamplings[-1](total)
        return logits[..., crop : crop + height, crop : crop + width].contiguous()


def _of_torchvision(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of torchvision's VGG-16 under our names: both list the convolutions in order."""
    convolutions = [name for name in own if name.startswith("stages.")]
    theirs = [name for name in state if name.startswith("features.")]
    named = {name: state[their] for name, their in zip(convolutions, theirs, strict=False)}
    for layer, their in (("fc.0", "classifier.0"), ("fc.3", "classifier.3")):
        for kind in ("weight", "bias"):
            if f"{their}.{kind}" in state:
                name = f"{layer}.{kind}"
                value = state[f"{their}.{kind}"]
                named[name] = value.view(own[name].shape) if value.numel() == own[name].numel() else value
    seen = {"normalise.mean": IMAGENET_MEAN, "normalise.std": IMAGENET_STD}
    return named | {name: torch.tensor(value).view(-1, 1, 1) for name, value in seen.items()}


def _of_fcn(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a checkpoint of this net that this one has, too; filters for another factor or other classes not."""
    named = {name.removeprefix("net."): value for name, value in state.items() if name.removeprefix("net.") in own}
    return {
        name: value
        for name, value in named.items()
        if not name.startswith("upsamplings.") or value.shape == own[name].shape
    }


def _stage(channels: int, out_channels: int, count: int, padding: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(count):
        layers += [nn.Conv2d(channels if i == 0 else out_channels, out_channels, 3, padding=1 if i else padding)]
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=True))


def _zeros(channels: int, num_classes: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, num_classes, 1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # bias=True gives a tensor
    return conv


def _deconv(num_classes: int, factor: int, learned: bool) -> nn.ConvTranspose2d:
    """A filter for each pair of classes, as in the release: bilinear on the diagonal, zeros elsewhere."""
    deconv = nn.ConvTranspose2d(num_classes, num_classes, 2 * factor, factor, bias=False)
    nn.init.zeros_(deconv.weight)
    diagonal = range(num_classes)
    deconv.weight.data[diagonal, diagonal] = bilinear_kernel(factor)
    return deconv.requires_grad_(learned)


def _crops(padding: int, inner: int, factors: Sequence[int]) -> list[int]:
    """Cells to leave out at the upper left of each skip, and last of the upsampled scores: see `_in_place`."""
    grid, pools = Grid(1, 0), []
    for i, count in enumerate(CONVOLUTIONS):
        for j in range(count):
            grid = grid.conv(3, padding if i == j == 0 else 1)
        grid = grid.conv(2, 0, stride=2)
        pools.append(grid)
    grid, crops = grid.conv(FC6, inner), []
    for factor, pool in zip(factors[:-1], (pools[3], pools[2]), strict=False):
        grid = grid.deconv(factor)
        crops.append(grid.steps_to(pool))
        if crops[-1] < 0:  # the upsampled map is cropped instead
            grid = pool
    return [*crops, -grid.deconv(factors[-1]).steps_to(Grid(1, 0))]


def _in_place(upsampled: Tensor, finer: Tensor, crop: int) -> tuple[Tensor, Tensor]:
    """Both maps over what they share: the finer one begins `crop` cells earlier, or the upsampled one -crop cells."""
    finer, upsampled = (finer[..., crop:, crop:], upsampled) if crop >= 0 else (finer, upsampled[..., -crop:, -crop:])
    height, width = (min(upsampled.shape[side], finer.shape[side]) for side in (-2, -1))
    return upsampled[..., :height, :width], finer[..., :height, :width]
