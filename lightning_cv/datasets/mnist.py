"""MNIST and Fashion-MNIST from their four idx files, compressed or not, whatever number of images they hold.

LeCun, Cortes and Burges 1998; Xiao, Rasul and Vollgraf 2017. Files lie in `root/MNIST/raw` and `root/FashionMNIST/raw`,
where torchvision puts them. Letters: N images; P pixels of an image.

Binary images: a pixel of value v (of 255) is white with probability v / 255. "static" draws every pixel once, the same
in every run; "dynamic" draws the training images anew in each epoch, and leaves validation and test as static.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from lightning_cv.contracts import Draw, ImageBatch, LabelMap
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.memory import InMemoryImages, stratified_split

Binarization = Literal["grey", "static", "dynamic"]
Resize = Literal["pad", "stretch"]
Counters = NDArray[np.uint64]

MNIST_SPLIT_SEED = 1998
"""Seed of the division of the training file into train and val."""

MNIST_BINARY_SEED = 2011
"""Seed of the static draw. It is our own: the file that Larochelle and Murray published in 2011 is another draw."""

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
"""Fashion-MNIST's class names in the order of their labels, 0 to 9."""

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_FETCHED_AS = {"MNIST": "mnist", "FashionMNIST": "fashion-mnist"}


def fashion_labels() -> LabelMap:
    """The label map of Fashion-MNIST."""
    return LabelMap(FASHION_CLASSES, first=0, dataset_ids=tuple(range(10)))


# --- files


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


def load_mnist(
    root: str | Path,
    part: str,
    size: int = 28,
    name: str = "MNIST",
    binary: bool = False,
    resize: Resize = "pad",
) -> InMemoryImages:
    """All images of the file "train" or "test" as uint8 (N, 1, size, size).

    Args:
        root: data root.
        part: "train" or "test".
        size: side in pixels, at least 28.
        name: of the folder: MNIST or FashionMNIST.
        binary: the static draw, 0 or 255, instead of grey values.
        resize: how 28 pixels become `size`: "pad" adds black borders evenly, "stretch" interpolates bilinearly.
    """
    pixels, classes = _read_part(root, part, name)
    return _stored(draw_once(pixels, part) if binary else pixels, classes, part, size, resize)


def load_mnist_splits(
    root: str | Path,
    size: int = 28,
    val_fraction: float = 0.1,
    parts: tuple[str, ...] = ("train", "val", "test"),
    name: str = "MNIST",
    binarization: Binarization = "grey",
    resize: Resize = "pad",
) -> dict[str, InMemoryImages]:
    """The splits asked for: train and val from the training file, every class divided alike, and test.

    Dynamic training images are grey: what draws them is `DrawnAnew`.
    """
    splits: dict[str, InMemoryImages] = {}
    if "train" in parts or "val" in parts:
        pixels, classes = _read_part(root, "train", name)
        grey = _stored(pixels, classes, "train", size, resize)
        binary = grey
        if binarization != "grey":
            binary = _stored(draw_once(pixels, "train"), classes, "train", size, resize)
        train, val = stratified_split(grey.labels, (1 - val_fraction, val_fraction), MNIST_SPLIT_SEED)
        splits |= {"train": (binary if binarization == "static" else grey).subset(train), "val": binary.subset(val)}
    if "test" in parts:
        splits["test"] = load_mnist(root, "test", size, name, binarization != "grey", resize)
    return splits


