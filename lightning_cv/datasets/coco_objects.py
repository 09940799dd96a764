"""The objects of a COCO instance json as packed arrays, and their masks.

Letters: I images; N objects; P parts of polygons; H, W size of an image; R runs of a mask.

A mask is given as polygons or as run lengths. Run lengths go down the columns, the first one counts zeros; they are
kept in COCO's compressed text form (pycocotools, `maskApi.c`).
"""

import math
from array import array
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from lightning_cv.datasets.coco_json import (
    UNKNOWN_CROWD,
    Content,
    Packed,
    entry_of,
    offsets_of,
    pack_images,
    read_categories,
    whole,
)
from lightning_cv.datasets.repairs import Repairs, mend_boxes

ROUNDING = 0.02
"""Pixels by which a box may pass the picture's edge unnoticed: files give corner and size in rounded hundredths."""

UNSEEN_MASK = "mask without a pixel in the picture left out"

FAR = 1e6
"""Polygons with a coordinate beyond it are left out: to draw one takes memory in proportion to its length."""


class PackedObjects(NamedTuple):
    """Objects by image, those of an image in the order of the file."""

    offsets: NDArray[np.int64]  # (I + 1,): where the objects of an image begin
    ids: NDArray[np.int64]  # (N,)
    boxes: NDArray[np.float32]  # (N, 4) as x1, y1, x2, y2
    categories: NDArray[np.int32]  # (N,) position among the categories by id
    areas: NDArray[np.float64]  # (N,) square pixels of the mask; of the box where the file says nothing
    crowd: NDArray[np.bool_]  # (N,)
    part_offsets: NDArray[np.int64]  # (N + 1,): where the polygon parts of an object begin
    point_offsets: NDArray[np.int64]  # (P + 1,): where the coordinates of a part begin
    points: NDArray[np.float64]  # x, y, x, y, ... of all parts
    run_offsets: NDArray[np.int64]  # (N + 1,): where the run lengths of an object begin
    runs: NDArray[np.uint8]  # compressed run lengths, ASCII

    def has_mask(self, stretch: slice) -> NDArray[np.bool_]:
        """Which objects of a stretch have polygons or run lengths."""
        ends = slice(stretch.start, stretch.stop + 1)
        return np.asarray((np.diff(self.part_offsets[ends]) > 0) | (np.diff(self.run_offsets[ends]) > 0), np.bool_)

    def mask(self, number: int, height: int, width: int) -> NDArray[np.bool_]:
        """Pixels (H, W) of object `number`, as pycocotools draws them; parts of polygons are united."""
        code = self.runs[self.run_offsets[number] : self.run_offsets[number + 1]].tobytes()
        if not code:
            ends = self.point_offsets[self.part_offsets[number] : self.part_offsets[number + 1] + 1].tolist()
            parts = [self.points[start:end] for start, end in pairwise(ends)]
            code = rle.merge(rle.frPyObjects(parts, height, width))["counts"]
        lengths = run_lengths(code)
        ones = np.arange(len(lengths)) % 2 == 1  # the first run counts zeros
        return np.repeat(ones, lengths).reshape(width, height).T


class _Found(NamedTuple):
    """Annotations with an image, a category and a box, in the order of the file. M of them."""

    entries: list[Content]
    ids: NDArray[np.int64]  # (M,)
    rows: NDArray[np.int64]  # (M,) of the image
    categories: NDArray[np.int64]  # (M,)
    boxes: NDArray[np.float64]  # (M, 4) as x, y, width, height

    def where(self, number: int) -> str:
        return f"annotation {self.ids[number]}"


def pack_instances(content: Content, path: Path) -> Packed:
    """Images and objects of an instance json. What cannot be right is mended or left out, and counted."""
    repairs = Repairs()
    categories = read_categories(content, path, repairs)
    images, row_of = pack_images(content, path, repairs)
    position_of: dict[int | None, int] = {category.id: number for number, category in enumerate(categories)}
    found = _find(content["annotations"], row_of, position_of, repairs)
    sizes = images.image_sizes[found.rows][:, ::-1].astype(np.float64)  # (M, 2) width, height
    boxes, kept = mend_boxes(_corners(found.boxes, sizes), sizes, found.where, repairs)
    order = _single(found, kept, repairs)
    order = order[np.argsort(found.rows[kept[order]], kind="stable")]
    objects = _pack(found, kept[order], boxes[order], images.image_sizes, repairs)
    return Packed(images._asdict() | objects._asdict(), categories, repairs.counts, repairs.first)


def _find(
    annotations: list[object], row_of: dict[int | None, int], position_of: dict[int | None, int], repairs: Repairs
) -> _Found:
    entries: list[Content] = []
    ids, rows, categories, boxes = array("q"), array("q"), array("q"), array("d")
    for number, entry in enumerate(map(entry_of, annotations)):
        annotation_id = whole(entry.get("id"))
        if annotation_id is None:
            annotation_id = -1 - number
            repairs.note("object without an id numbered below zero", f"annotation {annotation_id}")
        row, category = row_of.get(whole(entry.get("image_id"))), position_of.get(whole(entry.get("category_id")))
        problem = _problem(row, category, entry.get("bbox"), boxes)
        if problem or row is None or category is None:
            repairs.note(problem, f"annotation {annotation_id}")
            continue
        entries.append(entry)
        ids.append(annotation_id)
        rows.append(row)
        categories.append(category)
    return _Found(
        entries,
        np.array(ids, np.int64),
        np.array(rows, np.int64),
        np.array(categories, np.int64),
        np.array(boxes, np.float64).reshape(-1, 4),
    )


def _problem(row: int | None, category: int | None, box: object, boxes: "array[float]") -> str:
    """Why an annotation is left out; empty where it is not: then its box is appended to `boxes`."""
    if row is None:
        return "object of an image that is not declared left out"
    if category is None:
        return "object of a category that is not declared left out"
    if not (isinstance(box, list) and len(box) == 4 and _appended(boxes, box)):
        return "object without a box left out"
    return ""


def _appended(numbers: "array[float]", values: list[Any]) -> bool:  # json: anything may stand in the list
    """Appends all of the values if all of them are numbers."""
    try:
        numbers.fromlist(values)
    except (TypeError, OverflowError):
        return False
    return True


