"""Readers of folders in PASCAL VOC's layout: `root/VOCdevkit/VOC{year}` with images, xml, class masks and lists.

Everingham et al., "The PASCAL visual object classes challenge", 2007 and 2012. Letters: N objects of an image; H, W.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_cv.contracts import VOID, DetectionSample, LabelMap, SegmentationSample
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.images import PackedPixels, read_mask, read_rgb
from lightning_cv.datasets.repairs import Repairs, SampleRepairs, mend_boxes
from lightning_cv.datasets.voc_lists import read_split, refuse_missing
from lightning_cv.datasets.voc_xml import VOCObjects, read_annotations

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""VOC's class names in the order of their labels, 1 to 20."""

SMALL_PICTURE = "boxes cut to the picture or left out"
UNSEEN_OBJECT = "object without pixels left out"
UNKNOWN_MASK = "mask of no object left out"


def voc_box_labels(class_names: tuple[str, ...] = VOC_CLASSES) -> LabelMap:
    """The label map of boxes: labels from 1."""
    return LabelMap(class_names, first=1, dataset_ids=tuple(range(1, len(class_names) + 1)))


def voc_mask_labels(class_names: tuple[str, ...] = VOC_CLASSES) -> LabelMap:
    """The label map of class masks: the background is class 0."""
    return LabelMap(("background", *class_names), first=0, dataset_ids=tuple(range(len(class_names) + 1)))


def mask_labels(class_names: tuple[str, ...], binary: bool, multilabel: bool) -> LabelMap:
    """The label map of class masks, of masks of any object, or of label planes, which have no background."""
    if binary and multilabel:
        raise ValueError("VOC masks are binary or multilabel, not both")
    return voc_box_labels(class_names) if multilabel else voc_mask_labels(("object",) if binary else class_names)


class VOCDetection:
    """Images and boxes of a split, by position in the list.

    Args:
        root: the folder that holds `VOCdevkit`.
        year: names the folder `VOC{year}`.
        split: lists of `ImageSets/Main`, also of other years: see `read_split`.
        class_names: in the order of their labels, from 1.
        keep_difficult: False leaves out the objects marked difficult.
        cache: keep the decoded pictures of the split in memory.
        strict: stop at the first annotation or list that would have to be mended or left out. Else `repairs` counts the
            images whose boxes had to be cut when they were read.
        single_object: only the images with exactly one object that is not difficult, and only that object: for
            classification with localization.
    """

    def __init__(
        self,
        root: str | Path,
        year: str,
        split: str,
        class_names: tuple[str, ...] = VOC_CLASSES,
        keep_difficult: bool = True,
        cache: bool = False,
        strict: bool = False,
        single_object: bool = False,
    ) -> None:
        self.label_map = voc_box_labels(tuple(class_names))
        repairs, source = Repairs(strict), _source(root, split)
        listed = read_split(root, year, "Main", split, repairs)
        self._paths, self._objects = read_annotations(listed, self.label_map, repairs)
        repairs.tell(source)
        self.ids = [item.image_id for item in listed]
        if single_object or not keep_difficult:
            self._objects = self._objects.chosen(~self._objects.difficult)
        if single_object:
            self._keep_images(np.flatnonzero(np.diff(self._objects.offsets) == 1))
            if not self.ids:
                raise DataError(
                    f"{source}: single_object leaves no image, none of {len(listed)} has exactly one object that is "
                    "not difficult"
                )
        self.repairs = SampleRepairs(source, root, (SMALL_PICTURE,), len(self), strict)
        self._cache = PackedPixels(self._paths, read_rgb) if cache else None

    def _keep_images(self, rows: NDArray[np.int64]) -> None:
        keep = np.zeros(len(self.ids), np.bool_)
        keep[rows] = True
        counts = np.diff(self._objects.offsets)
        objects = self._objects.chosen(np.repeat(keep, counts))
        offsets = np.concatenate([[0], np.cumsum(counts[rows])]).astype(np.int64)
        self._objects = objects._replace(offsets=offsets)
        self.ids = [self.ids[row] for row in rows.tolist()]
        self._paths = [self._paths[row] for row in rows.tolist()]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def objects(self) -> VOCObjects:
        """The objects of all images, packed."""
        return self._objects

    def __getitem__(self, index: int, /) -> DetectionSample:
        image = self._cache[index] if self._cache else read_rgb(self._paths[index])
        mine = self._objects.of_image(index)
        boxes, kept = _in_picture(index, self._objects.boxes[mine], image, self._paths[index], self.repairs)
        return {
            "image_id": self.ids[index],
            "image": image,
            "boxes": boxes,
            "labels": self._objects.labels[mine][kept],
            "difficult": self._objects.difficult[mine][kept],
            "truncated": self._objects.truncated[mine][kept],
        }


