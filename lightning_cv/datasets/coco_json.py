"""What all readers of COCO folders share: their json, its images and categories as packed arrays, and the files named.

Lin et al. 2014, "Microsoft COCO: common objects in context"; data format of cocodataset.org. No list of dicts outlives
the reading. Letters: I images that a json declares.
"""

import json
import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_cv.contracts import LabelMap
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.repairs import Repairs

UNKNOWN_CROWD = "iscrowd that is neither 0 nor 1 taken for 0"

FETCHED_AS = "coco2017"
"""The name by which the real files are fetched; they come to lie in the folder `coco` of the data root."""

Content = dict[str, Any]  # json as it was written: anything may stand anywhere
Arrays = dict[str, NDArray[Any]]  # of several types; the tuples that are made of them say which


class Category(NamedTuple):
    """A class as the json declares it."""

    id: int
    name: str
    is_thing: bool  # False also where the json does not say


class PackedImages(NamedTuple):
    """The images of a json, in its order."""

    image_ids: NDArray[np.int64]  # (I,)
    image_sizes: NDArray[np.int64]  # (I, 2) height, width
    names: NDArray[np.uint8]  # all file names as UTF-8, one behind the other
    name_offsets: NDArray[np.int64]  # (I + 1,)


class Packed(NamedTuple):
    """A json as arrays by name, its categories by id, and what was mended or left out: how often, and where first."""

    arrays: Arrays
    categories: list[Category]
    counts: dict[str, int]
    first: dict[str, str]

    def label_map(self, first: int) -> LabelMap:
        """The label map with contiguous ids from `first` on."""
        names, ids = tuple(c.name for c in self.categories), tuple(c.id for c in self.categories)
        return LabelMap(names, first, ids)

    def retell(self, path: Path, repairs: Repairs) -> None:
        """Hands the repairs of the packing on; an error at the first where they are strict."""
        for kind, count in self.counts.items():
            repairs.note(kind, f"{path}, {self.first[kind]}" if repairs.strict else self.first[kind])
            repairs.counts[kind] = count


def find_json(root: Path, relative: str) -> Path:
    """The json below a root; where it is missing, an error that names the commands which make one."""
    path = root / relative
    if not path.is_file():
        there = sorted(other.name for other in path.parent.glob("*.json")) if path.parent.is_dir() else []
        beside = f"; beside it lie {', '.join(there[:8])}" if there else ""
        raise DataError(f"no file {path}: {commands(root)}{beside}")
    return path


def commands(root: Path) -> str:
    """How a COCO folder at `root` comes into being."""
    return (
        f"fetch the real pictures with `lightning-cv data get {FETCHED_AS} --root {data_root(root)}` "
        f"or draw scenes with `lightning-cv data draw --layout coco --root {data_root(root)}`"
    )


def data_root(root: Path) -> Path:
    """The data root in which the COCO folder `root` lies: its parent if the folder has the usual name."""
    return root.parent if root.name == "coco" else root


def refuse_missing(root: Path, folder: Path, names: Iterable[str], source: Path) -> None:
    """An error where a folder, or a file in it that `source` names, is not there. Lists folders, asks for no file."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}, whose files {source} names: {commands(root)}")
    there: dict[str, set[str]] = {}
    for name in names:
        below, _, file = name.rpartition("/")
        if below not in there:
            place = folder / below
            there[below] = {entry.name for entry in os.scandir(place)} if place.is_dir() else set()
        if file not in there[below]:
            raise DataError(f"no file {folder / name}, which {source} names")


def refuse_other_size(
    image: NDArray[np.uint8], path: Path, images: PackedImages, row: int, source: Path
) -> None:  # fmt: skip
    """An error where a picture (H, W, ...) has not the size that `source` declares for it."""
    height, width = images.image_sizes[row].tolist()
    if image.shape[:2] != (height, width):
        raise DataError(
            f"{path} is {image.shape[1]} x {image.shape[0]} pixels, {source} declares {width} x {height} for image "
            f"{images.image_ids[row]}"
        )


def parse_coco(text: bytes, path: Path) -> Content:
    """The content of a COCO json."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON, or only a part of it: {error}") from None
    keys = ("images", "annotations", "categories")
    missing = [key for key in keys if not (isinstance(content, dict) and isinstance(content.get(key), list))]
    if missing:
        raise DataError(f"{path} is not a COCO annotation file: it has no list of {', '.join(missing)}")
    found: Content = content
    return found


