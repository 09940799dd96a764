"""Reader of folders in COCO's layout: boxes and, when asked, masks of objects.

`root/annotations/instances_{split}{year}.json` and the images in `root/{split}{year}/`. Lin et al. 2014, "Microsoft
COCO: common objects in context". Letters: N objects of an image; H, W.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_cv.contracts import DetectionSample
from lightning_cv.datasets.coco_cache import open_packed
from lightning_cv.datasets.coco_json import (
    PackedImages,
    find_json,
    offsets_of,
    refuse_missing,
    refuse_other_size,
    text_at,
    texts_of,
)
from lightning_cv.datasets.coco_objects import PackedObjects, pack_instances
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.images import PackedPixels, read_rgb
from lightning_cv.datasets.repairs import Repairs, SampleRepairs

UNSEEN_OBJECT = "object whose mask has no pixel left out"


class CocoDetection:
    """Images and objects of a split, in the order of the json. The classes are those that the json declares.

    Boxes are cut to the picture; nothing is "difficult". Annotations that cannot be right are mended or left out, with
    one warning; images that are damaged or of another size than declared are an error when they are read. Objects whose
    mask turns out to have no pixel when it is drawn are left out then: `repairs` counts their images.

    Args:
        root: the folder that holds `annotations`.
        split: "train" or "val", or another part of the file names.
        year: the other part.
        annotations: path of the json below the root; None for `annotations/instances_{split}{year}.json`.
        images: folder of the images below the root; None for `{split}{year}`.
        keep_empty: False leaves out images without objects (that are kept).
        keep_crowd: False leaves out regions of many objects (COCO's "iscrowd"); True keeps them, marked.
        with_masks: give masks as well, and leave out objects without one.
        strict: stop at the first annotation that would have to be mended or left out.
        cache: keep the decoded pictures in memory.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        year: str = "2017",
        annotations: str | None = None,
        images: str | None = None,
        keep_empty: bool = True,
        keep_crowd: bool = True,
        with_masks: bool = False,
        strict: bool = False,
        cache: bool = False,
    ) -> None:
        self.source = find_json(Path(root), annotations or f"annotations/instances_{split}{year}.json")
        self.folder = Path(root) / (images or f"{split}{year}")
        self.keep_crowd, self.with_masks = keep_crowd, with_masks
        self._packed = open_packed(self.source, "instances", pack_instances)
        self.label_map = self._packed.label_map(first=1)
        repairs = Repairs(strict)
        self._packed.retell(self.source, repairs)
        self._rows = self._choose(keep_empty, repairs)
        repairs.tell(self.source)
        self.repairs = SampleRepairs(self.source, root, (UNSEEN_OBJECT,), len(self), strict)
        names = texts_of(self.images.names, self.images.name_offsets, self._rows)
        refuse_missing(Path(root), self.folder, names, self.source)
        self._cache = PackedPixels([self.folder / name for name in names], read_rgb) if cache else None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def ids(self) -> list[str]:
        """The image ids, made from numbers at each call: a stored list would be copied by every loader process."""
        return [str(image_id) for image_id in self.images.image_ids[self._rows].tolist()]

    @property
    def images(self) -> PackedImages:
        """All images that the json declares, also those that are left out."""
        return PackedImages(*(self._packed.arrays[name] for name in PackedImages._fields))

    @property
    def objects(self) -> PackedObjects:
        """All objects of the json that have a box, packed, by row of `images`."""
        return PackedObjects(*(self._packed.arrays[name] for name in PackedObjects._fields))

    def __getitem__(self, index: int, /) -> DetectionSample:
        row = int(self._rows[index])
        image, objects = self._read_image(index, row), self.objects
        height, width = image.shape[:2]
        mine = self._kept(objects, slice(int(objects.offsets[row]), int(objects.offsets[row + 1])))
        masks: NDArray[np.bool_] | None = None
        if self.with_masks:
            mine, masks = self._drawn(index, objects, mine, height, width)
        sample: DetectionSample = {
            "image_id": str(self.images.image_ids[row]),
            "image": image,
            "boxes": objects.boxes[mine],
            "labels": objects.categories[mine].astype(np.int64) + 1,
            "difficult": np.zeros(len(mine), np.bool_),
            "crowd": objects.crowd[mine],
            "areas": objects.areas[mine],
        }
        if masks is not None:
            sample["masks"] = masks
        return sample

    def _drawn(
        self, index: int, objects: PackedObjects, mine: NDArray[np.int64], height: int, width: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Those of an image's objects that have a pixel, and their masks (N, H, W)."""
        masks, seen = np.empty((len(mine), height, width), np.bool_), np.ones(len(mine), np.bool_)
        for position, number in enumerate(mine.tolist()):
            masks[position] = objects.mask(number, height, width)
            seen[position] = masks[position].any()
        if seen.all():
            return mine, masks
        self.repairs.note(index, UNSEEN_OBJECT, f"{self.source}, annotation {objects.ids[mine[~seen][0]]}")
        return mine[seen], masks[seen]

    def _choose(self, keep_empty: bool, repairs: Repairs) -> NDArray[np.int64]:
        """Rows of the images that are served; tells of objects without the mask that is asked for."""
        objects = self.objects
        everything = slice(0, len(objects.ids))
        if self.with_masks and bool((bare := ~objects.has_mask(everything)).any()):
            kind = "object without a mask left out"
            repairs.note(kind, f"{self.source}, annotation {objects.ids[np.argmax(bare)]}")
            repairs.counts[kind] = int(np.count_nonzero(bare))
        if keep_empty:
            return np.arange(len(objects.offsets) - 1)
        kept = np.zeros(len(objects.ids), np.int64)
        kept[self._kept(objects, everything)] = 1
        rows = np.flatnonzero(np.diff(offsets_of(kept)[objects.offsets]))  # images with a kept object
        if len(rows) == 0:
            raise DataError(f"{self.source} has no image with an object that is kept")
        return rows

    def _kept(self, objects: PackedObjects, stretch: slice) -> NDArray[np.int64]:
        """Numbers (N,) of the objects of a stretch that are served."""
        keep = np.ones(stretch.stop - stretch.start, np.bool_)
        if not self.keep_crowd:
            keep &= ~objects.crowd[stretch]
        if self.with_masks:
            keep &= objects.has_mask(stretch)
        return np.arange(stretch.start, stretch.stop)[keep]

    def _read_image(self, index: int, row: int) -> NDArray[np.uint8]:
        images = self.images
        path = self.folder / text_at(images.names, images.name_offsets, row)
        image = self._cache[index] if self._cache else read_rgb(path)
        refuse_other_size(image, path, images, row, self.source)
        return image
