"""CelebA's aligned faces: 202,599 pictures of 178 x 218 pixels with 40 attributes, identities and the official split.

Liu, Luo, Wang and Tang 2015, "Deep learning face attributes in the wild". `root/celeba` holds the authors' files:
`img_align_celeba/*.jpg`, `list_attr_celeba.txt`, `list_eval_partition.txt`, `identity_CelebA.txt`, and, if they are
there, `list_landmarks_align_celeba.txt` and `list_bbox_celeba.txt`. Letters: N images; A attributes.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.images import read_rgb
from lightning_cv.datasets.repairs import Repairs

PARTITIONS = ("train", "val", "test")
"""Names of the official partitions 0, 1 and 2."""

CELEBA_SPLIT_SEED = 2015
"""Seed of our own division of the training partition."""

ATTRIBUTES_FILE = "list_attr_celeba.txt"
PARTITION_FILE = "list_eval_partition.txt"
IDENTITY_FILE = "identity_CelebA.txt"
LANDMARKS_FILE = "list_landmarks_align_celeba.txt"
BOXES_FILE = "list_bbox_celeba.txt"
IMAGES_FOLDER = "img_align_celeba"

SIZE = (178, 218)
"""Width and height of an aligned picture in pixels: crops and landmarks are stated in these."""

Picture = NDArray[np.uint8]


class CelebATable(NamedTuple):
    """What the lists say of N images, in the order of the partition list."""

    folder: Path  # of the pictures
    names: NDArray[np.str_]  # (N,) file names
    attribute_names: tuple[str, ...]
    attributes: NDArray[np.bool_]  # (N, A)
    identity: NDArray[np.int32]  # (N,)
    partition: NDArray[np.int8]  # (N,), positions in PARTITIONS
    landmarks: NDArray[np.int32] | None  # (N, 5, 2), x and y of left eye, right eye, nose, left and right mouth corner
    boxes: NDArray[np.float32] | None  # (N, 4), of the face in the picture that was not yet aligned

    def attribute(self, name: str) -> NDArray[np.bool_]:
        """Which images have an attribute, (N,)."""
        if name not in self.attribute_names:
            raise DataError(f"CelebA has no attribute {name!r}: there are {', '.join(self.attribute_names)}")
        return self.attributes[:, self.attribute_names.index(name)]

    def rows(self, split: str) -> NDArray[np.int64]:
        """Positions of an official partition's images."""
        return np.flatnonzero(self.partition == PARTITIONS.index(split))

    def own_rows(self, split: str) -> NDArray[np.int64]:
        """Positions of a part of the official training images alone, divided 80 / 10 / 10 by a fixed seed."""
        rows = np.random.default_rng(CELEBA_SPLIT_SEED).permutation(self.rows("train"))
        tenth = round(len(rows) / 10)
        parts = {"val": rows[:tenth], "test": rows[tenth : 2 * tenth], "train": rows[2 * tenth :]}
        return np.sort(parts[split])


class FaceSample(TypedDict):
    """One face, before any transform."""

    image_id: str
    image: Picture  # (218, 178, 3) RGB, or what `shrink` made of it
    label: int


class CelebAFaces:
    """Some of the faces, by position.

    Args:
        table: of all images.
        rows: positions (N,) in the table.
        labels: class (N,) of each of these; None for 0.
        shrink: applied to every picture, once: the results, of one shape, are kept in memory. None reads a file each
            time.
    """

    def __init__(
        self,
        table: CelebATable,
        rows: NDArray[np.int64],
        labels: NDArray[np.int64] | None = None,
        shrink: Callable[[Picture], Picture] | None = None,
    ) -> None:
        self.table, self.rows = table, rows
        self.labels = np.zeros(len(rows), np.int64) if labels is None else labels
        self._kept = None if shrink is None else self._all(shrink)

    def _all(self, shrink: Callable[[Picture], Picture]) -> Picture:
        first = shrink(self._read(0))
        kept = np.empty((len(self), *first.shape), np.uint8)
        kept[0] = first
        for index in range(1, len(self)):
            kept[index] = shrink(self._read(index))
        return kept

    def _read(self, index: int) -> Picture:
        path = self.table.folder / str(self.table.names[self.rows[index]])
        image = read_rgb(path)
        height, width = image.shape[:2]
        if (width, height) != SIZE:
            raise DataError(f"{path} is {width} x {height} pixels, CelebA's aligned pictures are {SIZE[0]} x {SIZE[1]}")
        return image

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> FaceSample:
        image = self._read(index) if self._kept is None else self._kept[index].copy()
        image_id = str(self.table.names[self.rows[index]]).removesuffix(".jpg")
        return {"image_id": image_id, "image": image, "label": int(self.labels[index])}

    @property
    def attributes(self) -> NDArray[np.bool_]:
        """Of these faces, (N, A)."""
        return self.table.attributes[self.rows]

    @property
    def identity(self) -> NDArray[np.int32]:
        """Number of the person in each of these pictures, (N,)."""
        return self.table.identity[self.rows]


