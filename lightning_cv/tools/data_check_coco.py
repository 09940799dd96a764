"""Folders in COCO's layout, read independently of the data set that training uses."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pycocotools import mask as rle

from lightning_cv.tools.data_check_findings import Findings, compare_splits
from lightning_cv.tools.data_check_json import (
    SLACK,
    Entry,
    annotation_files,
    check_box,
    check_categories,
    check_images,
    is_beside_pictures,
    is_id,
    is_panoptic,
    numbers,
    read_json,
    split_of,
)
from lightning_cv.tools.data_check_layout import coco_folder
from lightning_cv.tools.data_check_look import Look, look_at, with_bar
from lightning_cv.tools.data_check_panoptic import check_panoptic
from lightning_cv.tools.data_check_rle import mask_problem


def check_coco(root: Path, classes: Sequence[str], findings: Findings, jobs: int) -> None:
    """Checks all instance and panoptic files of a folder; `classes` are the names allowed, any where there are none."""
    folder = coco_folder(root)
    assert folder is not None
    splits: dict[str, dict[tuple[str, int, int], Entry]] = {}  # split -> name and stated size -> a picture's entry
    own_ids: set[str] = set()  # splits whose ids mean nothing in another
    for path in annotation_files(folder):
        content = read_json(path, findings)
        if content is None:
            continue
        images = check_images(content["images"], path, findings)
        categories = check_categories(content["categories"], path, classes, findings)
        if is_panoptic(path):
            check_panoptic(content["annotations"], path, images, categories, findings, jobs)
        else:
            _check_instances(content["annotations"], path, images, categories, findings)
        if is_beside_pictures(path):
            own_ids.add(split_of(path))
        stated = {(image["file_name"], image["width"], image["height"]): image for image in images.values()}
        splits.setdefault(split_of(path), {}).update(stated)
    digests = {split: _check_pictures(folder / split, stated, findings, jobs) for split, stated in splits.items()}
    for split in own_ids:
        digests[split] = {f"{split}/{image_id}": digest for image_id, digest in digests[split].items()}
    compare_splits(digests, findings)


def _check_instances(
    entries: list[Any], path: Path, images: dict[int, Entry], categories: dict[int, str], findings: Findings
) -> None:
    seen: set[int] = set()
    for number, item in enumerate(with_bar(entries, len(entries), path.name)):
        if not isinstance(item, dict) or not is_id(item.get("id")):
            findings.problem("object without an id", path, f"number {number} of annotations")
            continue
        where = f"annotation {item['id']}"
        if item["id"] in seen:
            findings.problem("annotation id that is there twice", path, where)
        seen.add(item["id"])
        if item.get("category_id") not in categories:
            findings.problem("category that is not declared", path, f"{where}: category {item.get('category_id')}")
        if item.get("iscrowd", 0) not in (0, 1):
            findings.problem("iscrowd that is neither 0 nor 1", path, f"{where}: {item['iscrowd']!r}")
        image = images.get(item.get("image_id", -1)) if is_id(item.get("image_id")) else None
        if image is None:
            findings.problem("image that is not declared", path, f"{where}: image {item.get('image_id')}")
            continue
        check_box(item.get("bbox"), path, where, image, findings)
        _check_segmentation(item.get("segmentation"), path, where, image, findings)
    findings.looked_at("objects", len(entries))


def _check_segmentation(value: object, path: Path, where: str, image: Entry, findings: Findings) -> None:
    """Run lengths or a list of polygons x, y, x, y, ...; a set of boxes has none."""
    if isinstance(value, dict):
        problem = mask_problem(value, image["width"], image["height"])
        if problem:
            findings.problem(problem, path, f"{where}: size {value.get('size')}")
        return
    parts = value if isinstance(value, list) else []
    for polygon in parts:
        corners = numbers(polygon)
        if corners is None or len(corners) < 6 or len(corners) % 2:
            findings.problem("polygon of fewer than three points", path, where)
        elif not all(math.isfinite(corner) for corner in corners):
            findings.problem("polygon with coordinates that are no numbers", path, where)
        elif (
            min(corners) < -SLACK
            or max(corners[::2]) > image["width"] + SLACK
            or max(corners[1::2]) > image["height"] + SLACK
        ):
            findings.problem("polygon reaching out of its picture", path, where)
        else:
            continue
        return
    if parts and not rle.area(rle.merge(rle.frPyObjects(parts, image["height"], image["width"]))):
        findings.problem("mask without a pixel", path, where)


def _check_pictures(
    folder: Path, stated: dict[tuple[str, int, int], Entry], findings: Findings, jobs: int
) -> dict[str, bytes]:
    """Reads a split's pictures and compares them with what is stated of them; digests by image id."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_of_json(path.relative_to(folder)))
    findings.looked_at("pictures", len(paths))
    looks = look_at(paths, "picture", jobs, f"{folder.name} pictures")
    names = {name for name, _, _ in stated}
    for path, look in looks.items():
        if look.error:
            findings.problem("picture that cannot be read", path, look.error)
        if path.relative_to(folder).as_posix() not in names:
            findings.note("picture that no annotation file lists", path)
    for (name, width, height), image in stated.items():
        found = looks.get(folder / name)
        if found is None:
            findings.problem("missing picture", folder / name, f"image {image['id']}")
        elif not found.error and (found.width, found.height) != (width, height):
            detail = f"stated as {width} x {height}, the picture has {found.size}"
            findings.problem("size that differs from the picture's", folder / name, detail)
    return {str(image["id"]): looks.get(folder / name, Look()).digest for (name, _, _), image in stated.items()}


def _is_of_json(path: Path) -> bool:
    """Whether a file among the pictures is their json or in a folder of ours, such as the cache of a large json."""
    return is_beside_pictures(path) or any(part.startswith(".") for part in path.parent.parts)
