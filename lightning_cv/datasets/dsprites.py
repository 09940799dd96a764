"""dSprites: 737,280 white shapes on black, one for every combination of shape, scale, orientation and position.

Matthey et al. 2017, "dSprites: disentanglement testing sprites dataset". The original file is used where it is given;
otherwise the same grid of factors is drawn from formulas fitted to published images: see `render_sprites`.
Letters: N images; S images of one look (every position, 32 x 32); w side of the window a shape is drawn in, in pixels;
B bytes of a packed image, 64 * 64 / 8.
"""

import math
import os
import uuid
import zipfile
import zlib
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

Packed = NDArray[np.uint8]
Plane = NDArray[np.float64]

_BYTES = SIDE * SIDE // 8
_FORMULAS = 2
"""Counts the versions of the formulas, so that sprites packed by an older one are drawn anew."""


class Look(NamedTuple):
    """A sprite's factors but its position: indices into `FACTOR_SIZES`."""

    shape: int
    scale: int
    orientation: int


# --- the grid of factors


def factor_values(indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Factors (N, 5) of indices (N, 5) in the original's units: shape 1 to 3, scale 0.5 to 1, radians, x and y 0 to 1.

    >>> factor_values(np.array([[2, 5, 0, 31, 0]])).tolist()
    [[3.0, 1.0, 0.0, 1.0, 0.0]]
    """
    place = np.linspace(0, 1, 32)
    ranges = (np.arange(1.0, 4.0), np.linspace(0.5, 1, 6), np.linspace(0, 2 * math.pi, 40), place, place)
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


# --- the shapes


def render_sprites(look: Look) -> NDArray[np.bool_]:
    """The sprite at every position, bool (32 x, 32 y, 64, 64), as the original draws it: no anti-aliasing.

    A pixel is white if its centre lies inside the shape, which is turned counter-clockwise on the screen. The centre
    is 16 + 32 p pixels from the left and from the top. Constants fitted to 266 published images, the 12 labelled ones
    and the frames of the authors' animation: 262 are exact, the others differ in one or two pixels.
    """
    scale, angle = 0.5 + 0.1 * look.scale, 2 * math.pi * look.orientation / 39
    reach = math.ceil(_EXTENTS[look.shape] * scale - 0.5)  # whole pixels from a centre within which the shape lies
    first = np.floor(_CENTRES).astype(np.int64) - reach
    pixels: Plane = first[:, None] + np.arange(0.5, 2 * reach + 1)  # (32, w)
    inside = _INSIDE[look.shape](pixels, scale, angle)
    sprites = np.zeros((32, 32, SIDE, SIDE), np.bool_)
    windows = [slice(start, start + 2 * reach + 1) for start in first.tolist()]
    for x, y in product(range(32), range(32)):
        sprites[x, y, windows[y], windows[x]] = inside[x, y]
    return sprites


_CENTRES = 16 + 32 * np.linspace(0, 1, 32)
_HALF_SIDE = 9.6
_HALF_AXES = (12.766, 7.2135)
_EXTENTS = (_HALF_SIDE * math.sqrt(2), _HALF_AXES[0], 11.5)
"""How far each shape reaches from its centre at scale 1, or a little more, in pixels."""
_SUBPIXELS = 256
"""Steps a pixel in which graphics hardware places corners."""


def _in_square(pixels: Plane, scale: float, angle: float) -> NDArray[np.bool_]:
    """Inside the square (32, 32, w, w) of pixel centres (32, w), which are the same for columns and rows.

    Corners lie on steps of 1/256 pixel. A centre on an edge counts for the left and the lower edge alone, as in OpenGL
    when a picture's first row is its lowest.
    """
    cos, sin = math.cos(angle) * scale * _HALF_SIDE, math.sin(angle) * scale * _HALF_SIDE
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])  # clockwise on the screen
    x_offsets, y_offsets = corners @ (cos, sin), corners @ (-sin, cos)  # (4,)
    xs, ys = (np.rint((_CENTRES[:, None] + offsets) * _SUBPIXELS) for offsets in (x_offsets, y_offsets))  # (32, 4)
    steps = pixels * _SUBPIXELS
    inside = np.ones((32, 32, pixels.shape[1], pixels.shape[1]), np.bool_)
    for corner in range(4):
        following = (corner + 1) % 4
        to_right, down = ys[:, corner] - ys[:, following], xs[:, following] - xs[:, corner]  # inward normal, (32,)
        across = to_right[None, :, None] * (steps - xs[:, corner, None])[:, None, :]  # (32 x, 32 y, w columns)
        along = down[:, None, None] * (steps - ys[:, corner, None])[None, :, :]  # (32 x, 32 y, w rows)
        counts = (to_right[None, :] > 0) | ((to_right[None, :] == 0) & (down[:, None] < 0))  # (32 x, 32 y)
        inside &= across[:, :, None, :] + (along + counts[:, :, None])[:, :, :, None] > 0  # whole numbers throughout
    return inside


def _turned(pixels: Plane, scale: float, angle: float) -> tuple[Plane, Plane]:
    """Pixel centres in the shape's own frame at scale 1: u and v, each (32 x, 32 y, w rows, w columns)."""
    offsets = (pixels - _CENTRES[:, None]) / scale
    dx, dy = offsets[:, None, None, :], offsets[None, :, :, None]
    return math.cos(angle) * dx - math.sin(angle) * dy, math.sin(angle) * dx + math.cos(angle) * dy


def _in_ellipse(pixels: Plane, scale: float, angle: float) -> NDArray[np.bool_]:
    u, v = _turned(pixels, scale, angle)
    return np.asarray((u / _HALF_AXES[0]) ** 2 + (v / _HALF_AXES[1]) ** 2 <= 1)


def _in_heart(pixels: Plane, scale: float, angle: float) -> NDArray[np.bool_]:
    """Inside the classic heart curve, squeezed to a square and moved up: star-shaped, so its radius decides."""
    u, v = _turned(pixels, scale, angle)
    return np.asarray(np.hypot(u, v) <= np.interp(np.arctan2(v, u), *_HEART))


def _heart_radius(points: int = 4096) -> tuple[Plane, Plane]:
    """Directions from -pi to pi, rising, and the heart's radius in each."""
    t = np.linspace(0, 2 * math.pi, points, endpoint=False)
    u = 9.595 * np.sin(t) ** 3
    v = -0.662 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 1.4375
    phi, radius = np.arctan2(v, u), np.hypot(u, v)
    order = np.argsort(phi, kind="stable")
    phi, radius = phi[order], radius[order]
    phi = np.concatenate([[phi[-1] - 2 * math.pi], phi, [phi[0] + 2 * math.pi]])
    return phi, np.concatenate([[radius[-1]], radius, [radius[0]]])


_HEART = _heart_radius()
_INSIDE = (_in_square, _in_ellipse, _in_heart)


# --- the packed file


def sprites_file(root: str | Path) -> Path:
    """Where the packed sprites of a data root lie; the name says what they were made of."""
    folder = Path(root) / "dsprites"
    original = folder / ORIGINAL_FILE
    source = f"original-{original.stat().st_size}" if original.is_file() else f"drawn-{_FORMULAS}"
    return folder / f"packed-{source}.npy"


def open_sprites(root: str | Path) -> Packed:
    """All sprites bit by bit, uint8 (737280, B), mapped from the file that `prepare_sprites` made."""
    path = sprites_file(root)
    if not path.is_file():
        raise DataError(f"no file {path}: it is made by DSpritesDataModule.prepare_data(), in about half a minute")
    try:
        packed: Packed = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}): delete it, and it is made anew") from None
    if packed.shape != (NUM_SPRITES, _BYTES) or packed.dtype != np.uint8:
        raise DataError(f"{path} holds {packed.dtype} {packed.shape}: delete it, and it is made anew")
    return packed


