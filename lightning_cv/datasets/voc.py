"""Readers of folders in PASCAL VOC's layout: `root/VOCdevkit/VOC{year}` with images, xml, class masks and lists.

Everingham et al., "The PASCAL visual object classes challenge", 2007 and 2012. Letters: N objects of an image; H, W.
"""

import difflib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_cv.contracts import VOID, DetectionSample, LabelMap, SegmentationSample
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.images import PackedPixels, read_mask, read_rgb

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""VOC's class names in the order of their labels, 1 to 20."""


def voc_box_labels(class_names: tuple[str, ...] = VOC_CLASSES) -> LabelMap:
    """The label map of boxes: labels from 1."""
    return LabelMap(class_names, first=1, dataset_ids=tuple(range(1, len(class_names) + 1)))


def voc_mask_labels(class_names: tuple[str, ...] = VOC_CLASSES) -> LabelMap:
    """The label map of class masks: the background is class 0."""
    return LabelMap(("background", *class_names), first=0, dataset_ids=tuple(range(len(class_names) + 1)))


class VOCDetection:
    """Images and boxes of one or several splits, by position in the list.

    Args:
        root: the folder that holds `VOCdevkit`.
        year: names the folder `VOC{year}`.
        split: a list of `ImageSets/Main`; several joined by "+".
        class_names: in the order of their labels, from 1.
        keep_difficult: False leaves out the objects marked difficult.
        cache: keep the decoded pictures of the split in memory.
    """

    def __init__(
        self,
        root: str | Path,
        year: str,
        split: str,
        class_names: tuple[str, ...] = VOC_CLASSES,
        keep_difficult: bool = True,
        cache: bool = False,
    ) -> None:
        folder = _devkit(root, year)
        self.label_map = voc_box_labels(tuple(class_names))
        self.ids = _read_lists(folder / "ImageSets" / "Main", split)
        self._paths, self._offsets, self._objects = _read_annotations(folder, self.ids, self.label_map, keep_difficult)
        self._cache = PackedPixels(self._paths, read_rgb) if cache else None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> DetectionSample:
        image = self._cache[index] if self._cache else read_rgb(self._paths[index])
        mine = slice(self._offsets[index], self._offsets[index + 1])
        height, width = image.shape[:2]
        boxes = np.clip(self._objects.boxes[mine], 0, np.array([width, height, width, height], np.float32))
        if bool((boxes[:, 2:] <= boxes[:, :2]).any()):
            raise DataError(f"{self._paths[index]} is {width} x {height} pixels: the annotation has a box outside it")
        return {
            "image_id": self.ids[index],
            "image": image,
            "boxes": boxes,
            "labels": self._objects.labels[mine].copy(),
            "difficult": self._objects.difficult[mine].copy(),
        }


class VOCSegmentation:
    """Images and class masks of one or several splits of `ImageSets/Segmentation`; 255 is void.

    Arguments as for `VOCDetection`; mask value 0 is the background, `class_names` count from 1.
    """

    def __init__(
        self,
        root: str | Path,
        year: str,
        split: str,
        class_names: tuple[str, ...] = VOC_CLASSES,
        cache: bool = False,
    ) -> None:
        folder = _devkit(root, year)
        self.label_map = voc_mask_labels(tuple(class_names))
        self.ids = _read_lists(folder / "ImageSets" / "Segmentation", split)
        self._images = _present(folder / "JPEGImages", [f"{image_id}.jpg" for image_id in self.ids], split)
        self._masks = _present(folder / "SegmentationClass", [f"{image_id}.png" for image_id in self.ids], split)
        self._image_cache = PackedPixels(self._images, read_rgb) if cache else None
        self._mask_cache = PackedPixels(self._masks, read_mask) if cache else None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> SegmentationSample:
        image = self._image_cache[index] if self._image_cache else read_rgb(self._images[index])
        mask = self._mask_cache[index] if self._mask_cache else read_mask(self._masks[index])
        path, classes = self._masks[index], self.label_map.num_classes
        if mask.shape != image.shape[:2]:
            raise DataError(f"{path} is {_size(mask)} pixels, its image {self._images[index].name} is {_size(image)}")
        if bool(((mask >= classes) & (mask != VOID)).any()):
            strange = sorted(set(np.unique(mask).tolist()) - {*range(classes), VOID})
            raise DataError(f"{path} holds the class numbers {strange}: known are 0 to {classes - 1} and {VOID}")
        return {"image_id": self.ids[index], "image": image, "mask": mask}


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def _devkit(root: str | Path, year: str) -> Path:
    folder = Path(root) / "VOCdevkit" / f"VOC{year}"
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}: fetch the real pictures with `lightning-cv data get voc{year} --root {root}` "
            f"or draw scenes with `lightning-cv data draw --root {root}`"
        )
    return folder


