"""Pictures and masks from files, and a store that keeps a split's decoded pixels in one array."""

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cv.datasets.errors import DataError

UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error),  # all seen from Pillow
    Image.DecompressionBombError,
)
"""What Pillow raises on damaged files."""


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the file's head."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except UNREADABLE as error:
        raise DataError(f"{path}: not a readable image ({error})") from None


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """The picture (H, W, 3) as stored: a rotation noted in EXIF is not applied, since annotations do not know it.

    Pillow rather than OpenCV: it refuses a truncated file where OpenCV fills up with grey.
    """
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"))
    except UNREADABLE as error:
        raise DataError(f"{path}: not a readable image ({error})") from None


def read_mask(path: Path) -> NDArray[np.uint8]:
    """The class numbers (H, W) of a palette or grey PNG."""
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L"):
                raise DataError(f"{path}: a class mask has a palette or is grey, this image is {picture.mode}")
            return np.array(picture)
    except FileNotFoundError:
        raise DataError(f"no file {path}") from None
    except UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a readable mask ({error})") from None


class PackedPixels:
    """Decoded images of a list of files in one flat array, which loader processes share instead of copying.

    Takes 3 bytes a pixel of RGB, and twice that while it is filled.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[Path], NDArray[np.uint8]]) -> None:
        first = [read(path) for path in paths]
        self._shapes = [image.shape for image in first]
        self._offsets = np.concatenate([[0], np.cumsum([image.size for image in first])]).astype(np.int64)
        self._pixels = np.concatenate([image.ravel() for image in first])

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """A copy, so that a transform may write to it."""
        flat = self._pixels[self._offsets[index] : self._offsets[index + 1]]
        return flat.reshape(self._shapes[index]).copy()
