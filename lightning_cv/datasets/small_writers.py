"""Small made-up data in the layouts of MNIST and CelebA, for tests and for trying things without a download.

A folder appears whole or not at all; one that holds something is never written to. Letters: N images.
"""

import gzip
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_cv.datasets.celeba import (
    ATTRIBUTES_FILE,
    BOXES_FILE,
    IDENTITY_FILE,
    IMAGES_FOLDER,
    LANDMARKS_FILE,
    PARTITION_FILE,
    PARTITIONS,
)
from lightning_cv.datasets.digits import load_digit_splits
from lightning_cv.datasets.errors import DataError
from lightning_cv.ops.counters import mix

CELEBA_ATTRIBUTES = (
    *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose"),
    *("Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses"),
    *("Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache"),
    *("Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks"),
    *("Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick"),
    *("Wearing_Necklace", "Wearing_Necktie", "Young"),
)
"""CelebA's 40 attributes in the order of its list."""


class DrawnFace(NamedTuple):
    """A made-up face and what is true of it."""

    image: NDArray[np.uint8]  # (218, 178, 3) RGB
    attributes: NDArray[
        np.bool_
    ]  # (40,); Smiling, Eyeglasses, Black_Hair and Blond_Hair can be seen, the rest is noise
    landmarks: NDArray[np.int64]  # (5, 2), x and y of the eyes, the nose and the corners of the mouth


# --- MNIST


def write_mnist(root: str | Path, counts: dict[str, int] | None = None, seed: int = 0, fashion: bool = False) -> Path:
    """The folder `root/MNIST/raw` of four compressed idx files with scikit-learn's digits, enlarged and shifted.

    Args:
        root: data root.
        counts: images of "train" and of "test"; None for 300 and 40. Beyond the 1258 and 269 real digits they recur
            at other places.
        seed: of the places.
        fashion: the same below `root/FashionMNIST`.
    """
    counts = counts or {"train": 300, "test": 40}
    if sorted(counts) != ["test", "train"] or min(counts.values()) < 1:
        raise ValueError(f"MNIST's layout needs counts of at least 1 for train and test, got {counts}")
    digits = load_digit_splits(size=20)

    def fill(folder: Path) -> None:
        for number, (part, prefix) in enumerate((("train", "train"), ("test", "t10k"))):
            source, rng = digits[part], np.random.default_rng(mix(seed, number))
            rows = np.arange(counts[part]) % len(source)
            pixels = np.zeros((counts[part], 28, 28), np.uint8)
            small = (source.images[rows, 0].numpy() * 255).round().astype(np.uint8)  # (N, 20, 20)
            for image, digit, (top, left) in zip(pixels, small, rng.integers(1, 8, (len(rows), 2)), strict=True):
                image[top : top + 20, left : left + 20] = digit
            _write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", pixels)
            _write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", source.labels[rows].numpy().astype(np.uint8))

    return _write_whole(Path(root) / ("FashionMNIST" if fashion else "MNIST") / "raw", fill)


def _write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=1, mtime=0))


# --- CelebA


