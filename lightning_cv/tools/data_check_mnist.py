"""MNIST's and Fashion-MNIST's idx files, read independently of the data set that training uses."""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_cv.tools.data_check_findings import Findings, compare_splits
from lightning_cv.tools.data_check_layout import idx_folders

SIDE = 28
CLASSES = 10
PARTS = {"train": "train", "test": "t10k"}
"""What the parts are called, and how their files begin."""


class Idx(NamedTuple):
    """An idx file: what is wrong with it and how, or its array."""

    problem: str
    detail: str
    array: NDArray[np.uint8]


def check_mnist(root: Path, findings: Findings) -> None:
    """Checks the four files of every folder, and that train and test share no image."""
    for folder in idx_folders(root):
        splits: dict[str, dict[str, bytes]] = {}
        for part in PARTS:
            images = _checked(folder, part, "images", 3, findings)
            labels = _checked(folder, part, "labels", 1, findings)
            _compare(folder, part, images, labels, findings)
            findings.looked_at("images", 0 if images is None else len(images))
            rows = [] if images is None else list(images)
            splits[part] = {
                f"{part} image {row}": hashlib.blake2b(image.tobytes(), digest_size=16).digest()
                for row, image in enumerate(rows)
            }
        compare_splits(splits, findings, kind="image")


def idx_file(folder: Path, part: str, what: str) -> Path | None:
    """The file of a part's "images" or "labels", compressed or not; None where it is missing."""
    name = f"{PARTS[part]}-{what}-idx{3 if what == 'images' else 1}-ubyte"
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_idx_file(path: Path, dimensions: int) -> Idx:
    """What an idx file holds. Format: 0, 0, 8, the number of dimensions, each as a big-endian int32, the bytes."""
    nothing = np.zeros((0,) * dimensions, np.uint8)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        return Idx("archive that cannot be unpacked", str(error), nothing)
    magic, start = bytes([0, 0, 8, dimensions]), 4 + 4 * dimensions
    if content[:4] != magic:
        return Idx("wrong magic number", f"{content[:4].hex() or 'no bytes'} instead of {magic.hex()}", nothing)
    shape = struct.unpack(f">{dimensions}I", content[4:start]) if len(content) >= start else ()
    if not shape or len(content) - start != math.prod(shape):
        return Idx("length that differs from its header", f"{len(content):,} bytes for {shape}", nothing)
    return Idx("", "", np.frombuffer(content, np.uint8, offset=start).reshape(shape))


def _checked(folder: Path, part: str, what: str, dimensions: int, findings: Findings) -> NDArray[np.uint8] | None:
    path = idx_file(folder, part, what)
    if path is None:
        findings.problem("missing file", folder, f"{PARTS[part]}-{what}-idx{dimensions}-ubyte or .gz")
        return None
    findings.looked_at("files", 1)
    idx = read_idx_file(path, dimensions)
    if idx.problem:
        findings.problem(idx.problem, path, idx.detail)
        return None
    return idx.array


def _compare(
    folder: Path, part: str, images: NDArray[np.uint8] | None, labels: NDArray[np.uint8] | None, findings: Findings
) -> None:
    if images is not None and images.shape[1:] != (SIDE, SIDE):
        findings.problem(
            "images of another size than 28 x 28", folder, f"{part}: {images.shape[2]} x {images.shape[1]}"
        )
    if images is not None and labels is not None and len(images) != len(labels):
        findings.problem("numbers of images and labels differ", folder, f"{part}: {len(images)} and {len(labels)}")
    if labels is not None:
        for row in np.flatnonzero(labels >= CLASSES).tolist():
            findings.problem("unknown class", folder, f"{part} label {row} is {int(labels[row])}")
