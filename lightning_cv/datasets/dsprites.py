"""dSprites: 737,280 white shapes on black, one for every combination of shape, scale, orientation and position.

Matthey et al. 2017, "dSprites: disentanglement testing sprites dataset". The original file is used where it is given;
otherwise the same grid of factors is drawn from formulas fitted to published images: see `render_sprites`.
Letters: S images of one look (every position, 32 x 32); H = W = 64; B bytes of a packed image, 64 * 64 / 8.
"""

import json
import math
import os
import tempfile
import zipfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_cv.datasets.errors import DataError

FACTOR_NAMES = ("shape", "scale", "orientation", "x", "y")
FACTOR_SIZES = (3, 6, 40, 32, 32)
SHAPES = ("square", "ellipse", "heart")
NUM_SPRITES = math.prod(FACTOR_SIZES)
SIDE = 64
ORIGINAL_FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
"""Name of the original file."""

_BYTES = SIDE * SIDE // 8
_CACHE_FILE = "dsprites_packed.npy"
_SOURCE_FILE = "dsprites_packed.json"
_PROCEDURAL = "drawn from formulas, version 1"


Packed = NDArray[np.uint8]
Plane = NDArray[np.float64]


class Look(NamedTuple):
    """A sprite's factors but its position: indices into `FACTOR_SIZES`."""

    shape: int
    scale: int
    orientation: int


