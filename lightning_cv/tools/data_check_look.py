"""Picture and mask files decoded, in several processes. Imports little, since every process does it anew."""

import hashlib
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Kind = Literal["picture", "mask", "ids"]
"""A picture, a palette or grey PNG of class numbers, or a PNG of ids as red + 256 green + 65536 blue."""

_FEW = 64  # files that are read before another process would have started

T = TypeVar("T")


class Look(NamedTuple):
    """What a file holds: an error, or its size in pixels, Pillow's mode and a digest of its bytes.

    Of masks and ids also the pixels of every value.
    """

    error: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    digest: bytes = b""
    values: tuple[tuple[int, int], ...] = ()

    @property
    def size(self) -> str:
        """In words: "500 x 375"."""
        return f"{self.width} x {self.height}"


def look(path: Path, kind: Kind) -> Look:
    """Reads a file as a whole, so that one that is cut off is noticed."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            digest = hashlib.blake2b(content, digest_size=16).digest()
            values = () if kind == "picture" else _values(picture, kind)
            return Look("", picture.width, picture.height, picture.mode, digest, values)
    except UnidentifiedImageError:
        return Look("empty file" if not content else "no image of a known kind")
    except Exception as error:  # Pillow's readers raise many kinds of errors on damaged files
        return Look(str(error) or type(error).__name__)


def look_at(paths: Sequence[Path], kind: Kind, jobs: int, what: str) -> dict[Path, Look]:
    """What all the files hold.

    Args:
        paths: of the files.
        kind: what they should be.
        jobs: processes at most; few files are read in this one.
        what: name of the work, shown with a bar on a terminal.
    """
    task = partial(look, kind=kind)
    if jobs == 1 or len(paths) <= _FEW:
        return dict(zip(paths, with_bar(map(task, paths), len(paths), what), strict=True))
    # new processes, not forked ones: the bar has a thread
    with ProcessPoolExecutor(min(jobs, len(paths)), mp_context=get_context("spawn")) as pool:
        looks = pool.map(task, paths, chunksize=16)
        return dict(zip(paths, with_bar(looks, len(paths), what), strict=True))


def available_processors() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0))


def with_bar(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items, with a bar on the error stream if that is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, total, console=Console(stderr=True), transient=True)


def _values(picture: Image.Image, kind: Kind) -> tuple[tuple[int, int], ...]:
    pixels: NDArray[np.int64]
    if kind == "ids":
        pixels = np.asarray(picture.convert("RGB"), np.int64) @ np.array([1, 256, 65536])
    elif picture.mode in ("P", "L"):
        pixels = np.asarray(picture, np.int64)
    else:
        return ()
    values, counts = np.unique(pixels, return_counts=True)
    return tuple(zip(values.tolist(), counts.tolist(), strict=True))