def _source(root: str | Path, split: str) -> str:
    """What is read, for messages."""
    return f"{Path(root) / 'VOCdevkit'}, split {split}"


def _in_picture(
    index: int, boxes: NDArray[np.float32], image: NDArray[np.uint8], path: Path, repairs: SampleRepairs
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The boxes cut to the picture as it is, which may be smaller than the annotation says, and their rows."""
    height, width = image.shape[:2]
    if len(boxes) == 0 or (boxes[:, 2].max() <= width and boxes[:, 3].max() <= height):
        return boxes.copy(), np.arange(len(boxes))
    place = f"{path} is {width} x {height} pixels, smaller than its annotation says"
    repairs.note(index, SMALL_PICTURE, place)
    sizes = np.broadcast_to(np.array([width, height], np.float64), (len(boxes), 2))
    return mend_boxes(boxes.astype(np.float64), sizes, lambda row: place, Repairs())


class VOCInstances:
    """Images, boxes and masks of the objects of a split of `ImageSets/Segmentation`.

    The pixel values 1, 2, ... of an object mask are the first, second, ... object of the annotation (VOC development
    kit); where the class mask contradicts that, an object goes to the mask of its class that its box overlaps most.
    Objects without pixels and masks of no object are left out, boxes cut to the picture: `repairs` counts these images
    as they are read.
    Arguments as for `VOCDetection`.
    """

    def __init__(
        self,
        root: str | Path,
        year: str,
        split: str,
        class_names: tuple[str, ...] = VOC_CLASSES,
        cache: bool = False,
        strict: bool = False,
    ) -> None:
        self.label_map = voc_box_labels(tuple(class_names))
        repairs, source = Repairs(strict), _source(root, split)
        listed = read_split(root, year, "Segmentation", split, repairs)
        if any(item.of_sbd for item in listed):
            raise DataError(f"split {split!r} names images of SBD, which have no annotated boxes: use VOC's own lists")
        self._paths, self._objects = read_annotations(listed, self.label_map, repairs)
        repairs.tell(source)
        self.ids = [item.image_id for item in listed]
        self._class_masks = [item.class_mask for item in listed]
        self._object_masks = [item.object_mask for item in listed]
        refuse_missing([*self._class_masks, *self._object_masks], split)
        kinds = (SMALL_PICTURE, UNSEEN_OBJECT, UNKNOWN_MASK)
        self.repairs = SampleRepairs(source, root, kinds, len(self), strict)
        self._cache = PackedPixels(self._paths, read_rgb) if cache else None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> DetectionSample:
        image = self._cache[index] if self._cache else read_rgb(self._paths[index])
        classes, objects = read_mask(self._class_masks[index]), read_mask(self._object_masks[index])
        for path, mask in ((self._class_masks[index], classes), (self._object_masks[index], objects)):
            refuse_other_size(path, mask, self._paths[index], image)
        mine = self._objects.of_image(index)
        found, unclaimed = _object_numbers(self._objects, mine, classes, objects)
        self._note(index, found, unclaimed)
        seen = np.flatnonzero(found)
        path, boxes = self._paths[index], self._objects.boxes[mine][seen]
        boxes, inside = _in_picture(index, boxes, image, path, self.repairs)
        kept = seen[inside]
        return {
            "image_id": self.ids[index],
            "image": image,
            "boxes": boxes,
            "labels": self._objects.labels[mine][kept],
            "difficult": self._objects.difficult[mine][kept],
            "truncated": self._objects.truncated[mine][kept],
            "masks": objects[None] == found[kept][:, None, None].astype(np.uint8),
        }

    def _note(self, index: int, found: NDArray[np.int64], unclaimed: list[int]) -> None:
        """Counts what an image's object mask and annotation do not share."""
        place = self._object_masks[index]
        if not found.all():
            number = self._objects.numbers[self._objects.of_image(index)][found == 0][0]
            self.repairs.note(index, UNSEEN_OBJECT, f"{place}, object {number}")
        if unclaimed:
            self.repairs.note(index, UNKNOWN_MASK, f"{place}, value {unclaimed[0]}")


def _object_numbers(
    packed: VOCObjects, mine: slice, classes: NDArray[np.uint8], objects: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], list[int]]:
    """The value in the object mask of each object of an image, (N,), 0 for one without pixels; values left over."""
    found = np.zeros(len(packed.labels[mine]), np.int64)
    free: dict[int, int] = {}
    for value in np.setdiff1d(np.unique(objects), [0, VOID]).tolist():
        free[value] = int(np.bincount(classes[objects == value], minlength=256)[:VOID].argmax())
    rows = list(zip(packed.numbers[mine].tolist(), packed.labels[mine].tolist(), strict=True))
    for row, (number, label) in enumerate(rows):
        if free.get(number) == label:
            found[row] = number
            del free[number]
    for row in np.flatnonzero(found == 0).tolist():
        overlaps = {
            value: _share(objects == value, packed.boxes[mine][row])
            for value, label in free.items()
            if label == rows[row][1]
        }
        best = max(overlaps, key=lambda value: overlaps[value], default=0)
        if best and overlaps[best] > 0.5:
            found[row] = best
            del free[best]
    return found, list(free)