def factor_values(indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Factors (N, 5) of indices (N, 5) in the original's units: shape 1 to 3, scale 0.5 to 1, radians, x and y 0 to 1."""
    ranges = (np.arange(1.0, 4.0), np.linspace(0.5, 1, 6), np.linspace(0, 2 * math.pi, 40), *[np.linspace(0, 1, 32)] * 2)
    return np.stack([values[column] for values, column in zip(ranges, indices.T, strict=True)], axis=1)


def factors_of(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Factor indices (N, 5) of image numbers (N,)."""
    return np.stack(np.unravel_index(rows, FACTOR_SIZES), axis=1)


def rows_of(factors: NDArray[np.int64]) -> NDArray[np.int64]:
    """Image numbers (N,) of factor indices (N, 5).

    >>> rows_of(np.array([[2, 5, 39, 31, 31]])).tolist()
    [737279]
    """
    return np.asarray(np.ravel_multi_index(tuple(factors.T), FACTOR_SIZES), np.int64)


def render_sprites(look: Look) -> NDArray[np.bool_]:
    """The sprite at every position, bool (32 x, 32 y, 64, 64), as the original draws it: no anti-aliasing.

    A pixel is white if its centre lies inside the shape, which is turned counter-clockwise on the screen. The centre
    is 16 + 32 p pixels from the left and top. Constants fitted to 112 published images: squares and their sizes are
    exact but for pixels whose centre an edge all but touches; about half the ellipses and two thirds of the hearts are
    exact, the others differ in one to three pixels.
    """
    scale = 0.5 + 0.1 * look.scale
    angle = 2 * math.pi * look.orientation / 39
    centres = 16 + 32 * np.linspace(0, 1, 32)
    starts = np.floor(centres).astype(np.int64) - _REACH
    offsets = (starts[:, None] + np.arange(_WINDOW) + 0.5 - centres[:, None]) / scale  # (32, _WINDOW)
    dx, dy = offsets[:, None, None, :], offsets[None, :, :, None]
    u = math.cos(angle) * dx - math.sin(angle) * dy  # (32 x, 32 y, rows, columns)
    v = math.sin(angle) * dx + math.cos(angle) * dy
    inside = _INSIDE[look.shape](u, v)
    sprites = np.zeros((32, 32, SIDE, SIDE), np.bool_)
    for x, y in product(range(32), range(32)):
        rows, columns = slice(starts[y], starts[y] + _WINDOW), slice(starts[x], starts[x] + _WINDOW)
        sprites[x, y, rows, columns] = inside[x, y]
    return sprites


_REACH = 14
"""Whole pixels from a centre within which a shape lies; a centre is at least 16 pixels from the frame."""
_WINDOW = 2 * _REACH + 1
_HALF_SIDE = 9.6
_HALF_AXES = (12.8, 7.2)


def _in_square(u: Plane, v: Plane) -> NDArray[np.bool_]:
    return np.maximum(np.abs(u), np.abs(v)) <= _HALF_SIDE


def _in_ellipse(u: Plane, v: Plane) -> NDArray[np.bool_]:
    return (u / _HALF_AXES[0]) ** 2 + (v / _HALF_AXES[1]) ** 2 <= 1


def _in_heart(u: Plane, v: Plane) -> NDArray[np.bool_]:
    """Inside the classic heart curve, squeezed into a square of 19.2 pixels: star-shaped, so its radius decides."""
    phi, radius = _heart_radius()
    return np.hypot(u, v) <= np.interp(np.arctan2(v, u), phi, radius)


def _heart_radius(points: int = 4096) -> tuple[Plane, Plane]:
    """Directions from -pi to pi, rising, and the heart's radius in each."""
    t = np.linspace(0, 2 * math.pi, points, endpoint=False)
    u = 0.6 * 16 * np.sin(t) ** 3
    v = -0.66383 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 1.4585
    phi, radius = np.arctan2(v, u), np.hypot(u, v)
    order = np.argsort(phi, kind="stable")
    phi, radius = phi[order], radius[order]
    return np.concatenate([[phi[-1] - 2 * math.pi], phi, [phi[0] + 2 * math.pi]]), np.concatenate(
        [[radius[-1]], radius, [radius[0]]]
    )


_INSIDE = (_in_square, _in_ellipse, _in_heart)


def open_sprites(root: str | Path) -> Packed:
    """All sprites bit by bit, uint8 (737280, B), mapped from a file of 377 MB in `root/dsprites`, made at first use.

    Packed from the original file if it lies in that folder, otherwise drawn. One process makes it, see
    `prepare_sprites`; a half-made file is never seen under its name.
    """
    folder = Path(root) / "dsprites"
    try:
        packed: Packed = np.load(folder / _CACHE_FILE, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder / _CACHE_FILE} cannot be opened ({error}): delete it, and it is made anew") from None
    if packed.shape != (NUM_SPRITES, _BYTES) or packed.dtype != np.uint8:
        raise DataError(f"{folder / _CACHE_FILE} holds {packed.dtype} {packed.shape}: delete it, and it is made anew")
    return packed


def prepare_sprites(root: str | Path) -> Path:
    """The folder with the packed sprites, made unless they are there; about half a minute."""
    folder = Path(root) / "dsprites"
    source = folder / ORIGINAL_FILE
    made_of = _PROCEDURAL if not source.is_file() else f"{source.name}, {source.stat().st_size} bytes"
    record = folder / _SOURCE_FILE
    if (folder / _CACHE_FILE).is_file() and record.is_file() and json.loads(record.read_text())["from"] == made_of:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    looks = _original_looks(source) if source.is_file() else _drawn_looks()
    handle, scratch = tempfile.mkstemp(prefix=".sprites-", suffix=".npy", dir=folder)
    os.close(handle)
    try:
        packed = np.lib.format.open_memmap(scratch, mode="w+", dtype=np.uint8, shape=(NUM_SPRITES, _BYTES))
        first = 0
        for part in looks:
            packed[first : first + len(part)] = part
            first += len(part)
        packed.flush()
        del packed
        os.replace(scratch, folder / _CACHE_FILE)
    finally:
        Path(scratch).unlink(missing_ok=True)
    record.write_text(json.dumps({"from": made_of}))
    return folder


def _drawn_looks() -> Iterator[Packed]:
    for look in product(*(range(size) for size in FACTOR_SIZES[:3])):
        yield np.packbits(render_sprites(Look(*look)).reshape(-1, SIDE * SIDE), axis=1)  # (S, B)


def _original_looks(source: Path, images: int = 4096) -> Iterator[Packed]:
    """The original's images in parts: unpacked whole they would take 3 GB."""
    try:
        with zipfile.ZipFile(source) as archive, archive.open("imgs.npy") as member:
            version = np.lib.format.read_magic(member)
            if version != (1, 0):
                raise ValueError(f"imgs.npy has format version {version}")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
            if shape != (NUM_SPRITES, SIDE, SIDE) or fortran or dtype != np.uint8:
                raise ValueError(f"imgs holds {dtype} {shape}, not uint8 {(NUM_SPRITES, SIDE, SIDE)}")
            for first in range(0, NUM_SPRITES, images):
                count = min(images, NUM_SPRITES - first)
                part = np.frombuffer(member.read(count * SIDE * SIDE), np.uint8)
                yield np.packbits(part.reshape(count, SIDE * SIDE), axis=1)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{source} is not dSprites' original file ({error})") from None
