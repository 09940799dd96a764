"""Darknet's binary weights. A file is a header and then numbers, with no word on the layers they belong to.

Redmon's darknet, `parser.c`, `load_weights_upto`: three int32 (major, minor, revision) and the count of images seen, an
int64 from version 0.2 on and an int32 before, little endian; then float32, layer by layer: biases, with batch norm its
scales, means and variances, then weights. A layer's tensors lie as PyTorch's do.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_cv.models.backbones.transfer import load_part

_TENSORS = 5
"""Of a convolution with batch norm."""


class DarknetFile(NamedTuple):
    """What a file holds: images seen in training, and its numbers in order."""

    seen: int
    values: NDArray[np.float32]


def read_darknet(path: str | Path) -> DarknetFile:
    """The content of a file of darknet's.

    Raises:
        ValueError: the file is missing or cannot be one.
    """
    if not Path(path).is_file():
        raise ValueError(f"no darknet weights at {path}")
    content = Path(path).read_bytes()
    version = np.frombuffer(content[:12], "<i4") if len(content) >= 12 else np.array([-1, 0, 0])
    major, minor = int(version[0]), int(version[1])
    wide = major * 10 + minor >= 2
    start = 20 if wide else 16
    if not 0 <= major <= 10 or not 0 <= minor <= 100 or len(content) < start:
        raise ValueError(f"{path} is no file of darknet's weights: its header of {start} bytes is missing or odd")
    if (len(content) - start) % 4:
        raise ValueError(f"{path} is cut off: {len(content) - start:,} bytes after its header are no whole numbers")
    seen = int(np.frombuffer(content[12:start], "<i8" if wide else "<i4")[0])
    return DarknetFile(seen, np.frombuffer(content, "<f4", offset=start))


def write_darknet(net: nn.Module, path: str | Path, seen: int = 0) -> None:
    """A net as a file of darknet's, version 0.2."""
    header = np.array([0, 2, 0], "<i4").tobytes() + np.array([seen], "<i8").tobytes()
    with Path(path).open("wb") as file:
        file.write(header)
        for tensor in darknet_tensors(net):
            file.write(tensor.detach().float().cpu().contiguous().numpy().astype("<f4").tobytes())


def darknet_tensors(net: nn.Module) -> Iterator[Tensor]:
    """The tensors of a net in the order of the file: layer by layer as the net registers them, biases first."""
    for layer in net.modules():
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if isinstance(bias, Tensor):
            yield bias
        if isinstance(weight, Tensor):
            yield weight
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            yield from (layer.running_mean, layer.running_var)


@torch.no_grad()
def fill(tensors: list[Tensor], values: NDArray[np.float32]) -> None:
    """Copy the first of the numbers into the tensors, in order; there must be enough."""
    start = 0
    for tensor in tensors:
        part = values[start : start + tensor.numel()]
        tensor.copy_(torch.from_numpy(part.astype(np.float32)).view(tensor.shape))
        start += tensor.numel()


def load_trunk(trunk: nn.Module, path: str, least: int | None = None) -> None:
    """Fill a trunk from a file of darknet's, which may go on after it, or from a checkpoint.

    Args:
        trunk: of convolutions with batch norm.
        path: the file.
        least: convolutions that a file must hold if it ends inside the trunk; None for all of them.
    """
    who = type(trunk).__name__
    if not Path(path).is_file():
        raise ValueError(f"{who}: no weights at {path}")
    if zipfile.is_zipfile(path):  # what torch.save writes
        load_part(trunk, path, who)
        return
    values, tensors = read_darknet(path).values, list(darknet_tensors(trunk))
    whole = sum(tensor.numel() for tensor in tensors)
    if len(values) < whole and least is not None:
        tensors = tensors[: least * _TENSORS]
    needed = sum(tensor.numel() for tensor in tensors)
    if len(values) < needed:
        raise ValueError(f"{who}: {path} holds {len(values):,} numbers, this trunk has {whole:,}")
    fill(tensors, values)
