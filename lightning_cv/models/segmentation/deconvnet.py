"""The deconvolution network. Letters: N images, K classes with background."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD, Normalise
from lightning_cv.models.backbones.vgg import CAFFE_MEAN, CAFFE_STD, CONVOLUTIONS, GROWTH


class DeconvNet(nn.Module):
    """VGG-16 down to one cell, and its mirror image back up: unpooling puts each value where the maximum was.

    Noh, Hong and Han 2015, "Learning deconvolution network for semantic segmentation", section 3 and figure 2; batch
    normalisation after every convolution and transposed convolution, weights from a Gaussian of 0.01 and shifts of
    0.001 as in the release. 224 pixels become 7 cells, 1, 7 again, and 224. Differs from the release: RGB images from
    0 to 1, whose means the net takes off; larger images are taken too (fc6 slides over them).

    Args:
        num_classes: K, background counted; 1 for background and object by one logit.
        width: channels of the first stage, 64 in the paper; the others grow with it.
        hidden: channels of fc6 and fc7, 4096 in the paper.
        kernel: cells a side of fc6 and its mirror: the image's side by 32, 7 for the paper's 224 pixels.
        weights: a file to begin from: a checkpoint of this net, as stage 2 does from stage 1, or torchvision's state
            dict of VGG-16, with or without batch normalisation, whose convolutions and first two fully connected layers
            become the way down, or a checkpoint of `FCNVGG`, such as `lightning-cv import torchvision` writes, of which
            the same layers are taken. None draws them.
        mean, std: of each channel, 0 to 1. None is what the weights were trained with: ImageNet's of torchvision's
            file, what a checkpoint holds, and without weights those of Caffe's VGG-16.
        fresh_statistics: forget the statistics that the weights' evaluation normalises by, and average those of all
            batches of the run alike: with a learning rate of 0 they are computed anew for trained weights, as the
            release does after training.
    """

    def __init__(
        self,
        num_classes: int,
        width: int = 64,
        hidden: int = 4096,
        kernel: int = 7,
        weights: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        fresh_statistics: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 1 or kernel < 1:
            raise ValueError(f"DeconvNet: num_classes and kernel are at least 1, got {num_classes} and {kernel}")
        self.num_classes, self.kernel = num_classes, kernel
        self.normalise = Normalise(CAFFE_MEAN if mean is None else mean, CAFFE_STD if std is None else std)
        channels = [width * growth for growth in GROWTH]
        starts = [3, *channels[:-1]]
        self.down = nn.ModuleList(
            nn.Sequential(*(_conv(start if i == 0 else end, end) for i in range(count)))
            for start, end, count in zip(starts, channels, CONVOLUTIONS, strict=True)
        )
        self.fc = nn.Sequential(
            _conv(channels[-1], hidden, kernel, padding=0), _conv(hidden, hidden, 1, padding=0),
            _deconv(hidden, channels[-1], kernel, padding=0),
        )  # fmt: skip
        ends = [*channels[:-1][::-1], width]  # a stage's last layer brings the channels of the finer map
        self.up = nn.ModuleList(
            nn.Sequential(*(_deconv(start, end if i == count - 1 else start) for i in range(count)))
            for start, end, count in zip(channels[::-1], ends, CONVOLUTIONS[::-1], strict=True)
        )
        self.score = nn.Conv2d(width, num_classes, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]  # bias=True gives a tensor
        if weights is not None:
            stated = {name for name, value in (("normalise.mean", mean), ("normalise.std", std)) if value is not None}
            self._load(weights, stated)
        for norm in (module for module in self.modules() if fresh_statistics and isinstance(module, nn.BatchNorm2d)):
            norm.momentum = None  # torch's word for a mean over all batches
            norm.reset_running_stats()

    def _load(self, path: str, stated: set[str]) -> None:
        if not Path(path).is_file():
            raise ValueError(f"DeconvNet: no weights at {path}")
        content = torch.load(path, map_location="cpu", weights_only=True)
        state: Mapping[str, Tensor] = content.get("state_dict", content)
        own, state = self.state_dict(), {name.removeprefix("net."): value for name, value in state.items()}
        if "features.0.weight" in state:
            given = self._of_vgg(state, "features.", ("classifier.0", "classifier.3"))
            seen = {"normalise.mean": IMAGENET_MEAN, "normalise.std": IMAGENET_STD}
            given |= {name: torch.tensor(value).view(-1, 1, 1) for name, value in seen.items()}
        elif "stages.0.0.weight" in state:
            given = self._of_vgg(state, "stages.", ("fc.0", "fc.3"))
            given |= {name: value for name, value in state.items() if name.startswith("normalise.")}
        else:
            given = state
        wanted = list(own) if given is state else [*self._names_of_vgg(), "normalise.mean", "normalise.std"]
        bad = [name for name in wanted if name not in given or given[name].shape != own[name].shape]
        if bad:
            raise ValueError(f"DeconvNet: {path}: {len(bad)} of {len(wanted)} tensors are missing or of another shape")
        if unknown := [name for name in wanted if not given[name].isfinite().all()]:
            why = " (torchvision's file of features only has no classifier)" if "features.0.weight" in state else ""
            raise ValueError(f"DeconvNet: {path}: {unknown[0]} is not finite{why}")
        self.load_state_dict({name: given[name] for name in wanted if name not in stated}, strict=False)

    def _names_of_vgg(self) -> list[str]:
        """Our tensors that VGG-16 has, too, in its order: convolutions on the way down, fc6 and fc7."""
        layers = [f"down.{i}.{j}.0" for i, count in enumerate(CONVOLUTIONS) for j in range(count)]
        return [f"{layer}.{kind}" for layer in (*layers, "fc.0.0", "fc.1.0") for kind in ("weight", "bias")]

    def _of_vgg(self, state: Mapping[str, Tensor], stem: str, full: tuple[str, str]) -> dict[str, Tensor]:
        """Another net's VGG-16 under our names: convolutions, whose names begin with `stem`, and its fc6 and fc7."""
        layers = [name.removesuffix(".weight") for name, value in state.items() if value.ndim == 4]
        layers = [*(layer for layer in layers if layer.startswith(stem)), *full]
        theirs = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
        own, given = self.state_dict(), {}
        for name, their in zip(self._names_of_vgg(), theirs, strict=False):  # another number is another net: see `bad`
            if (value := state.get(their)) is not None:
                shape = own[name].shape
                given[name] = value.view(shape) if value.ndim == 2 and value.numel() == shape.numel() else value
        return given

    def forward(self, images: Tensor, /) -> Tensor:
        """Logits (N, K, H, W) of images (N, 3, H, W), sides of at least `32 * kernel` (or 31 less: pools round up)."""
        x, places = self.normalise(images), []
        for stage in self.down:
            x = stage(x)
            size = x.shape[-2:]
            x, where = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            places.append((where, size))
        if min(x.shape[-2:]) < self.kernel:
            raise ValueError(
                f"DeconvNet of kernel {self.kernel} needs images of about {32 * self.kernel} px a side, got "
                f"{tuple(images.shape[-2:])}"
            )
        x = self.fc(x)
        for stage, (where, size) in zip(self.up, reversed(places), strict=True):
            height, width = (int(side) for side in size[-2:])  # traced, sides are tensors
            x = stage(F.max_unpool2d(x, where, [2, 2], output_size=[height, width]))
        scores: Tensor = self.score(x)
        return scores


def _conv(channels: int, out_channels: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    return _normalised(nn.Conv2d(channels, out_channels, kernel, padding=padding), out_channels)


def _deconv(channels: int, out_channels: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    return _normalised(nn.ConvTranspose2d(channels, out_channels, kernel, padding=padding), out_channels)


def _normalised(layer: nn.Conv2d | nn.ConvTranspose2d, channels: int) -> nn.Sequential:
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # bias=True gives a tensor
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.bias, 0.001)
    return nn.Sequential(layer, norm, nn.ReLU(inplace=True))