def prepare_sprites(root: str | Path) -> Path:
    """The file of 377 MB with the packed sprites in `root/dsprites`, made unless it is there and whole.

    Packed from the original file if it lies in that folder, otherwise drawn. A half-made file is never seen under its
    name; of several processes at once each makes its own, and the last one stays.
    """
    path = sprites_file(root)
    try:
        open_sprites(root)
    except DataError:
        original = path.parent / ORIGINAL_FILE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(path, _original_looks(original) if original.is_file() else _drawn_looks())
        except OSError as error:
            raise DataError(f"{path} cannot be written ({error}): it takes 377 MB; another data root will do") from None
    return path


def unpack_sprites(packed: Packed) -> NDArray[np.uint8]:
    """Sprites (N, 64, 64) of packed ones (N, B): 1 is white."""
    return np.unpackbits(packed, axis=1).reshape(-1, SIDE, SIDE)


def _write_whole(path: Path, parts: Iterator[Packed]) -> None:
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False}
    written = 0
    try:
        with open(scratch, "xb") as file:  # written, not mapped: a full disk is then an error, not a crash
            np.lib.format.write_array_header_1_0(file, header | {"shape": (NUM_SPRITES, _BYTES)})
            for part in parts:
                file.write(part.tobytes())
                written += len(part)
        assert written == NUM_SPRITES, f"{written} sprites instead of {NUM_SPRITES}"
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


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
            member.read(1)  # at its end the archive compares checksums
    except (OSError, KeyError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{source} is not dSprites' original file ({error})") from None
