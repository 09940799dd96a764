"""MNIST from its four idx files, compressed or not, whatever number of images they hold.

LeCun, Cortes and Burges 1998. Files lie in `root/MNIST/raw`, where torchvision puts them.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.memory import InMemoryImages, stratified_split

MNIST_SPLIT_SEED = 1998
"""Seed of the division of the training file into train and val."""

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of bytes in an idx file; `.gz` is unpacked.

    Format: two zero bytes, 8 (unsigned bytes), the number of dimensions, each dimension as a big-endian int32, data.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a readable gzip file ({error})") from None
    expected = bytes([0, 0, 8, dimensions])
    if content[:4] != expected:
        raise DataError(f"{path} is not an idx file: its first bytes are {content[:4].hex()}, not {expected.hex()}")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(f"{path} ends within its header of {start} bytes")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path} holds {len(content) - start} bytes of data, its header {shape} says {math.prod(shape)}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def load_mnist(root: str | Path, part: str, size: int = 28) -> InMemoryImages:
    """All images of the file "train" or "test" as uint8 (N, 1, size, size), black borders added evenly beyond 28."""
    if size < 28:
        raise ValueError(f"MNIST has 28 x 28 pixels and is only padded, got size {size}")
    images_path, labels_path = (_find(root, name) for name in _FILES[part])
    pixels, classes = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(pixels) != len(classes):
        raise DataError(f"{images_path} holds {len(pixels)} images, {labels_path.name} {len(classes)} labels")
    if pixels.shape[1:] != (28, 28):
        raise DataError(f"{images_path} holds images of {pixels.shape[2]} x {pixels.shape[1]} pixels, not 28 x 28")
    if len(classes) and classes.max() > 9:
        raise DataError(f"{labels_path} holds the label {classes.max()}: digits are 0 to 9")
    images = torch.from_numpy(pixels.copy()).unsqueeze(1)
    if size > 28:
        before, after = (size - 28) // 2, (size - 28 + 1) // 2
        images = functional.pad(images, (before, after, before, after))
    ids = [f"{part}_{row:05d}" for row in range(len(classes))]
    return InMemoryImages(images, torch.from_numpy(classes.astype(np.int64)), ids)


def load_mnist_splits(
    root: str | Path, size: int = 28, val_fraction: float = 0.1, parts: tuple[str, ...] = ("train", "val", "test")
) -> dict[str, InMemoryImages]:
    """The splits asked for: train and val from the training file, every class divided alike, and test."""
    splits: dict[str, InMemoryImages] = {}
    if "train" in parts or "val" in parts:
        everything = load_mnist(root, "train", size)
        train, val = stratified_split(everything.labels, (1 - val_fraction, val_fraction), MNIST_SPLIT_SEED)
        splits |= {"train": everything.subset(train), "val": everything.subset(val)}
    if "test" in parts:
        splits["test"] = load_mnist(root, "test", size)
    return splits


def _find(root: str | Path, name: str) -> Path:
    folder = Path(root) / "MNIST" / "raw"
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"no file {folder / name} or {name}.gz: fetch it with `lightning-cv data get mnist --root {root}`")
