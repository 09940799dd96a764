"""Small folders in the layouts of CelebA, MNIST and class masks, good in every respect."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FACES = [f"{number:06d}.jpg" for number in range(1, 7)]


def make_celeba(root: Path) -> Path:
    """Six faces of noise, in all three partitions."""
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    noise = np.random.default_rng(0)
    for name in FACES:
        Image.fromarray(noise.integers(0, 256, (218, 178, 3), np.uint8)).save(folder / "img_align_celeba" / name)
    parts = zip(FACES, (0, 0, 0, 1, 1, 2), strict=True)
    (folder / "list_eval_partition.txt").write_text("".join(f"{name} {part}\n" for name, part in parts))
    (folder / "identity_CelebA.txt").write_text("".join(f"{name} {5 + row}\n" for row, name in enumerate(FACES)))
    for name, columns, value in (("attr", 40, "-1"), ("bbox", 4, "17"), ("landmarks_align", 10, "60")):
        titles = ["image_id"] if name == "bbox" else []
        header = " ".join(titles + [f"column_{column}" for column in range(columns)])
        rows = "".join(f"{face}  {'  '.join([value] * columns)}\n" for face in FACES)
        (folder / f"list_{name}_celeba.txt").write_text(f"{len(FACES)}\n{header}\n{rows}")
    return folder


def make_mnist(root: Path) -> Path:
    """20 and 10 images of noise, two and one of every class; images compressed, labels not."""
    folder = root / "MNIST/raw"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for part, count in (("train", 20), ("t10k", 10)):
        images = noise.integers(0, 256, (count, 28, 28), np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes((np.arange(count) % 10).astype(np.uint8)))
    return folder


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def make_masks(root: Path) -> Path:
    """Two pictures of 8 x 6 pixels with masks of three classes, for training and for validation."""
    noise = np.random.default_rng(0)
    for split in ("train", "val"):
        for part in ("images", "masks"):
            (root / split / part).mkdir(parents=True)
        for number in range(2):
            picture = noise.integers(0, 256, (6, 8, 3), np.uint8)
            Image.fromarray(picture).save(root / split / f"images/{split}{number}.png")
            Image.fromarray(picture[..., 0] % 3).save(root / split / f"masks/{split}{number}.png")
    return root