def _corners(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corner and size (M, 4) as x1, y1, x2, y2, freed of what rounding adds beyond the far edges."""
    near, far = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    far = np.where((far > sizes) & (far <= sizes + ROUNDING), sizes, far)
    near = np.where((near < 0) & (near >= -ROUNDING), 0, near)
    return np.concatenate([near, far], axis=1)


def _single(found: _Found, kept: NDArray[np.int64], repairs: Repairs) -> NDArray[np.int64]:
    """Positions in `kept` without exact repeats of an annotation. Different objects under one id stay."""
    ids = found.ids[kept]
    by_id = np.argsort(ids, kind="stable")
    again = by_id[1:][ids[by_id[1:]] == ids[by_id[:-1]]]
    first_of: dict[int, set[tuple[float, ...]]] = {}
    doubled = np.isin(ids, ids[again])
    repeats: list[int] = []
    for position in np.flatnonzero(doubled).tolist():
        number = int(kept[position])
        said = (float(found.rows[number]), float(found.categories[number]), *found.boxes[number].tolist())
        known = first_of.setdefault(int(ids[position]), set())
        if said in known:
            repairs.note("repeated object left out", found.where(number))
            repeats.append(position)
        elif known:
            repairs.note("id of several objects, all of them kept", found.where(number))
        known.add(said)
    return np.setdiff1d(np.arange(len(kept)), repeats)


def _pack(
    found: _Found, chosen: NDArray[np.int64], boxes: NDArray[np.float32], sizes: NDArray[np.int64], repairs: Repairs
) -> PackedObjects:
    """The chosen annotations, which are in the order of the images, with their mended boxes."""
    rows, masks = found.rows[chosen], _Masks()
    areas = np.empty(len(chosen))
    crowd = np.empty(len(chosen), np.bool_)
    for position, (number, row) in enumerate(zip(chosen.tolist(), rows.tolist(), strict=True)):
        entry, area = found.entries[number], found.entries[number].get("area")
        areas[position] = area if isinstance(area, float | int) and abs(area) < 1e18 else math.nan
        mark = entry.get("iscrowd", 0)
        crowd[position] = mark == 1
        if mark not in (0, 1):
            repairs.note(UNKNOWN_CROWD, found.where(number))
        height, width = sizes[row].tolist()
        if problem := masks.add(entry.get("segmentation"), height, width):
            repairs.note(problem, found.where(number))
    part_counts, point_counts, points = _near_picture(masks, sizes[rows][:, ::-1])
    for position in np.flatnonzero((np.asarray(masks.part_counts) > 0) & (part_counts == 0)).tolist():
        repairs.note(UNSEEN_MASK, found.where(int(chosen[position])))
    of_boxes = np.prod(boxes[:, 2:].astype(np.float64) - boxes[:, :2], axis=1)
    return PackedObjects(
        offsets=offsets_of(np.bincount(rows, minlength=len(sizes))),
        ids=found.ids[chosen],
        boxes=boxes,
        categories=found.categories[chosen].astype(np.int32),
        areas=np.where(np.isnan(areas), of_boxes, areas),
        crowd=crowd,
        part_offsets=offsets_of(part_counts),
        point_offsets=offsets_of(point_counts),
        points=points,
        run_offsets=offsets_of(masks.run_counts),
        runs=np.array(masks.runs, np.uint8),
    )


class _Masks:
    """Collects the masks of objects, one behind the other."""

    def __init__(self) -> None:
        self.part_counts, self.point_counts, self.points = array("q"), array("q"), array("d")
        self.run_counts, self.runs = array("q"), bytearray()

    def add(self, segmentation: object, height: int, width: int) -> str:
        """Appends the next object's mask, or what is whole of it; what is wrong with it, empty where nothing is."""
        parts, runs, problem = len(self.point_counts), len(self.runs), ""
        if isinstance(segmentation, dict):
            problem = self._add_runs(segmentation, height, width)
        elif isinstance(segmentation, list):
            sound = [self._add_part(part) for part in segmentation]
            problem = "" if all(sound) else "damaged polygon left out"
        elif segmentation is not None:
            problem = "mask that is neither polygons nor run lengths left out"
        self.part_counts.append(len(self.point_counts) - parts)
        self.run_counts.append(len(self.runs) - runs)
        return problem

    def _add_part(self, part: object) -> bool:
        """Appends a part of three points or more, given as x, y, x, y, ..."""
        if not isinstance(part, list) or len(part) < 6 or len(part) % 2 or not _appended(self.points, part):
            return False
        if not (min(part) > -FAR and max(part) < FAR) or math.isnan(sum(part)):
            del self.points[-len(part) :]
            return False
        self.point_counts.append(len(part))
        return True

    def _add_runs(self, segmentation: Content, height: int, width: int) -> str:
        if segmentation.get("size") != [height, width]:
            return "run lengths for another size than the picture's left out"
        counts = segmentation.get("counts")
        code = counts.encode("ascii", "replace") if isinstance(counts, str) else _compressed(counts, height, width)
        lengths = run_lengths(code)
        if not _fills(lengths, height * width):
            return "damaged run lengths left out"
        if not lengths[1::2].any():
            return UNSEEN_MASK
        self.runs += code
        return ""


def _near_picture(
    masks: _Masks, sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Parts of each object (N,), coordinates of each part (P,), and all of these, without the parts off the picture.

    `sizes` (N, 2) are width and height. Parts a pixel or more off have no pixel; of those nearer, drawing decides.
    """
    part_counts, point_counts = np.array(masks.part_counts, np.int64), np.array(masks.point_counts, np.int64)
    points = np.array(masks.points, np.float64)
    if len(points) == 0:
        return part_counts, point_counts, points
    owners = np.repeat(np.arange(len(part_counts)), part_counts)  # (P,)
    starts = offsets_of(point_counts)[:-1]
    keep = np.ones(len(owners), np.bool_)
    for axis in (0, 1):
        values, first = points[axis::2], starts // 2
        keep &= np.maximum.reduceat(values, first) > -1
        keep &= np.minimum.reduceat(values, first) < sizes[owners, axis] + 1
    if keep.all():
        return part_counts, point_counts, points
    part_counts = np.bincount(owners[keep], minlength=len(part_counts))
    return part_counts, point_counts[keep], points[np.repeat(keep, point_counts)]


def _compressed(counts: object, height: int, width: int) -> bytes:
    """The text form of a list of run lengths; empty where it is none."""
    if not isinstance(counts, list) or any(type(count) is not int or not 0 <= count < 1 << 31 for count in counts):
        return b""
    return bytes(rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"])


def _fills(lengths: NDArray[np.int64], pixels: int) -> bool:
    return len(lengths) > 0 and bool((lengths >= 0).all()) and int(lengths.sum()) == pixels


def run_lengths(code: bytes) -> NDArray[np.int64]:
    """The run lengths (R,) of their text form; none where it is damaged.

    Each is written as its difference from the last but one (the first three as they are) in characters of 6 bits
    above 48: 5 bits of the number, the lowest first, and a bit that says that more follow. COCO, `maskApi.c`.

    >>> run_lengths(rle.encode(np.asfortranarray([[0, 1, 1], [1, 1, 0]], np.uint8))["counts"]).tolist()
    [1, 4, 1]
    """
    values = np.frombuffer(code, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((values & 0x20) == 0)  # (R,)
    if len(last) == 0 or last[-1] != len(values) - 1 or values.min() < 0 or values.max() > 63:
        return np.zeros(0, np.int64)
    sizes = np.diff(last, prepend=-1)
    if sizes.max() > 7:  # more than 32 bits
        return np.zeros(0, np.int64)
    first = last + 1 - sizes
    place = np.arange(len(values)) - np.repeat(first, sizes)
    numbers = np.add.reduceat((values & 0x1F) << (5 * place), first)
    numbers -= ((values[last] >> 4) & 1) << (5 * sizes)  # two's complement
    numbers[1::2], numbers[2::2] = np.cumsum(numbers[1::2]), np.cumsum(numbers[2::2])
    return numbers
