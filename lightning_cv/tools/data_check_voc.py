"""Folders in PASCAL VOC's layout, read independently of the data set that training uses."""

import math
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_cv.tools.data_check_boxes import Corners, box_problem
from lightning_cv.tools.data_check_findings import Findings, compare_splits
from lightning_cv.tools.data_check_layout import devkits
from lightning_cv.tools.data_check_look import Look, look_at, with_bar
from lightning_cv.tools.data_check_voc_objects import check_objects

VOID = 255
_SPLITS = ("train", "val", "test")  # all other lists, such as trainval, are views of these


class VOCObject(NamedTuple):
    """An object of an annotation; corners are None where the file has none that are numbers."""

    name: str
    corners: Corners | None
    difficult: bool


class Annotation(NamedTuple):
    """What an xml file says: an error, or the picture's name and size in pixels (0 where missing) and the objects."""

    error: str = ""
    filename: str = ""
    width: int = 0
    height: int = 0
    objects: tuple[VOCObject, ...] = ()


def read_annotation(path: Path) -> Annotation:
    """What an xml file says; corners from 0 with the far edge excluded. Parts of objects are passed over."""
    try:
        tree = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, OSError, ValueError) as error:  # unknown encodings are LookupErrors
        return Annotation(f"not XML ({error})")
    if tree.tag != "annotation":
        return Annotation(f"its root is <{tree.tag}>, not <annotation>")
    objects = tuple(
        VOCObject(_text(item, "name"), _corners(item), _text(item, "difficult") == "1")
        for item in tree.iterfind("object")
    )
    filename = (tree.findtext("filename") or f"{path.stem}.jpg").strip()
    return Annotation("", filename, _whole(tree, "size/width"), _whole(tree, "size/height"), objects)


def read_list(path: Path) -> list[str]:
    """The ids of a list of images; none for the list of one class, which has a second column."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [] if rows and len(rows[0]) > 1 else [row[0] for row in rows]


def is_class_list(path: Path) -> bool:
    """Whether a list of `ImageSets/Main` says of every image if it shows one class."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return len(file.readline().split()) > 1


def list_problem(path: Path) -> str:
    """Why a list cannot be read; "" where it can."""
    try:
        path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return str(error)
    return ""


def check_voc(root: Path, classes: Sequence[str], findings: Findings, jobs: int) -> None:
    """Checks every devkit of a folder against these class names."""
    for folder in devkits(root):
        _Devkit(folder, classes, findings, jobs).check()


