"""Counts, box shapes and pixels of a folder in one of the known layouts, as far as its files can be read."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cv.errors import UserError
from lightning_cv.tools.data_check_boxes import Corners
from lightning_cv.tools.data_check_celeba import PARTITIONS, read_rows
from lightning_cv.tools.data_check_findings import Findings
from lightning_cv.tools.data_check_json import (
    Entry,
    annotation_files,
    check_categories,
    check_images,
    is_id,
    is_panoptic,
    numbers,
    read_json,
    split_of,
)
from lightning_cv.tools.data_check_layout import (
    celeba_folder,
    coco_folder,
    devkits,
    idx_folders,
    mask_folders,
    split_name,
)
from lightning_cv.tools.data_check_look import Look, look_at
from lightning_cv.tools.data_check_mnist import CLASSES, PARTS, idx_file, read_idx_file
from lightning_cv.tools.data_check_voc import is_class_list, list_problem, read_annotation, read_list

VOID = 255


class Content(NamedTuple):
    """What a folder holds. Letters: N occurrences of a class: objects, or classes of an image where there are none."""

    images: int
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]  # (N,), positions in class_names
    owners: NDArray[np.int64]  # (N,), number of the image, 0 to images - 1
    apart: NDArray[np.bool_]  # (N,), difficult or crowd
    shapes: NDArray[np.float64]  # (N, 2), width and height of the box as shares of its picture's; NaN where unusable
    apart_word: str = ""
    pixels: NDArray[np.int64] | None = None  # (classes,), of masks
    unreadable: int = 0  # annotations, whose images are not counted
    looks: Mapping[Path, Look] = {}  # at class masks, by file

    @property
    def has_boxes(self) -> bool:
        """Whether any object has a usable box."""
        return bool(np.isfinite(self.shapes).any())


class MaskCounts(NamedTuple):
    """Pixels of class masks. Letter: K classes, whose numbers are the masks' values."""

    class_names: tuple[str, ...]
    pixels: NDArray[np.int64]  # (K,)
    around: NDArray[np.int64]  # (K,), of the masks that hold the class: all pixels that are not void
    images: NDArray[np.int64]  # (K,), masks that hold the class
    masks: int
    void: int  # pixels
    unreadable: int  # masks, which count nowhere


