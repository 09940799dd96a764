"""Reader of panoptic segmentations in COCO's layout: every pixel belongs to one segment, or to none.

`root/annotations/panoptic_{split}{year}.json`, the segments' numbers as colours of PNG files in the folder of the same
name beside it, the images in `root/{split}{year}/`. Kirillov et al. 2019, "Panoptic segmentation"; format as in
panopticapi. Letters: I images; S segments of a json; N of an image; K classes; H, W.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cv.contracts import PanopticSample
from lightning_cv.datasets.coco_cache import open_packed
from lightning_cv.datasets.coco_json import (
    UNKNOWN_CROWD,
    Content,
    Packed,
    PackedImages,
    entry_of,
    find_json,
    offsets_of,
    pack_images,
    pack_texts,
    read_categories,
    refuse_missing,
    refuse_other_size,
    text_at,
    texts_of,
    whole,
)
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.images import UNREADABLE, PackedPixels, read_rgb
from lightning_cv.datasets.repairs import Repairs, SampleRepairs

UNKNOWN_SEGMENT = "segment of the PNG that the json does not know made void"
UNSEEN_SEGMENT = "segment without a pixel in the PNG left out"

NOT_DECLARED = -1
"""Category of a segment whose own is not declared: its pixels become void."""

LARGEST_ID = (1 << 24) - 1


class PackedSegments(NamedTuple):
    """Segments by annotated image, in the order of the file."""

    rows: NDArray[np.int64]  # (I,) of the images that are annotated
    offsets: NDArray[np.int64]  # (I + 1,): where the segments of an image begin
    png_names: NDArray[np.uint8]  # names of the PNG files as UTF-8, one behind the other
    png_name_offsets: NDArray[np.int64]  # (I + 1,)
    ids: NDArray[np.int64]  # (S,) as in the PNG file
    categories: NDArray[np.int32]  # (S,) position among the categories by id, or NOT_DECLARED
    crowd: NDArray[np.bool_]  # (S,)


class CocoPanoptic:
    """Images and their segments of a split, in the order of the json; classes count from 0, things and stuff alike.

    Pixels whose number the json does not know become void, segments without a pixel are left out: both are counted in
    `repairs`, an image once, as any process reads images, with a warning of the first. Other faults as in
    `CocoDetection`.

    Args:
        root: the folder that holds `annotations`.
        split: "train" or "val", or another part of the file names.
        year: the other part.
        annotations: path of the json below the root; None for `annotations/panoptic_{split}{year}.json`.
        segments: folder of the PNG files below the root; None for the json's path without its ending.
        images: folder of the images below the root; None for `{split}{year}`.
        strict: stop at the first annotation that would have to be mended or left out.
        cache: keep the decoded pictures and PNG files in memory.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        year: str = "2017",
        annotations: str | None = None,
        segments: str | None = None,
        images: str | None = None,
        strict: bool = False,
        cache: bool = False,
    ) -> None:
        self.source = find_json(Path(root), annotations or f"annotations/panoptic_{split}{year}.json")
        self.folder = Path(root) / (images or f"{split}{year}")
        self.png_folder = Path(root) / segments if segments else self.source.with_suffix("")
        self._packed = open_packed(self.source, "panoptic", pack_panoptic)
        self.label_map = self._packed.label_map(first=0)
        self.is_thing = np.array([category.is_thing for category in self._packed.categories], np.bool_)  # (K,)
        repairs = Repairs(strict)
        self._packed.retell(self.source, repairs)
        repairs.tell(self.source)
        self.repairs = SampleRepairs(self.source, root, (UNKNOWN_SEGMENT, UNSEEN_SEGMENT), len(self), strict)
        rows, packed = np.arange(len(self)), self.segments
        names = texts_of(self.images.names, self.images.name_offsets, packed.rows)
        refuse_missing(Path(root), self.folder, names, self.source)
        pngs = texts_of(packed.png_names, packed.png_name_offsets, rows)
        refuse_missing(Path(root), self.png_folder, pngs, self.source)
        self._cache = PackedPixels([self.folder / name for name in names], read_rgb) if cache else None
        self._png_cache = PackedPixels([self.png_folder / name for name in pngs], read_png) if cache else None

    def __len__(self) -> int:
        return len(self.segments.rows)

    @property
    def ids(self) -> list[str]:
        """The image ids, made from numbers at each call: a stored list would be copied by every loader process."""
        return [str(image_id) for image_id in self.images.image_ids[self.segments.rows].tolist()]

    @property
    def images(self) -> PackedImages:
        """All images that the json declares, also those that are not annotated."""
        return PackedImages(*(self._packed.arrays[name] for name in PackedImages._fields))

    @property
    def segments(self) -> PackedSegments:
        """All segments of the json, packed."""
        return PackedSegments(*(self._packed.arrays[name] for name in PackedSegments._fields))

    def __getitem__(self, index: int, /) -> PanopticSample:
        images, packed = self.images, self.segments
        row = int(packed.rows[index])
        path = self.folder / text_at(images.names, images.name_offsets, row)
        image = self._cache[index] if self._cache else read_rgb(path)
        refuse_other_size(image, path, images, row, self.source)
        path = self.png_folder / text_at(packed.png_names, packed.png_name_offsets, index)
        colours = self._png_cache[index] if self._png_cache else read_png(path)
        refuse_other_size(colours, path, images, row, self.source)
        mine = slice(int(packed.offsets[index]), int(packed.offsets[index + 1]))
        found = number_segments(segment_ids(colours), packed.ids[mine])
        self._note(index, path, found, packed.ids[mine])
        segments, kept = renumber(found.segments, found.seen & (packed.categories[mine] != NOT_DECLARED))
        labels = packed.categories[mine][kept].astype(np.int64)
        return {
            "image_id": str(images.image_ids[row]),
            "image": image,
            "segments": segments,
            "labels": labels,
            "is_thing": self.is_thing[labels],
            "crowd": packed.crowd[mine][kept],
        }

    def _note(self, index: int, path: Path, found: "Numbered", ids: NDArray[np.int64]) -> None:
        """Counts what does not fit between PNG and json."""
        if found.strange is not None:
            self.repairs.note(index, UNKNOWN_SEGMENT, f"{path}, id {found.strange}")
        if not found.seen.all():
            self.repairs.note(index, UNSEEN_SEGMENT, f"{path}, id {ids[~found.seen][0]}")


class Numbered(NamedTuple):
    """The pixels of a PNG by position in the list of segments."""

    segments: NDArray[np.int32]  # (H, W): position plus 1; 0 is void
    seen: NDArray[np.bool_]  # (N,) whether a segment has a pixel
    strange: int | None  # a number in the PNG that the list has not


def read_png(path: Path) -> NDArray[np.uint8]:
    """The colours (H, W, 3) that number the segments."""
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("RGB", "RGBA"):
                raise DataError(f"{path}: a panoptic PNG numbers its segments by RGB colours, this is {picture.mode}")
            return np.array(picture)[..., :3]
    except FileNotFoundError:
        raise DataError(f"no file {path}") from None
    except UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a readable PNG ({error})") from None


def segment_ids(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Segment numbers (H, W) of colours (H, W, 3): R + 256 G + 65536 B.

    >>> segment_ids(np.array([[[1, 2, 0], [0, 0, 1]]], np.uint8)).tolist()
    [[513, 65536]]
    """
    wide = colours.astype(np.int32)
    return np.asarray(wide[..., 0] + (wide[..., 1] << 8) + (wide[..., 2] << 16), np.int32)


def segment_colours(ids: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Colours (H, W, 3) of segment numbers (H, W), the inverse of `segment_ids`."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)


def spread_id(position: int) -> int:
    """A number for the segments 1, 2, ... of an image whose colour is easily told from the others and never black.

    Steps of an odd number through the 24 bits of a colour meet none twice.
    """
    return position * 0x9E3779 % (LARGEST_ID + 1)


def number_segments(ids: NDArray[np.int32], known: NDArray[np.int64]) -> Numbered:
    """Positions of the pixels' numbers (H, W) among the known ones (N,), all different and none 0."""
    keys = np.concatenate([np.zeros(1, np.int64), known])  # 0 is void
    order = np.argsort(keys)
    place = np.minimum(np.searchsorted(keys[order], ids), len(known))  # (H, W) in the sorted list
    fits = keys[order][place] == ids
    segments = np.where(fits, order[place], 0).astype(np.int32)
    seen = np.bincount(segments.ravel(), minlength=len(keys))[1:] > 0
    return Numbered(segments, seen, None if fits.all() else int(ids[~fits][0]))


def renumber(
    segments: NDArray[np.int32], keep: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:  # fmt: skip
    """The pixels with only the kept of the segments 1..N, numbered anew from 1, and the positions of these.

    >>> renumber(np.array([[0, 1], [2, 3]], np.int32), np.array([True, False, True]))
    (array([[0, 1],
           [0, 2]], dtype=int32), array([0, 2]))
    """
    if bool(keep.all()):
        return segments, np.arange(len(keep))
    table = np.concatenate([np.zeros(1, np.int32), np.where(keep, np.cumsum(keep), 0).astype(np.int32)])
    return table[segments], np.flatnonzero(keep)


def pack_panoptic(content: Content, path: Path) -> Packed:
    """Images and segments of a panoptic json. What cannot be right is left out and counted."""
    repairs = Repairs()
    if not all("isthing" in entry_of(entry) for entry in content["categories"]):
        raise DataError(f"{path} is not a panoptic annotation file: categories do not say whether they are things")
    categories = read_categories(content, path, repairs)
    images, row_of = pack_images(content, path, repairs)
    position_of: dict[int | None, int] = {category.id: number for number, category in enumerate(categories)}
    segments = _pack_segments(content["annotations"], row_of, position_of, repairs)
    if len(segments.rows) == 0:
        raise DataError(f"{path} has no annotated image")
    for row in np.setdiff1d(np.arange(len(images.image_ids)), segments.rows).tolist():
        repairs.note("image without an annotation left out", f"image {images.image_ids[row]}")
    return Packed(images._asdict() | segments._asdict(), categories, repairs.counts, repairs.first)


def _pack_segments(
    annotations: list[object], row_of: dict[int | None, int], position_of: dict[int | None, int], repairs: Repairs
) -> PackedSegments:
    names: dict[int, str] = {}  # of the PNG file by row of the image
    counts: list[int] = []
    ids: list[int] = []
    categories: list[int] = []
    crowd: list[bool] = []
    for number, entry in enumerate(map(entry_of, annotations)):
        row, name, listed = row_of.get(whole(entry.get("image_id"))), entry.get("file_name"), entry.get("segments_info")
        where = f"annotation of image {entry.get('image_id')}"
        if row is None:
            repairs.note("annotation of an image that is not declared left out", where)
        elif row in names:
            repairs.note("second annotation of an image left out", where)
        elif not isinstance(name, str) or not isinstance(listed, list):
            repairs.note("annotation without file_name and segments_info left out", f"annotations[{number}], {where}")
        else:
            names[row] = name
            found = _segments_of(listed, position_of, where, repairs)
            counts.append(len(found))
            ids += found
            categories += [category for category, _ in found.values()]
            crowd += [mark for _, mark in found.values()]
    return PackedSegments(
        np.array(list(names), np.int64),
        offsets_of(counts),
        *pack_texts(list(names.values())),
        np.array(ids, np.int64),
        np.array(categories, np.int32),
        np.array(crowd, np.bool_),
    )


def _segments_of(
    listed: list[object], position_of: dict[int | None, int], where: str, repairs: Repairs
) -> dict[int, tuple[int, bool]]:
    """Category and crowd mark by segment id."""
    found: dict[int, tuple[int, bool]] = {}
    for entry in map(entry_of, listed):
        segment_id, category = whole(entry.get("id")), position_of.get(whole(entry.get("category_id")), NOT_DECLARED)
        place = f"segment {entry.get('id')}, {where}"
        if segment_id is None or not 0 < segment_id <= LARGEST_ID:
            repairs.note("segment without an id of 24 bits left out", place)
        elif segment_id in found:
            repairs.note("repeated segment id left out", place)
        else:
            mark = entry.get("iscrowd", 0)
            found[segment_id] = category, mark == 1
            if mark not in (0, 1):
                repairs.note(UNKNOWN_CROWD, place)
            if category == NOT_DECLARED:
                repairs.note("segment of a category that is not declared made void", place)
    return found