class _Devkit:
    """One year's folder: everything in it is read at once, then compared."""

    def __init__(self, folder: Path, classes: Sequence[str], findings: Findings, jobs: int) -> None:
        self.folder, self.classes, self.findings = folder, classes, findings
        self.pictures = self._read("JPEGImages", "pictures", jobs)
        self.class_masks = self._read("SegmentationClass", "class masks", jobs)
        self.object_masks = self._read("SegmentationObject", "object masks", jobs)
        paths = sorted((folder / "Annotations").glob("*.xml"))
        read = with_bar(map(read_annotation, paths), len(paths), f"{folder.name} annotations")
        self.annotations = {path.stem: annotation for path, annotation in zip(paths, read, strict=True)}
        findings.looked_at("annotations", len(paths))

    def check(self) -> None:
        for path, look in [*self.pictures.items(), *self.class_masks.items(), *self.object_masks.items()]:
            if look.error:
                kind = "picture" if path.parent.name == "JPEGImages" else "mask"
                self.findings.problem(f"{kind} that cannot be read", path, look.error)
        for stem, annotation in self.annotations.items():
            self._check_annotation(self.folder / "Annotations" / f"{stem}.xml", annotation)
        for path, look in self.class_masks.items():
            self._check_mask(path, look, values=True)
        for path, look in self.object_masks.items():
            self._check_mask(path, look, values=False)
        for path, look in with_bar(self.object_masks.items(), len(self.object_masks), f"{self.folder.name} objects"):
            self._check_objects(path, look)
        self._check_lists("Main", {"Annotations": ".xml"})
        self._check_lists("Segmentation", {"SegmentationClass": ".png"})
        self._note_leftovers()

    def _read(self, name: str, what: str, jobs: int) -> dict[Path, Look]:
        paths = sorted(path for path in (self.folder / name).glob("*") if path.is_file())
        self.findings.looked_at(what, len(paths))
        kind = "picture" if name == "JPEGImages" else "mask"
        return look_at(paths, "picture" if kind == "picture" else "mask", jobs, f"{self.folder.name} {what}")

    def _check_annotation(self, path: Path, annotation: Annotation) -> None:
        if annotation.error:
            self.findings.problem("annotation that cannot be read", path, annotation.error)
            return
        picture = self.folder / "JPEGImages" / annotation.filename
        look = self.pictures.get(picture)
        if look is None:
            self.findings.problem("missing picture", path, f"names {annotation.filename}")
        width, height = self._size(path, annotation, look)
        for number, item in enumerate(annotation.objects, start=1):
            self._check_object(path, number, item, width, height)
        self.findings.looked_at("objects", len(annotation.objects))

    def _size(self, path: Path, annotation: Annotation, look: Look | None) -> tuple[float, float]:
        """The picture's width and height, by the file where it can be read."""
        stated = (annotation.width, annotation.height)
        if look is None or look.error:
            return stated if all(stated) else (math.inf, math.inf)
        if stated != (look.width, look.height):
            detail = f"says {annotation.width} x {annotation.height}, {annotation.filename} has {look.size}"
            self.findings.problem("size that differs from the picture's", path, detail)
        return look.width, look.height

    def _check_object(self, path: Path, number: int, item: VOCObject, width: float, height: float) -> None:
        if item.name not in self.classes:
            self.findings.problem("unknown class", path, f"object {number} is a {item.name!r}")
        if item.corners is None:
            self.findings.problem("object without a box", path, f"object {number}, {item.name}")
            return
        x1, y1, x2, y2 = item.corners
        problem = box_problem(item.corners, width, height)
        if problem:
            detail = f"object {number} has {x1 + 1:g} {y1 + 1:g} {x2:g} {y2:g} in {width:g} x {height:g} pixels"
            self.findings.problem(problem, path, detail)

    def _check_mask(self, path: Path, look: Look, values: bool) -> None:
        if look.error:
            return
        if look.mode not in ("P", "L"):
            self.findings.problem("mask with neither a palette nor grey values", path, f"Pillow's mode {look.mode}")
            return
        picture = self.pictures.get(self.folder / "JPEGImages" / f"{path.stem}.jpg")
        if picture is None:
            self.findings.problem("mask without a picture", path)
        elif not picture.error and (picture.width, picture.height) != (look.width, look.height):
            detail = f"has {look.size} pixels, its picture {picture.size}"
            self.findings.problem("size that differs from the picture's", path, detail)
        strange = [value for value, _ in look.values if len(self.classes) < value != VOID]
        if values and strange:
            self.findings.problem("unknown class", path, f"holds the values {strange}")

    def _check_objects(self, path: Path, look: Look) -> None:
        """An object mask beside the class mask and the annotation, where all three can be read."""
        class_mask, annotation = self.folder / "SegmentationClass" / path.name, self.annotations.get(path.stem)
        other = self.class_masks.get(class_mask, Look(error="missing"))
        readable = not (look.error or other.error) and {look.mode, other.mode} <= {"P", "L"}
        if readable and look.size == other.size and annotation and not annotation.error:
            names = [item.name for item in annotation.objects]
            if set(names) <= set(self.classes):  # others are told already
                check_objects(path, class_mask, names, self.classes, self.findings)

    def _check_lists(self, name: str, needed: dict[str, str]) -> None:
        """The lists of images in a folder of `ImageSets`: every id has its files and is in one split only."""
        lists: dict[str, list[str]] = {}
        for path in sorted((self.folder / "ImageSets" / name).glob("*.txt")):
            if problem := list_problem(path):
                self.findings.problem("list that cannot be read", path, problem)
                continue
            if is_class_list(path):
                continue
            ids = lists[path.stem] = read_list(path)
            self.findings.looked_at("lists", 1)
            if not ids:
                self.findings.problem("list without images", path)
            for image_id, count in Counter(ids).items():
                if count > 1:
                    self.findings.problem("id twice in a list", path, image_id)
                self._check_listed(path, image_id, needed)
        splits = {
            f"{self.folder.name} {name}/{split}": {image_id: self._digest(image_id) for image_id in lists[split]}
            for split in _SPLITS
            if split in lists
        }
        compare_splits(splits, self.findings)

    def _check_listed(self, path: Path, image_id: str, needed: dict[str, str]) -> None:
        annotation = self.annotations.get(image_id, Annotation())
        filename = annotation.filename or f"{image_id}.jpg"
        if not annotation.filename and self.folder / "JPEGImages" / filename not in self.pictures:
            self.findings.problem("missing picture", path, f"lists {image_id}")
        for folder, ending in needed.items():
            if not (self.folder / folder / f"{image_id}{ending}").is_file():
                kind = "missing annotation" if ending == ".xml" else "missing mask"
                self.findings.problem(kind, path, f"lists {image_id}")

    def _digest(self, image_id: str) -> bytes:
        filename = self.annotations.get(image_id, Annotation()).filename or f"{image_id}.jpg"
        return self.pictures.get(self.folder / "JPEGImages" / filename, Look()).digest

    def _note_leftovers(self) -> None:
        texts = [path for path in (self.folder / "ImageSets").glob("*/*.txt") if not list_problem(path)]
        lists = [path for path in texts if not is_class_list(path)]
        listed = {image_id for path in lists for image_id in read_list(path)}
        if lists:
            for path in self.pictures:
                if path.stem not in listed:
                    self.findings.note("picture in no list", path)
        if self.object_masks:
            there = {path.stem for path in self.object_masks}
            for path in self.class_masks:
                if path.stem not in there:
                    self.findings.note("class mask without an object mask", path)


def _corners(item: ElementTree.Element) -> Corners | None:
    """VOC counts from 1 and includes the far corners."""
    try:
        x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        return None
    return x1 - 1, y1 - 1, x2, y2


def _whole(tree: ElementTree.Element, key: str) -> int:
    text = _text(tree, key)
    return int(text) if text.isdigit() else 0


def _text(tree: ElementTree.Element, key: str) -> str:
    return (tree.findtext(key) or "").strip()