def _read_part(root: str | Path, part: str, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels (N, 28, 28) and classes (N,) of the file "train" or "test"."""
    images_path, labels_path = (_find(root, name, file) for file in _FILES[part])
    pixels, classes = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(pixels) != len(classes):
        raise DataError(f"{images_path} holds {len(pixels)} images, {labels_path.name} {len(classes)} labels")
    if pixels.shape[1:] != (28, 28):
        raise DataError(f"{images_path} holds images of {pixels.shape[2]} x {pixels.shape[1]} pixels, not 28 x 28")
    if len(classes) and classes.max() > 9:
        kind = "digits" if name == "MNIST" else "classes"
        raise DataError(f"{labels_path} holds the label {classes.max()}: {kind} are 0 to 9")
    return pixels, classes


def _stored(
    pixels: NDArray[np.uint8], classes: NDArray[np.uint8], part: str, size: int, resize: Resize
) -> InMemoryImages:
    if size < 28:
        raise ValueError(f"MNIST has 28 x 28 pixels and is only enlarged, got size {size}")
    if size == 28:
        images = torch.from_numpy(pixels.copy())
    else:
        images = _padded(pixels, size) if resize == "pad" else _stretched(pixels, size)
    ids = [f"{part}_{row:05d}" for row in range(len(classes))]
    return InMemoryImages(images.unsqueeze(1), torch.from_numpy(classes.astype(np.int64)), ids)


def _padded(pixels: NDArray[np.uint8], size: int) -> Tensor:
    """Images (N, size, size) with black borders."""
    before, after = (size - 28) // 2, (size - 28 + 1) // 2
    return functional.pad(torch.from_numpy(pixels.copy()), (before, after, before, after))


def _stretched(pixels: NDArray[np.uint8], size: int) -> Tensor:
    """Images (N, size, size) as Pillow enlarges them: what torchvision's `Resize` gave others' nets to train on."""
    images = np.empty((len(pixels), size, size), np.uint8)
    for image, into in zip(pixels, images, strict=True):
        into[:] = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    return torch.from_numpy(images)


def _find(root: str | Path, name: str, file: str) -> Path:
    folder = Path(root) / name / "raw"
    for path in (folder / file, folder / f"{file}.gz"):
        if path.is_file():
            return path
    command = f"lightning-cv data get {_FETCHED_AS[name]} --root {root}"
    raise DataError(f"no file {folder / file} or {file}.gz: fetch it with `{command}`")


# --- binary images


class DrawnAnew(InMemoryImages):
    """Grey images as uint8 (N, C, H, W) of which each batch holds a binary draw: a function of (seed, epoch, index).

    Args:
        grey: the images.
        seed: of the run.
    """

    def __init__(self, grey: InMemoryImages, seed: int) -> None:
        super().__init__(grey.images, grey.labels, grey.ids)
        self.seed = seed

    def __getitem__(self, draws: list[Draw]) -> ImageBatch:
        epochs, rows = np.array([draw.epoch for draw in draws]), np.array([draw.index for draw in draws])
        chosen = torch.from_numpy(rows)
        grey = self.images.index_select(0, chosen)
        white = draw_pixels(grey.flatten(1).numpy(), image_seeds(self.seed, epochs, rows))
        images = torch.from_numpy(white).view(grey.shape).to(torch.float32)
        return {"images": images, "labels": self.labels[chosen], "image_ids": [self.ids[row] for row in rows.tolist()]}


def draw_once(pixels: NDArray[np.uint8], part: str, images: int = 4096) -> NDArray[np.uint8]:
    """The static draw of a file's images (N, 28, 28): 0 or 255, a function of the file and the row alone."""
    drawn = np.empty_like(pixels)
    for first in range(0, len(pixels), images):
        some = pixels[first : first + images].reshape(-1, 28 * 28)
        rows = np.arange(first, first + len(some))
        seeds = image_seeds(MNIST_BINARY_SEED, np.full(len(some), list(_FILES).index(part)), rows)
        drawn[first : first + images] = draw_pixels(some, seeds).reshape(-1, 28, 28) * np.uint8(255)
    return drawn


def draw_pixels(pixels: NDArray[np.uint8], seeds: Counters) -> NDArray[np.bool_]:
    """White with probability v / 255 for each value v of pixels (N, P): a function of the image's seed (N,) alone.

    Steele, Lea and Flood 2014, SplitMix64, four pixels a number; a probability is met to within 1 / 131072.
    """
    numbers = -(-pixels.shape[1] // 4)
    steps: Counters = np.arange(1, numbers + 1, dtype=np.uint64) * _STEP
    states: Counters = seeds[:, None] + steps[None]  # (N, P / 4)
    noise = _scrambled(states).astype("<u8", copy=False).view("<u2")[:, : pixels.shape[1]]  # (N, P), 0 to 65535
    return np.asarray(noise < _CHANCES[pixels])


def image_seeds(seed: int, epochs: NDArray[np.int64], indices: NDArray[np.int64]) -> Counters:
    """`mix(seed, epoch, index)` of many images at once, (N,)."""
    states = np.zeros(len(indices), np.uint64)
    for counter in (np.full(len(indices), seed % (1 << 64), np.uint64), epochs, indices):
        states = _scrambled(states + counter.astype(np.uint64) + _STEP)
    return states >> np.uint64(1)


_STEP = np.uint64(0x9E3779B97F4A7C15)
_CHANCES = np.round(np.arange(256) * (65536 / 255)).astype(np.uint32)


def _scrambled(states: Counters) -> Counters:
    """SplitMix64's finaliser; multiplication wraps."""
    states = (states ^ (states >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    states = (states ^ (states >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return states ^ (states >> np.uint64(31))