def read_celeba(root: str | Path, strict: bool = False) -> CelebATable:
    """What the lists in `root/celeba` say of the pictures that are there.

    Rows of pictures that are not are left out, counted and told once; with `strict` they are an error.
    """
    folder = Path(root) / "celeba"
    names, partition, _ = _read_list(folder / PARTITION_FILE, columns=1, allowed=(0, 1, 2))
    _refuse_twins(folder / PARTITION_FILE, names)
    rows = _rows_with_pictures(folder, names, strict)
    names = names[rows]
    attributes, titles = _of_names(folder / ATTRIBUTES_FILE, names, titled=True, allowed=(-1, 1))
    identity, _ = _of_names(folder / IDENTITY_FILE, names, columns=1)
    landmarks = boxes = None
    if (folder / LANDMARKS_FILE).is_file():
        landmarks = _of_names(folder / LANDMARKS_FILE, names, titled=True, columns=10)[0].reshape(-1, 5, 2)
    if (folder / BOXES_FILE).is_file():
        corner, extent = np.hsplit(_of_names(folder / BOXES_FILE, names, titled=True, columns=4)[0], 2)
        boxes = np.hstack([corner, corner + extent]).astype(np.float32)
    return CelebATable(
        folder / IMAGES_FOLDER, names, titles, attributes > 0, identity[:, 0], partition[rows, 0].astype(np.int8),
        landmarks, boxes,
    )  # fmt: skip


def _refuse_twins(path: Path, names: NDArray[np.str_]) -> None:
    order = np.argsort(names, kind="stable")
    twice = np.flatnonzero(names[order][1:] == names[order][:-1])
    if len(twice):
        row = order[twice[0] + 1]
        raise DataError(f"{path}, line {row + 1}: {names[row]} is listed twice")


def _rows_with_pictures(folder: Path, names: NDArray[np.str_], strict: bool) -> NDArray[np.int64]:
    """Positions of the names that are files in the folder of pictures, found by reading that folder once."""
    pictures = folder / IMAGES_FOLDER
    try:
        with os.scandir(pictures) as entries:
            there = np.array([entry.name for entry in entries], np.str_)
    except OSError as error:
        raise DataError(f"{pictures} cannot be read ({error}): CelebA's {IMAGES_FOLDER}.zip unpacks to it") from None
    found = np.isin(names, there)
    repairs = Repairs(strict)
    for row in np.flatnonzero(~found).tolist():
        repairs.note("row of a picture that is not there left out", f"{folder / PARTITION_FILE}, {names[row]}")
    if not found.any():
        raise DataError(f"{pictures} holds none of the {len(names)} pictures that {PARTITION_FILE} names")
    repairs.tell(folder)
    return np.flatnonzero(found)


def _of_names(
    path: Path,
    names: NDArray[np.str_],
    *,
    titled: bool = False,
    columns: int | None = None,
    allowed: tuple[int, ...] | None = None,
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Values (N, columns) of a list for the given names, in their order, and the titles; other rows are passed over."""
    listed, values, titles = _read_list(path, titled=titled, columns=columns, allowed=allowed)
    if np.array_equal(listed, names):
        return values, titles
    order = np.argsort(listed, kind="stable")
    places = np.searchsorted(listed[order], names).clip(max=len(listed) - 1)
    rows = order[places]
    missing = np.flatnonzero(listed[rows] != names)
    if len(missing):
        raise DataError(f"{path} has no row for {names[missing[0]]}, which {PARTITION_FILE} names")
    return values[rows], titles


def _read_list(
    path: Path, *, titled: bool = False, columns: int | None = None, allowed: tuple[int, ...] | None = None
) -> tuple[NDArray[np.str_], NDArray[np.int32], tuple[str, ...]]:
    """Names (N,), whole numbers (N, columns) and titles of a list.

    Args:
        path: of the list: rows of a file name and numbers.
        titled: it begins with the number of its rows and a line of titles.
        columns: how many numbers a row has; None for as many as there are titles.
        allowed: values of these numbers; None for any.
    """
    lines = _lines(path)
    titles = _titles(path, lines) if titled else ()
    width, start = columns or len(titles), 2 if titled else 0
    if titled and len(titles) != width:
        raise DataError(f"{path}, line 2: {len(titles)} titles instead of {width}")
    names: list[str] = []
    values = np.empty((len(lines) - start, width), np.int32)
    for row, line in enumerate(lines[start:]):
        fields = line.split()
        try:
            if len(fields) != width + 1:
                raise ValueError(f"{len(fields)} fields instead of {width + 1}")
            values[row] = [int(field) for field in fields[1:]]
        except (ValueError, OverflowError) as error:
            raise DataError(f"{path}, line {start + row + 1}: {error}") from None
        names.append(fields[0])
    if not names:
        raise DataError(f"{path} has no rows")
    if allowed is not None and not np.isin(values, allowed).all():
        row, column = np.argwhere(~np.isin(values, allowed))[0]
        choice = " or ".join(map(str, allowed))
        raise DataError(f"{path}, line {start + row + 1}: {values[row, column]} of {names[row]} is not {choice}")
    return np.array(names, np.str_), values, titles


def _titles(path: Path, lines: list[str]) -> tuple[str, ...]:
    """The second line's words; the first must be the number of rows after it."""
    if len(lines) < 2 or not lines[0].strip().isdecimal():
        raise DataError(f"{path}, line 1: not the number of rows, which is followed by a line of titles")
    if int(lines[0]) != len(lines) - 2:
        raise DataError(f"{path}, line 1: {lines[0].strip()} rows are announced, there are {len(lines) - 2}")
    return tuple(title for title in lines[1].split() if title != "image_id")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").rstrip().splitlines()
    except FileNotFoundError:
        raise DataError(
            f"no file {path}, one of the lists that CelebA's authors give beside the pictures: "
            f"fetch it with `lightning-cv data get celeba --root {path.parent.parent}`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable list ({error})") from None