class _Rows:
    """Occurrences as they are read."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.positions = {name: position for position, name in enumerate(class_names)}
        self.images = 0
        self.labels: list[int] = []
        self.owners: list[int] = []
        self.apart: list[bool] = []
        self.shapes: list[tuple[float, float]] = []

    def add(
        self, name: str, owner: int, apart: bool = False, shape: tuple[float, float] = (math.nan, math.nan)
    ) -> None:
        """One occurrence in the image of this number."""
        self.labels.append(self.positions.setdefault(name, len(self.positions)))
        self.owners.append(owner)
        self.apart.append(apart)
        self.shapes.append(shape)

    def content(self, apart_word: str = "", pixels: NDArray[np.int64] | None = None) -> Content:
        """Everything added so far."""
        shapes = np.array(self.shapes, np.float64).reshape(-1, 2)
        labels, owners = np.array(self.labels, np.int64), np.array(self.owners, np.int64)
        apart = np.array(self.apart, np.bool_)
        return Content(self.images, tuple(self.positions), labels, owners, apart, shapes, apart_word, pixels)


def read_content(
    root: Path, layout: str, split: str | None, classes: Sequence[str], jobs: int, class_masks: bool = False
) -> Content:
    """What a split of a folder holds, or everything where none is named.

    Args:
        root: the folder.
        layout: one of the known layouts.
        split: a list, file or part, named as the layout names it.
        classes: names in their order; others that occur follow.
        jobs: processes that read masks.
        class_masks: look at the masks of a VOC folder too; at those of the layout "masks" it always looks.
    """
    if layout == "voc":
        content = _read_voc(root, split, classes)
        return content._replace(looks=_look_at_voc_masks(root, split, jobs)) if class_masks else content
    if layout == "coco":
        return _read_coco(root, split)
    if layout == "celeba":
        return _read_celeba(root, split)
    if layout == "mnist":
        return _read_mnist(root, split)
    return _read_masks(root, split, classes, jobs)


def _read_voc(root: Path, split: str | None, classes: Sequence[str]) -> Content:
    rows, unreadable = _Rows(classes), 0
    for path in _voc_annotations(root, split):
        annotation = read_annotation(path)
        if annotation.error:
            unreadable += 1
            continue
        width, height = annotation.width, annotation.height
        if not width or not height:
            width, height = _picture_size(path.parent.parent / "JPEGImages" / annotation.filename)
        for item in annotation.objects:
            rows.add(item.name, rows.images, item.difficult, _share(item.corners, width, height))
        rows.images += 1
    content = rows.content("difficult")._replace(unreadable=unreadable)
    if len(content.labels) and content.labels.min() >= len(classes):  # a folder with names of its own
        names, labels = content.class_names[len(classes) :], content.labels - len(classes)
        return content._replace(class_names=names, labels=labels)
    return content


def _picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels; 0 where it cannot be read."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, ValueError):
        return 0, 0


def _voc_annotations(root: Path, split: str | None) -> Iterator[Path]:
    """Files of all annotations, or of those of a list, which is one of `Main` or, where that has none, of masks."""
    if split is None:
        for folder in devkits(root):
            yield from sorted((folder / "Annotations").glob("*.xml"))
        return
    for folder, image_id in _listed(root, split, ("Main", "Segmentation")):
        annotation = folder / "Annotations" / f"{image_id}.xml"
        if annotation.is_file():
            yield annotation


def _look_at_voc_masks(root: Path, split: str | None, jobs: int) -> dict[Path, Look]:
    """All class masks, or those of a list of `ImageSets/Segmentation`; one that is not there cannot be read."""
    if split is None:
        paths = [path for folder in devkits(root) for path in sorted((folder / "SegmentationClass").glob("*.png"))]
    else:
        listed = _listed(root, split, ("Segmentation",))
        paths = [folder / "SegmentationClass" / f"{image_id}.png" for folder, image_id in listed]
    return look_at(paths, "mask", jobs, "class masks")


def _listed(root: Path, split: str, kinds: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Devkits and ids of the images of a list, of the first of these kinds of which any of the years has it."""
    folders = devkits(root)
    for kind in kinds:
        lists = {folder: folder / "ImageSets" / kind / f"{split}.txt" for folder in folders}
        lists = {folder: path for folder, path in lists.items() if path.exists()}  # also what is no file: a problem
        for folder, path in lists.items():
            if problem := list_problem(path):
                raise UserError(f"{path} is not a readable list ({problem})")
            yield from ((folder, image_id) for image_id in read_list(path))
        if lists:
            return
    known = {path.stem for folder in folders for kind in kinds for path in (folder / "ImageSets" / kind).glob("*.txt")
             if not list_problem(path) and not is_class_list(path)}  # fmt: skip
    where = f" of ImageSets/{kinds[0]}" if len(kinds) == 1 else ""
    raise UserError(_no_split(root, split, known, where))


def count_pixels(looks: Mapping[Path, Look], class_names: Sequence[str]) -> MaskCounts:
    """Pixels of each class in the masks that can be read; void is no class.

    Args:
        looks: at class masks, by file.
        class_names: of the values from 0; where there are none, those up to the highest are called by their numbers.

    Raises:
        UserError: a mask holds a value that has no name, or no mask a pixel of any class.
    """
    values = [{value: count for value, count in look.values if value != VOID} for look in looks.values()]
    highest = max((max(held, default=-1) for held in values), default=-1)
    if highest < 0:
        raise UserError("no class mask that can be read holds a pixel of a class")
    names = tuple(class_names) or tuple(str(value) for value in range(highest + 1))
    if highest >= len(names):
        path = next(path for path, held in zip(looks, values, strict=True) if highest in held)
        raise UserError(f"{path} holds the value {highest}, but names end at {len(names) - 1}: say all with --classes")
    pixels, around, images = np.zeros((3, len(names)), np.int64)
    for held in values:
        for value, count in held.items():
            pixels[value] += count
            around[value] += sum(held.values())
            images[value] += 1
    void = sum(count for look in looks.values() for value, count in look.values if value == VOID)
    unreadable = sum(not look.values for look in looks.values())
    return MaskCounts(names, pixels, around, images, len(looks) - unreadable, void, unreadable)


def _read_coco(root: Path, split: str | None) -> Content:
    folder = coco_folder(root)
    assert folder is not None
    files = annotation_files(folder)
    files = [path for path in files if not is_panoptic(path)] or files
    chosen = [path for path in files if split is None or split_of(path) in (split, f"{split}2017")]
    if not chosen:
        raise UserError(_no_split(root, str(split), {split_of(path) for path in files}))
    rows = _Rows(())
    for path in chosen:
        _add_coco_file(path, rows, Findings(root))
    return rows.content("crowd")


def _add_coco_file(path: Path, rows: _Rows, findings: Findings) -> None:
    """The objects of an instance file or the segments of a panoptic file; what is not declared is passed over."""
    content = read_json(path, findings)
    if content is None:
        raise UserError(f"{path}: {findings.problems['annotation that cannot be read'].examples[0]}")
    images = check_images(content["images"], path, findings)
    categories = check_categories(content["categories"], path, (), findings)
    for name in categories.values():
        rows.positions.setdefault(name, len(rows.positions))
    order = {image_id: number for number, image_id in enumerate(images, start=rows.images)}
    for item in content["annotations"]:
        image_id = item.get("image_id") if isinstance(item, dict) else None
        if not is_id(image_id) or image_id not in images:
            continue
        for part in item.get("segments_info", [item]):
            category = part.get("category_id") if isinstance(part, dict) else None
            if is_id(category) and category in categories:
                shape = _coco_share(part.get("bbox"), images[image_id])
                rows.add(categories[category], order[image_id], part.get("iscrowd", 0) == 1, shape)
    rows.images += len(images)


def _coco_share(value: object, image: Entry) -> tuple[float, float]:
    box = numbers(value) or []
    if len(box) != 4:
        return math.nan, math.nan
    x, y, width, height = box
    return _share((x, y, x + width, y + height), image["width"], image["height"])


def _read_celeba(root: Path, split: str | None) -> Content:
    folder = celeba_folder(root)
    assert folder is not None
    attributes, partition = folder / "list_attr_celeba.txt", folder / "list_eval_partition.txt"
    if split is not None and split not in PARTITIONS:
        raise UserError(_no_split(root, split, set(PARTITIONS)))
    if not attributes.is_file() or (split is not None and not partition.is_file()):
        raise UserError(f"no {attributes.name} or {partition.name} in {folder}")
    findings = Findings(root)
    names = attributes.read_text(errors="replace").splitlines()[1].split()
    table = read_rows(attributes, len(names), findings, header=True)
    if split is not None:
        parts = read_rows(partition, 1, findings, header=False)
        table = {name: row for name, row in table.items() if parts.get(name) == [PARTITIONS.index(split)]}
    rows = _Rows(names)
    for row in table.values():
        for name, value in zip(names, row, strict=True):
            if value == 1:
                rows.add(name, rows.images)
        rows.images += 1
    return rows.content()


def _read_mnist(root: Path, split: str | None) -> Content:
    if split is not None and split not in PARTS:
        raise UserError(_no_split(root, split, set(PARTS)))
    rows = _Rows([str(label) for label in range(CLASSES)])
    for folder in idx_folders(root):
        for part in [part for part in PARTS if split in (None, part)]:
            path = idx_file(folder, part, "labels")
            if path is None:
                raise UserError(f"no labels of {part} in {folder}")
            idx = read_idx_file(path, 1)
            if idx.problem:
                raise UserError(f"{path}: {idx.problem}, {idx.detail}")
            for label in idx.array.tolist():
                rows.add(str(label), rows.images)
                rows.images += 1
    return rows.content()


def _read_masks(root: Path, split: str | None, classes: Sequence[str], jobs: int) -> Content:
    """Classes are those whose pixels a mask holds; without names, they are called by their numbers."""
    folders = {split_name(folder, root): folder for folder in mask_folders(root)}
    if split is not None and split not in folders:
        raise UserError(_no_split(root, split, set(folders)))
    rows = _Rows(classes)
    totals: dict[str, int] = {}
    looks: dict[Path, Look] = {}
    for name, folder in folders.items():
        if split not in (None, name):
            continue
        paths = sorted(path for path in (folder / "masks").glob("*") if path.is_file())
        found = look_at(paths, "mask", jobs, f"{name} masks")
        looks |= found
        for look in found.values():
            for value, count in look.values:
                if value != VOID:
                    label = classes[value] if value < len(classes) else str(value)
                    rows.add(label, rows.images)
                    totals[label] = totals.get(label, 0) + count
            rows.images += 1
    pixels = np.array([totals.get(name, 0) for name in rows.positions], np.int64)
    return rows.content(pixels=pixels)._replace(looks=looks)


def _share(corners: Corners | None, width: float, height: float) -> tuple[float, float]:
    """Width and height of a box as shares of its picture's; NaN where they are no positive numbers."""
    if corners is None or not width > 0 or not height > 0:
        return math.nan, math.nan
    shape = (corners[2] - corners[0]) / width, (corners[3] - corners[1]) / height
    return shape if all(math.isfinite(side) and side > 0 for side in shape) else (math.nan, math.nan)


def _no_split(root: Path, split: str, known: set[str], where: str = "") -> str:
    return f"{root} has no split {split!r}{where}: there are {', '.join(sorted(known)) or 'none'}"