def write_celeba(root: str | Path, counts: dict[str, int] | None = None, seed: int = 0) -> Path:
    """The folder `root/celeba` of drawn faces with all six lists.

    Args:
        root: data root.
        counts: faces by partition; None for 24 of train, 6 of val and 6 of test.
        seed: of the faces: one depends on it and on its number alone.
    """
    counts = counts or {"train": 24, "val": 6, "test": 6}
    if not set(counts) <= set(PARTITIONS) or sum(counts.values()) < 1:
        raise ValueError(f"CelebA's layout needs counts of faces for {', '.join(PARTITIONS)}, got {counts}")
    partition = [number for number, split in enumerate(PARTITIONS) for _ in range(counts.get(split, 0))]
    names = [f"{number:06d}.jpg" for number in range(1, len(partition) + 1)]

    def fill(folder: Path) -> None:
        (folder / IMAGES_FOLDER).mkdir()
        faces = [draw_face(mix(seed, number)) for number in range(len(names))]
        for name, face in zip(names, faces, strict=True):
            if not cv2.imwrite(str(folder / IMAGES_FOLDER / name), face.image[..., ::-1], _JPEG):
                raise OSError(f"{folder / IMAGES_FOLDER / name}: the picture could not be written")
        marks = (" ".join(f"{1 if mark else -1:2d}" for mark in face.attributes) for face in faces)
        points = (" ".join(map(str, face.landmarks.ravel())) for face in faces)
        boxes = (f"{95 + number} {70 + number} {220 + number} {310 + number}" for number in range(len(names)))
        _write_list(folder / ATTRIBUTES_FILE, names, marks, " ".join(CELEBA_ATTRIBUTES))
        _write_list(folder / LANDMARKS_FILE, names, points, _LANDMARK_TITLES)
        _write_list(folder / BOXES_FILE, names, boxes, "image_id x_1 y_1 width height")
        _write_list(folder / PARTITION_FILE, names, map(str, partition))
        _write_list(folder / IDENTITY_FILE, names, (str(1 + number // 2) for number in range(len(names))))

    return _write_whole(Path(root) / "celeba", fill)


def draw_face(seed: int) -> DrawnFace:
    """A face of ellipses on a plain ground, with CelebA's size and about its places of eyes, nose and mouth."""
    rng = np.random.default_rng(seed)
    attributes = rng.random(len(CELEBA_ATTRIBUTES)) < 0.3
    has = dict(zip(CELEBA_ATTRIBUTES, attributes.tolist(), strict=True))
    landmarks = _LANDMARKS + rng.integers(-2, 3, _LANDMARKS.shape)
    skin = np.array([230, 190, 160]) * rng.uniform(0.5, 1)
    hair = (15, 15, 15) if has["Black_Hair"] else (235, 215, 130) if has["Blond_Hair"] else (110, 70, 40)
    image = np.empty((218, 178, 3), np.uint8)
    image[:] = rng.integers(0, 256, 3)
    middle = landmarks[:3].mean(axis=0).round().astype(int).tolist()
    _ellipse(image, (middle[0], middle[1] - 12), (66, 84), hair)
    _ellipse(image, (middle[0], middle[1] + 8), (50, 68), tuple(skin))
    for eye in landmarks[:2].tolist():
        _ellipse(image, eye, (9, 5), (250, 250, 250))
        _ellipse(image, eye, (4, 4), (40, 40, 40))
        if has["Eyeglasses"]:
            cv2.ellipse(image, eye, (16, 13), 0, 0, 360, (20, 20, 20), 2)
    _ellipse(image, landmarks[2].tolist(), (6, 9), tuple(skin * 0.8))
    (left, right) = landmarks[3:].tolist()
    bend = 9 if has["Smiling"] else 0
    lips = np.array([left, [(left[0] + right[0]) // 2, (left[1] + right[1]) // 2 + bend], right])
    cv2.polylines(image, [lips.astype(np.int32)], False, (170, 50, 60), 4)
    return DrawnFace(image, attributes, landmarks)


_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
_LANDMARKS = np.array([(69, 111), (108, 111), (89, 135), (73, 152), (105, 152)])
_LANDMARK_TITLES = (
    "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
)


def _ellipse(image: NDArray[np.uint8], centre: Iterable[int], axes: tuple[int, int], colour: tuple[float, ...]) -> None:
    cv2.ellipse(image, tuple(centre), axes, 0, 0, 360, tuple(float(value) for value in colour), -1)


def _write_list(path: Path, names: list[str], rows: Iterable[str], titles: str | None = None) -> None:
    """A list as the authors write it: those with titles begin with the number of rows."""
    head = "" if titles is None else f"{len(names)}\n{titles} \n"
    path.write_text(head + "".join(f"{name} {row}\n" for name, row in zip(names, rows, strict=True)))


def _write_whole(folder: Path, fill: Callable[[Path], None]) -> Path:
    """The folder, filled under another name beside it first."""
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} is there already: nothing written")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        content = scratch / folder.name  # made here, with the permissions that people expect
        content.mkdir()
        fill(content)
        os.rename(content, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder
