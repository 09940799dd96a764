"""Drawn scenes as genuine VOC and COCO folders.

A folder appears whole or not at all: it is written under another name beside its place and then renamed. A folder that
is there already is never written to: with the same recipe it is used as it is, with another it is an error.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cv.datasets.coco_writers import CocoPages
from lightning_cv.datasets.drawn import DRAWN_CLASSES, MOST_OBJECTS, SPLITS, DrawnScene, draw_scene, scene_seed
from lightning_cv.datasets.errors import DataError

RECIPE_FILE = "recipe.json"
"""Says how a drawn folder was made; it lies beside the VOC or COCO files."""

Recipe = dict[str, Any]  # what json holds: numbers, names and counts by split


def drawn_folder(
    root: str | Path, layout: str, counts: dict[str, int], size: int, seed: int, max_objects: int = MOST_OBJECTS
) -> Path:
    """Where scenes of a recipe lie below the data root: other counts, sizes and seeds lie beside each other."""
    objects = [] if max_objects == MOST_OBJECTS else [f"objects{max_objects}"]
    return Path(root) / "drawn" / "-".join([layout, f"{size}px", f"seed{seed}", *objects, *map(str, counts.values())])


def write_voc(
    root: str | Path,
    year: str,
    counts: dict[str, int],
    seed: int = 0,
    size: int = 128,
    max_objects: int = MOST_OBJECTS,
) -> Path:
    """The folder `root/VOCdevkit/VOC{year}` of drawn scenes: `counts` of them by split, of `size` pixels a side.

    JPEG of quality 95, xml with 1-based inclusive corners, class and object masks as palette PNG, lists of the splits
    (and of train and val together) for detection, for segmentation and of each class. Differs from VOC: no outline of
    void pixels around the objects, so that the masks are exact; nothing is "difficult".
    """
    recipe = _recipe("voc", counts, seed, size) | {"year": year}
    if max_objects != MOST_OBJECTS:
        recipe["max_objects"] = max_objects

    def fill(folder: Path) -> None:
        devkit = folder / "VOCdevkit" / f"VOC{year}"
        for name in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject"):
            (devkit / name).mkdir(parents=True)
        presence: dict[str, dict[str, set[int]]] = {}  # split -> image id -> labels in it
        for split in counts:
            presence[split] = {}
            for index, scene in _scenes(split, counts[split], seed, size, max_objects):
                image_id = f"{split}_{index:06d}"
                _write_voc_image(devkit, f"VOC{year}", image_id, scene)
                presence[split][image_id] = set(scene.labels.tolist())
        if "train" in presence and "val" in presence:
            presence["trainval"] = presence["train"] | presence["val"]
        _write_voc_lists(devkit / "ImageSets", presence)

    _write_once(Path(root), recipe, fill)
    return Path(root) / "VOCdevkit" / f"VOC{year}"


def write_coco(root: str | Path, counts: dict[str, int], seed: int = 0, size: int = 128) -> Path:
    """The folder `root` in COCO's layout: `train2017/`, `val2017/`, `annotations/instances_*.json` and `panoptic_*`.

    Segments are compressed run lengths of the visible pixels and areas are their sums; in the panoptic json the ground
    is stuff. Image ids are unique over the splits. Differs from COCO: no crowds, no pixel is void.
    """

    def fill(folder: Path) -> None:
        for split in counts:
            (folder / f"{split}2017").mkdir()
            info = {"description": "drawn scenes", "seed": seed, "split": split}
            pages = CocoPages(folder / "annotations", f"{split}2017", info)
            for index, scene in _scenes(split, counts[split], seed, size):
                image_id = (SPLITS.index(split) + 1) * 10_000_000 + index
                name = f"{image_id:012d}.jpg"
                _write_jpeg(folder / f"{split}2017" / name, scene.image)
                pages.add(image_id, name, scene)
            pages.write()

    recipe = _recipe("coco", counts, seed, size) | {"drawn": 2}  # 1 had no panoptic files
    _write_once(Path(root), recipe, fill)
    return Path(root)


def _recipe(layout: str, counts: dict[str, int], seed: int, size: int) -> Recipe:
    unknown = sorted(set(counts) - set(SPLITS))
    if unknown or not counts or min(counts.values()) < 1:
        raise ValueError(f"counts of drawn scenes need at least 1 for each of {', '.join(SPLITS)}, got {counts}")
    return {"drawn": 1, "layout": layout, "counts": counts, "seed": seed, "size": size, "classes": list(DRAWN_CLASSES)}


def _scenes(
    split: str, count: int, seed: int, size: int, max_objects: int = MOST_OBJECTS
) -> Iterator[tuple[int, DrawnScene]]:
    for index in range(count):
        yield index, draw_scene(scene_seed(seed, split, index), size, max_objects)


def _write_once(root: Path, recipe: Recipe, fill: Callable[[Path], None]) -> None:
    if _holds(root, recipe):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        fill(scratch)
        (scratch / RECIPE_FILE).write_text(json.dumps(recipe, indent=1))
        scratch.chmod(0o777 & ~_umask())  # mkdtemp makes folders that only their owner reads
        try:
            os.rename(scratch, root)  # fails where another process has finished the same work first
        except OSError:
            if not _holds(root, recipe):
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _holds(root: Path, recipe: Recipe) -> bool:
    """Whether the finished folder is there; an error where something else is."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / RECIPE_FILE).read_text())
    except (OSError, ValueError):
        raise DataError(f"{root} exists and was not drawn (no readable {RECIPE_FILE}): nothing written") from None
    if found != recipe:
        different = [key for key in recipe | found if found.get(key) != recipe.get(key)]
        changes = "; ".join(f"{key} is {found.get(key)}, asked {recipe.get(key)}" for key in different)
        raise DataError(f"{root} holds scenes drawn by another recipe ({changes}): nothing written")
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]):
        raise OSError(f"{path}: the image could not be written")


# --- VOC


def voc_palette() -> NDArray[np.uint8]:
    """The colours (256, 3) RGB of VOC's masks: the bits of the index, dealt to red, green and blue in turn.

    Everingham et al., VOC development kit 2012, `VOClabelcolormap`.
    """
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


_PALETTE = voc_palette().tobytes()


def _write_voc_image(devkit: Path, folder: str, image_id: str, scene: DrawnScene) -> None:
    _write_jpeg(devkit / "JPEGImages" / f"{image_id}.jpg", scene.image)
    (devkit / "Annotations" / f"{image_id}.xml").write_text(_voc_xml(folder, image_id, scene))
    objects = np.zeros_like(scene.class_mask)
    for number, mask in enumerate(scene.instance_masks, start=1):
        objects[mask] = number
    for name, mask in (("SegmentationClass", scene.class_mask), ("SegmentationObject", objects)):
        picture = Image.fromarray(mask)
        picture.putpalette(_PALETTE)
        picture.save(devkit / name / f"{image_id}.png", compress_level=3)


def _voc_xml(folder: str, image_id: str, scene: DrawnScene) -> str:
    height, width, depth = scene.image.shape
    lines = [
        "<annotation>",
        f"\t<folder>{escape(folder)}</folder>",
        f"\t<filename>{escape(image_id)}.jpg</filename>",
        "\t<source><database>drawn scenes</database></source>",
        f"\t<size><width>{width}</width><height>{height}</height><depth>{depth}</depth></size>",
        "\t<segmented>1</segmented>",
    ]
    for label, (x1, y1, x2, y2) in zip(scene.labels.tolist(), scene.boxes.astype(int).tolist(), strict=True):
        truncated = int(x1 == 0 or y1 == 0 or x2 == width or y2 == height)
        lines += [
            "\t<object>",
            f"\t\t<name>{DRAWN_CLASSES[label - 1]}</name>",
            f"\t\t<pose>Unspecified</pose><truncated>{truncated}</truncated><difficult>0</difficult>",
            f"\t\t<bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _write_voc_lists(folder: Path, presence: dict[str, dict[str, set[int]]]) -> None:
    for kind in ("Main", "Segmentation"):
        (folder / kind).mkdir(parents=True)
        for split, images in presence.items():
            (folder / kind / f"{split}.txt").write_text("".join(f"{image_id}\n" for image_id in images))
    for split, images in presence.items():
        for label, name in enumerate(DRAWN_CLASSES, start=1):
            rows = (f"{image_id} {1 if label in labels else -1:2d}\n" for image_id, labels in images.items())
            (folder / "Main" / f"{name}_{split}.txt").write_text("".join(rows))
