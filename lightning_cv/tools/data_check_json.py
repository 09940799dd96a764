"""COCO's annotation files: their lists and entries, checked before they are used."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from lightning_cv.tools.data_check_boxes import box_problem
from lightning_cv.tools.data_check_findings import Findings
from lightning_cv.tools.data_check_layout import SPLIT_JSON, split_jsons

Entry = dict[str, Any]  # whatever a json object of a file holds

SLACK = 1.0
"""Pixels by which boxes and polygons may reach out of their picture: coordinates are drawn by hand, and rounded."""


def annotation_files(folder: Path) -> list[Path]:
    """The instance files, those that lie beside their pictures, and then the panoptic files of a COCO folder."""
    annotations = folder / "annotations"
    instances, panoptic = (sorted(annotations.glob(f"{kind}_*.json")) for kind in ("instances", "panoptic"))
    return [*instances, *split_jsons(folder), *panoptic]


def is_panoptic(path: Path) -> bool:
    """Whether an annotation file tells of segments instead of objects."""
    return path.name.startswith("panoptic_")


def is_beside_pictures(path: Path) -> bool:
    """Whether an annotation file lies in its split's folder; such files number their images each from the start."""
    return path.name == SPLIT_JSON


def split_of(path: Path) -> str:
    """ "val2017" of instances_val2017.json, "val" of val/_annotations.coco.json: also the folder of the pictures."""
    return path.parent.name if is_beside_pictures(path) else path.stem.partition("_")[2]


def read_json(path: Path, findings: Findings) -> Entry | None:
    """The three lists of an annotation file; None, and a problem, where they cannot be read."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        findings.problem("annotation that cannot be read", path, f"not JSON ({error})")
        return None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            findings.problem("annotation that cannot be read", path, f"has no list {key!r}")
            return None
    findings.looked_at("annotation files", 1)
    return {key: content[key] for key in ("images", "annotations", "categories")}


def check_images(entries: list[Any], path: Path, findings: Findings) -> dict[int, Entry]:
    """The usable entries of "images" by id."""
    images: dict[int, Entry] = {}
    for number, image in enumerate(entries):
        if not _is_image(image):
            findings.problem("image without id, file_name, width or height", path, f"number {number} of images")
        elif image["id"] in images:
            findings.problem("image id that is there twice", path, f"image {image['id']}")
        else:
            images[image["id"]] = image
    return images


def check_categories(entries: list[Any], path: Path, classes: Sequence[str], findings: Findings) -> dict[int, str]:
    """The declared names by id."""
    categories: dict[int, str] = {}
    for number, category in enumerate(entries):
        if (
            not isinstance(category, dict)
            or not is_id(category.get("id"))
            or not str(category.get("name") or "").strip()
        ):
            findings.problem("category without id or name", path, f"number {number} of categories")
        elif category["id"] in categories:
            findings.problem("category id that is there twice", path, f"category {category['id']}")
        else:
            name = str(category["name"])
            if name in categories.values():
                findings.problem("category name that is there twice", path, f"category {category['id']} is {name!r}")
            categories[category["id"]] = name
            if classes and name not in classes:
                findings.problem("unknown class", path, f"category {category['id']} is {name!r}")
    return categories


def is_id(value: object) -> TypeGuard[int]:
    """Whether something is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def numbers(value: object) -> list[float] | None:
    """The numbers in a list, NaN where something else stands; None where it is no list."""
    if not isinstance(value, list):
        return None
    return [float(item) if isinstance(item, int | float) and not isinstance(item, bool) else math.nan for item in value]


def check_box(value: object, path: Path, where: str, image: Entry, findings: Findings) -> None:
    """A box as x, y, width, height."""
    box = numbers(value)
    if box is None or len(box) != 4:
        findings.problem("object without a box", path, where)
        return
    x, y, width, height = box
    problem = box_problem((x, y, x + width, y + height), image["width"], image["height"], SLACK)
    if problem:
        shape = " ".join(f"{number:g}" for number in box)
        findings.problem(problem, path, f"{where} has {shape} in {image['width']} x {image['height']} pixels")


def _is_image(image: object) -> TypeGuard[Entry]:
    if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
        return False
    return all(is_id(image.get(key)) for key in ("id", "width", "height"))