def _share(mask: NDArray[np.bool_], box: NDArray[np.float32]) -> float:
    """Intersection over union of a mask's frame and a box."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    frame = np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float64)
    width, height = np.minimum(frame[2:], box[2:]) - np.maximum(frame[:2], box[:2])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [float(np.prod(corners[2:] - corners[:2])) for corners in (frame, box.astype(np.float64))]
    return float(shared / (sum(areas) - shared))


class VOCSegmentation:
    """Images and class masks of a split of `ImageSets/Segmentation`; 255 is void.

    Arguments as for `VOCDetection`; mask value 0 is the background, `class_names` count from 1. `SEG11VALID` and
    `TRAINAUG` of `voc_lists` are splits that need SBD. With `binary` a pixel of any object is of class 1, "object".
    With `multilabel` the masks are label planes uint8 (H, W, K), one an object class: 0, 1, and 255 where it is void.
    """

    def __init__(
        self,
        root: str | Path,
        year: str,
        split: str,
        class_names: tuple[str, ...] = VOC_CLASSES,
        cache: bool = False,
        strict: bool = False,
        binary: bool = False,
        multilabel: bool = False,
    ) -> None:
        self.num_classes, self.binary, self.multilabel = len(class_names) + 1, binary, multilabel
        self.label_map = mask_labels(tuple(class_names), binary, multilabel)
        repairs = Repairs(strict)
        listed = read_split(root, year, "Segmentation", split, repairs)
        repairs.tell(_source(root, split))
        self.ids = [item.image_id for item in listed]
        self._images, self._masks = [item.image for item in listed], [item.class_mask for item in listed]
        self._object_masks = [item.object_mask for item in listed]
        refuse_missing([*self._images, *self._masks], split)
        self._image_cache = PackedPixels(self._images, read_rgb) if cache else None
        self._mask_cache = PackedPixels(self._masks, read_class_mask) if cache else None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> SegmentationSample:
        image = self._image_cache[index] if self._image_cache else read_rgb(self._images[index])
        mask = self._class_mask(index)
        refuse_other_size(self._masks[index], mask, self._images[index], image)
        if self.multilabel:
            planes = mask[..., None] == np.arange(1, self.num_classes, dtype=np.uint8)
            mask = np.where(mask[..., None] == VOID, VOID, planes).astype(np.uint8)
        return {"image_id": self.ids[index], "image": image, "mask": mask}

    def masks_of(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Class mask, as a sample has it, and object mask (H, W) of an image: 0 for no object, VOID at outlines."""
        mask, objects = self._class_mask(index), read_object_mask(self._object_masks[index])
        refuse_other_size(self._object_masks[index], objects, self._masks[index], mask)
        return mask, objects

    def _class_mask(self, index: int) -> NDArray[np.uint8]:
        mask = self._mask_cache[index] if self._mask_cache else read_class_mask(self._masks[index])
        path, classes = self._masks[index], self.num_classes
        if bool(((mask >= classes) & (mask != VOID)).any()):
            strange = sorted(set(np.unique(mask).tolist()) - {*range(classes), VOID})
            raise DataError(f"{path} holds the class numbers {strange}: known are 0 to {classes - 1} and {VOID}")
        if self.binary:
            mask = np.where(mask == VOID, VOID, mask > 0).astype(np.uint8)
        return mask


def read_class_mask(path: Path) -> NDArray[np.uint8]:
    """The class numbers (H, W) of a PNG, or of one of SBD's MATLAB files."""
    return read_mask(path) if path.suffix != ".mat" else _of_sbd(path, "GTcls")


def read_object_mask(path: Path) -> NDArray[np.uint8]:
    """The object numbers (H, W) of a PNG, or of one of SBD's MATLAB files."""
    return read_mask(path) if path.suffix != ".mat" else _of_sbd(path, "GTinst")


def _of_sbd(path: Path, name: str) -> NDArray[np.uint8]:
    from scipy.io import loadmat  # slow to import, and only SBD needs it

    try:
        return np.asarray(loadmat(path)[name]["Segmentation"][0, 0], np.uint8)
    except Exception as error:  # loadmat raises whatever the damaged bytes lead it to
        raise DataError(f"{path}: not a readable mask of SBD ({error})") from None


def refuse_other_size(path: Path, mask: NDArray[np.uint8], image_path: Path, image: NDArray[np.uint8]) -> None:
    """An error where a mask has another size than its image."""
    if mask.shape != image.shape[:2]:
        raise DataError(f"{path} is {_size(mask)} pixels, its image {image_path.name} is {_size(image)}")


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
