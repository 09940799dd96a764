"""A data root in which every shipped experiment finds small drawn data under the names and classes it expects."""

import gzip
import re
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_cv.datasets import DRAWN_CLASSES, VOC_CLASSES, write_voc
from lightning_cv.datasets.dsprites import FACTOR_SIZES, NUM_SPRITES, SIDE, Look, render_sprites, sprites_file
from lightning_cv.datasets.small_writers import write_celeba


def make_data_root(root: Path) -> Path:
    """Drawn scenes as VOC 2007 (objects renamed to VOC's classes), made-up digits as MNIST, faces, and sprites.

    In every second scene all objects but the first are difficult.
    """
    devkit = write_voc(root, "2007", {"train": 8, "val": 4, "test": 4}, seed=0, size=96)
    renamed = dict(zip(DRAWN_CLASSES, VOC_CLASSES, strict=False))
    for number, annotation in enumerate(sorted((devkit / "Annotations").glob("*.xml"))):
        text = re.sub(
            r"<name>(\w+)</name>", lambda m: f"<name>{renamed.get(m[1], m[1])}</name>", annotation.read_text()
        )
        if number % 2:
            first, mark, others = text.partition("</object>")
            text = first + mark + others.replace("<difficult>0<", "<difficult>1<")
        annotation.write_text(text)
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    numbers = np.random.default_rng(0)
    for part, count in (("train", 300), ("t10k", 40)):
        write_idx(raw / f"{part}-images-idx3-ubyte.gz", numbers.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        write_idx(raw / f"{part}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    write_celeba(root, {"train": 6, "val": 4, "test": 4}, seed=0)
    write_sprites(root)
    return root


def write_sprites(root: Path) -> None:
    """dSprites' packed file, of which the first look of each shape is drawn: the others take no room on the disk."""
    path = sprites_file(root)
    path.parent.mkdir(parents=True)
    packed = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(NUM_SPRITES, SIDE * SIDE // 8))
    for shape in range(FACTOR_SIZES[0]):
        first = shape * NUM_SPRITES // FACTOR_SIZES[0]
        packed[first : first + 1024] = np.packbits(render_sprites(Look(shape, 0, 0)).reshape(-1, SIDE * SIDE), axis=1)
    packed.flush()


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=1))