def _read_lists(folder: Path, split: str) -> list[str]:
    """Image ids of the splits joined by "+", each once, in the order of the lists."""
    ids: dict[str, None] = {}
    for name in split.split("+"):
        path = folder / f"{name}.txt"
        if not path.is_file():
            known = sorted(file.stem for file in folder.glob("*.txt") if "_" not in file.stem)
            raise DataError(f"no list {path}: splits here are {', '.join(known) or '(none)'}")
        listed = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
        if not listed:
            raise DataError(f"{path} lists no image")
        ids.update(dict.fromkeys(listed))
    return list(ids)


def _present(folder: Path, names: list[str], asked_by: str) -> list[Path]:
    """Paths of the named files; an error where one is missing."""
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for name in names:
        if name not in there:
            raise DataError(f"no file {folder / name}, which split {asked_by} names")
    return [folder / name for name in names]


class _Objects(NamedTuple):
    boxes: NDArray[np.float32]  # (N, 4)
    labels: NDArray[np.int64]  # (N,)
    difficult: NDArray[np.bool_]  # (N,)


def _read_annotations(
    folder: Path, ids: list[str], label_map: LabelMap, keep_difficult: bool
) -> tuple[list[Path], NDArray[np.int64], _Objects]:
    """Paths of the images, offsets (images + 1,) and all objects one after another."""
    there = {path.name for path in (folder / "JPEGImages").iterdir()} if (folder / "JPEGImages").is_dir() else set()
    label_of = {name: label for label, name in enumerate(label_map.names, start=label_map.first)}
    paths: list[Path] = []
    counts: list[int] = []
    rows: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    marks: list[bool] = []
    for image_id in ids:
        path = folder / "Annotations" / f"{image_id}.xml"
        tree = _parse(path)
        name = (tree.findtext("filename") or f"{image_id}.jpg").strip()
        if name not in there:
            raise DataError(f"{path} names the image {name}: no such file in {folder / 'JPEGImages'}")
        paths.append(folder / "JPEGImages" / name)
        before = len(labels)
        for item in tree.iterfind("object"):
            difficult = (item.findtext("difficult") or "0").strip() == "1"
            if difficult and not keep_difficult:
                continue
            labels.append(_label(path, item, label_of))
            rows.append(_corners(path, item))
            marks.append(difficult)
        counts.append(len(labels) - before)
    boxes = np.array(rows, np.float32).reshape(-1, 4)
    objects = _Objects(boxes, np.array(labels, np.int64), np.array(marks, np.bool_))
    return paths, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), objects


def _parse(path: Path) -> ElementTree.Element:
    try:
        tree = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise DataError(f"no annotation {path}, which a list names") from None
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not XML: {error}") from None
    if tree.tag != "annotation":
        raise DataError(f"{path} is not a VOC annotation: its root is <{tree.tag}>, not <annotation>")
    return tree


def _label(path: Path, item: ElementTree.Element, label_of: dict[str, int]) -> int:
    name = (item.findtext("name") or "").strip()
    if name not in label_of:
        nearest = difflib.get_close_matches(name, label_of, n=1)
        hint = f"nearest known class {nearest[0]!r}" if nearest else f"known are {', '.join(label_of)}"
        raise DataError(f"{path} names the unknown class {name!r}; {hint}")
    return label_of[name]


def _corners(path: Path, item: ElementTree.Element) -> tuple[float, float, float, float]:
    """VOC's 1-based corners, the far ones included, as x1, y1, x2, y2 from 0 with the far edge excluded."""
    texts = [item.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x1, y1, x2, y2 = (float(text or "") for text in texts)
    except ValueError:
        raise DataError(f"{path} is not a VOC annotation: an object's <bndbox> reads {texts}") from None
    if not (x2 > x1 - 1 and y2 > y1 - 1):
        raise DataError(f"{path} has an empty box: xmin, ymin, xmax, ymax are {texts}")
    return x1 - 1, y1 - 1, x2, y2
