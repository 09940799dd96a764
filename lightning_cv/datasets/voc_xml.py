"""VOC's annotations as packed arrays. Letters: I images; N objects of all of them.

Everingham et al. 2010, "The PASCAL visual object classes challenge": corners count pixels from 1, the far ones
included.
"""

import difflib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_cv.contracts import LabelMap
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.images import image_size
from lightning_cv.datasets.repairs import Repairs, mend_boxes
from lightning_cv.datasets.voc_lists import Listed


class VOCObjects(NamedTuple):
    """Objects of all images one after another; those of image i are `offsets[i]` to `offsets[i + 1]`."""

    offsets: NDArray[np.int64]  # (I + 1,)
    boxes: NDArray[np.float32]  # (N, 4)
    labels: NDArray[np.int64]  # (N,)
    difficult: NDArray[np.bool_]  # (N,)
    truncated: NDArray[np.bool_]  # (N,)
    numbers: NDArray[np.int64]  # (N,): place in its file, from 1, by which object masks name it

    def of_image(self, index: int) -> slice:
        """Where the objects of an image are."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def chosen(self, keep: NDArray[np.bool_]) -> "VOCObjects":
        """Some of the objects, of the same images."""
        rows = np.flatnonzero(keep)
        offsets = np.concatenate([[0], np.cumsum(keep)])[self.offsets]
        return VOCObjects(
            offsets,
            self.boxes[rows],
            self.labels[rows],
            self.difficult[rows],
            self.truncated[rows],
            self.numbers[rows],
        )


def read_annotations(
    listed: Sequence[Listed], label_map: LabelMap, repairs: Repairs
) -> tuple[list[Path], VOCObjects]:  # fmt: skip
    """Paths of the pictures that the annotations name, and all objects; `<part>`s of a person are no objects."""
    label_of = {name: label for label, name in enumerate(label_map.names, start=label_map.first)}
    pictures = _Pictures()
    paths: list[Path] = []
    rows: list[Annotated] = []
    for number, item in enumerate(listed):
        file = item.xml
        tree = parse_annotation(file)
        paths.append(pictures.named_by(file, tree, item))
        rows += _rows(file, tree, number, label_of, repairs)
    return paths, _packed(_with_true_sizes(rows, paths, repairs), len(listed), repairs)


class Annotated(NamedTuple):
    """One object as its file says it."""

    file: Path
    image: int
    number: int
    label: int
    corners: tuple[float, float, float, float]  # from 0, the far edge excluded
    size: tuple[float, float]
    difficult: bool
    truncated: bool


def read_objects(file: Path, label_of: dict[str, int], repairs: Repairs) -> list[Annotated]:
    """The objects of one annotation with the corners that it says, also where they pass the picture."""
    return _rows(file, parse_annotation(file), 0, label_of, repairs)


def _rows(
    file: Path, tree: ElementTree.Element, image: int, label_of: dict[str, int], repairs: Repairs
) -> list[Annotated]:  # fmt: skip
    rows: list[Annotated] = []
    size = _declared_size(tree)
    for number, item in enumerate(tree.iterfind("object"), start=1):
        label = _label(file, item, label_of)
        if item.find("bndbox") is None:
            repairs.note("object without a box left out", f"{file}, object {number}")
            continue
        corners = _corners(file, number, item, repairs)
        marks = [(item.findtext(mark) or "0").strip() == "1" for mark in ("difficult", "truncated")]
        rows.append(Annotated(file, image, number, label, corners, size, marks[0], marks[1]))
    return rows


def _with_true_sizes(rows: list[Annotated], paths: list[Path], repairs: Repairs) -> list[Annotated]:
    """The rows with the picture's own size where a box passes the size that the annotation declares."""
    true_sizes: dict[int, tuple[float, float]] = {}
    for row in rows:
        passes = row.corners[2] > row.size[0] or row.corners[3] > row.size[1]
        if passes and row.image not in true_sizes:
            true_sizes[row.image] = image_size(paths[row.image])
            if true_sizes[row.image] != row.size:
                repairs.note("declared size that is not the picture's passed over", str(row.file))
    return [row._replace(size=true_sizes.get(row.image, row.size)) for row in rows]


def _packed(rows: list[Annotated], images: int, repairs: Repairs) -> VOCObjects:
    corners = np.array([row.corners for row in rows], np.float64).reshape(-1, 4)
    sizes = np.array([row.size for row in rows], np.float64).reshape(-1, 2)
    boxes, kept = mend_boxes(corners, sizes, lambda row: f"{rows[row].file}, object {rows[row].number}", repairs)
    good = [rows[row] for row in kept.tolist()]
    counts = np.bincount(np.array([row.image for row in good], np.int64), minlength=images)
    return VOCObjects(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes,
        np.array([row.label for row in good], np.int64),
        np.array([row.difficult for row in good], np.bool_),
        np.array([row.truncated for row in good], np.bool_),
        np.array([row.number for row in good], np.int64),
    )


class _Pictures:
    """Names of the pictures in each year's folder, read once."""

    def __init__(self) -> None:
        self.there: dict[Path, set[str]] = {}

    def named_by(self, file: Path, tree: ElementTree.Element, item: Listed) -> Path:
        """The picture that an annotation names."""
        folder = item.folder / "JPEGImages"
        if folder not in self.there:
            self.there[folder] = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        name = (tree.findtext("filename") or f"{item.image_id}.jpg").strip()
        if name not in self.there[folder]:
            raise DataError(f"{file} names the image {name}: no such file in {folder}")
        return folder / name


def parse_annotation(path: Path) -> ElementTree.Element:
    """The root of an annotation file."""
    try:
        tree = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise DataError(f"no annotation {path}, which a list names") from None
    except (ElementTree.ParseError, LookupError, ValueError, OSError) as error:  # unknown encodings are LookupErrors
        raise DataError(f"{path} is not XML: {error}") from None
    if tree.tag != "annotation":
        raise DataError(f"{path} is not a VOC annotation: its root is <{tree.tag}>, not <annotation>")
    return tree


def _label(path: Path, item: ElementTree.Element, label_of: dict[str, int]) -> int:
    name = (item.findtext("name") or "").strip()
    if name not in label_of:
        near = difflib.get_close_matches(name, label_of, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(label_of)}"
        raise DataError(f"{path} names the unknown class {name!r}: {hint}")
    return label_of[name]


def _declared_size(tree: ElementTree.Element) -> tuple[float, float]:
    """Width and height as the annotation says; infinite where it says nothing usable."""
    try:
        width, height = (float(tree.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    except ValueError:
        return np.inf, np.inf
    return width if width > 0 else np.inf, height if height > 0 else np.inf


def _corners(
    file: Path, number: int, item: ElementTree.Element, repairs: Repairs
) -> tuple[float, float, float, float]:  # fmt: skip
    """VOC's 1-based corners, the far ones included, as x1, y1, x2, y2 from 0 with the far edge excluded.

    A far corner one before the near one is no slip of order: the box is empty, as some tools write it.
    """
    texts = [item.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x1, y1, x2, y2 = (float(text or "") for text in texts)
    except ValueError:
        raise DataError(f"{file} is not a VOC annotation: an object's <bndbox> reads {texts}") from None
    if x2 < x1 - 1 or y2 < y1 - 1:
        repairs.note("swapped corners put in order", f"{file}, object {number}")
        (x1, x2), (y1, y2) = _ordered(x1, x2), _ordered(y1, y2)
    return x1 - 1, y1 - 1, x2, y2


def _ordered(near: float, far: float) -> tuple[float, float]:
    return (far, near) if far < near - 1 else (near, far)