def whole(value: object) -> int | None:
    """A whole number of 64 bits, also one written as 7.0; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and -(1 << 63) <= value < 1 << 63 else None


def entry_of(value: object) -> Content:
    """A json object; an empty one in the place of anything else."""
    return value if isinstance(value, dict) else {}


def read_categories(content: Content, path: Path, repairs: Repairs) -> list[Category]:
    """The declared categories by id."""
    found: dict[int, Category] = {}
    for number, entry in enumerate(map(entry_of, content["categories"])):
        category_id, name = whole(entry.get("id")), entry.get("name")
        if category_id is None or not isinstance(name, str):
            raise DataError(f"{path}: categories[{number}] needs a whole id and a name, it has {list(entry.items())}")
        if category_id in found:
            repairs.note("repeated category id left out", f"category {category_id}")
            continue
        found[category_id] = Category(category_id, name, entry.get("isthing") == 1)
    if not found:
        raise DataError(f"{path} declares no category")
    return _named_apart([found[category_id] for category_id in sorted(found)], repairs)


def _named_apart(categories: list[Category], repairs: Repairs) -> list[Category]:
    """The categories with names that are not empty and all different: figures are reported by name."""
    named: dict[str, Category] = {}
    for category in categories:
        name, where = category.name, f"category {category.id}"
        if not name.strip():
            repairs.note("category without a name called by its id", where)
            name = where
        elif name in named:
            repairs.note("category of another one's name told apart by its id", where)
        while name in named:
            name = f"{name} ({category.id})"
        named[name] = category._replace(name=name)
    return list(named.values())


def pack_images(content: Content, path: Path, repairs: Repairs) -> tuple[PackedImages, dict[int | None, int]]:
    """The declared images, and the row of each image id."""
    row_of: dict[int | None, int] = {}
    names: list[str] = []
    sizes = array("q")
    for number, entry in enumerate(map(entry_of, content["images"])):
        image_id, height, width = (whole(entry.get(key)) for key in ("id", "height", "width"))
        name = entry.get("file_name")
        if image_id is None or not height or not width or min(height, width) < 1 or not isinstance(name, str):
            read = {key: entry.get(key) for key in ("id", "file_name", "height", "width")}
            raise DataError(f"{path}: images[{number}] needs id, file_name, height and width, it has {read}")
        if image_id in row_of:
            repairs.note("repeated image id left out", f"image {image_id}")
            continue
        row_of[image_id] = len(names)
        names.append(name)
        sizes.extend((height, width))
    if not names:
        raise DataError(f"{path} declares no image")
    ids = np.array(list(row_of), np.int64)
    return PackedImages(ids, np.array(sizes, np.int64).reshape(-1, 2), *pack_texts(names)), row_of


def pack_texts(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Texts as UTF-8 one behind the other, and where each begins, (texts + 1,)."""
    codes = [text.encode("utf-8", "replace") for text in texts]
    return np.array(bytearray(b"".join(codes))), offsets_of([len(code) for code in codes])


def text_at(codes: NDArray[np.uint8], offsets: NDArray[np.int64], row: int) -> str:
    """One of the texts."""
    return codes[offsets[row] : offsets[row + 1]].tobytes().decode("utf-8")


def texts_of(codes: NDArray[np.uint8], offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> list[str]:
    """Some of the texts."""
    whole_text = codes.tobytes()
    ends = zip(offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True)
    return [whole_text[start:end].decode("utf-8") for start, end in ends]


def offsets_of(counts: "Sequence[int] | array[int] | NDArray[np.int64]") -> NDArray[np.int64]:
    """Where each of several stretches of these lengths begins, and the end of the last, (counts + 1,)."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(counts, np.int64))])
