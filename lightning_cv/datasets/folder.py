"""A plain folder of pictures, for autoencoders: whatever lies below it, in the order of the names. Letters: N, H, W."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.images import UNREADABLE
from lightning_cv.datasets.repairs import Repairs

PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
"""Endings of the files that count as pictures, in small or capital letters."""

FOLDER_SPLIT_SEED = 1
"""Seed of the division into train, val and test."""

Picture = NDArray[np.uint8]


class PictureSample(TypedDict):
    """One picture, before any transform."""

    image_id: str
    image: Picture  # (H, W, 3) RGB, or what `shrink` made of it
    label: int


def find_pictures(folder: str | Path) -> list[str]:
    """Paths of all pictures below a folder, relative to it, sorted; hidden files and linked folders are passed over."""
    top = Path(folder)
    if not top.is_dir():
        raise DataError(f"no folder {top}: `data.root` names a folder of pictures")
    found: list[str] = []
    for place, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(".")]
        pictures = (name for name in files if name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith("."))
        found += [(Path(place) / name).relative_to(top).as_posix() for name in pictures]
    if not found:
        raise DataError(f"{top} holds no pictures ({', '.join(PICTURE_SUFFIXES)})")
    return sorted(found)


def split_pictures(names: list[str], val_fraction: float, test_fraction: float) -> dict[str, list[str]]:
    """The names divided at random, the same in every run, at least one for each part; each part sorted."""
    if min(val_fraction, test_fraction) <= 0 or val_fraction + test_fraction >= 1:
        raise ValueError(f"the shares of val and test must lie between 0 and 1, got {val_fraction} and {test_fraction}")
    if len(names) < 3:
        raise DataError(f"{len(names)} picture(s) cannot be divided into train, val and test: at least 3 are needed")
    order = np.random.default_rng(FOLDER_SPLIT_SEED).permutation(len(names)).tolist()
    val, test = (max(1, round(share * len(names))) for share in (val_fraction, test_fraction))
    while val + test >= len(names):  # tiny folders: something must be left for training
        val, test = max(1, val - 1), max(1, test - 1)
    rows = {"val": order[:val], "test": order[val : val + test], "train": order[val + test :]}
    return {part: [names[row] for row in sorted(chosen)] for part, chosen in rows.items()}


def read_picture(path: Path) -> Picture:
    """The picture (H, W, 3) RGB, turned as its EXIF says; of a moving one the first frame."""
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(("I", "F")):
                raise ValueError(f"its mode {picture.mode} has more than 8 bits a channel")
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    except UNREADABLE as error:
        raise DataError(f"{path}: not a readable picture ({error})") from None


class FolderImages:
    """Pictures of a folder by position; those that cannot be read are left out, counted by `repairs`.

    Args:
        folder: where they lie.
        names: relative to it.
        repairs: is told of each that cannot be read.
        shrink: applied to every picture, once: the results, of one shape, are kept in memory. None reads a file each
            time.
        check: read every file once now, even if nothing is kept; otherwise a broken one is an error in its turn.
    """

    def __init__(
        self,
        folder: str | Path,
        names: list[str],
        repairs: Repairs,
        shrink: Callable[[Picture], Picture] | None = None,
        check: bool = True,
    ) -> None:
        self.folder, self.names = Path(folder), names
        self._kept: Picture | None = None  # (N, S, S, C)
        if check or shrink is not None:
            self._keep_readable(repairs, shrink)
        if not self.names:
            raise DataError(f"{folder}: none of {len(names)} pictures can be read, the first is {names[0]}")

    def _keep_readable(self, repairs: Repairs, shrink: Callable[[Picture], Picture] | None) -> None:
        readable: list[str] = []
        for name in self.names:
            try:
                picture = read_picture(self.folder / name)
            except DataError as error:
                repairs.note("picture that cannot be read left out", str(error))
                continue
            if shrink is not None:
                small = shrink(picture)
                if self._kept is None:
                    self._kept = np.empty((len(self.names), *small.shape), np.uint8)
                self._kept[len(readable)] = small
            readable.append(name)
        self.names = readable

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> PictureSample:
        name = self.names[index]
        image = read_picture(self.folder / name) if self._kept is None else self._kept[index].copy()
        return {"image_id": name, "image": image, "label": 0}
