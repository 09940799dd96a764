"""COCO's panoptic files: a PNG of segment ids an image, and what the json says of every id."""

from pathlib import Path
from typing import Any

from lightning_cv.tools.data_check_findings import Findings
from lightning_cv.tools.data_check_json import Entry, check_box, is_id
from lightning_cv.tools.data_check_look import Look, look_at


def check_panoptic(
    entries: list[Any], path: Path, images: dict[int, Entry], categories: dict[int, str], findings: Findings, jobs: int
) -> None:
    """Checks a panoptic file's annotations, one an image, with the PNGs in the folder of its name.

    Args:
        entries: the list "annotations".
        path: of the file.
        images, categories: declared in it, by id.
        findings: is told.
        jobs: processes at most.
    """
    folder = path.with_suffix("")
    paths = sorted(folder.glob("*.png"))
    findings.looked_at("panoptic masks", len(paths))
    looks = {file.name: look for file, look in look_at(paths, "ids", jobs, f"{folder.name} masks").items()}
    for name, look in looks.items():
        if look.error:
            findings.problem("mask that cannot be read", folder / name, look.error)
    annotated: set[int] = set()
    for number, entry in enumerate(entries):
        if not _is_annotation(entry):
            where = f"number {number} of annotations"
            findings.problem("annotation without image_id, file_name or segments_info", path, where)
        elif entry["image_id"] not in images:
            findings.problem("image that is not declared", path, f"image {entry['image_id']}")
        else:
            if entry["image_id"] in annotated:
                findings.problem("image that is annotated twice", path, f"image {entry['image_id']}")
            annotated.add(entry["image_id"])
            _check_image(entry, path, folder, looks, images[entry["image_id"]], categories, findings)
    for image_id in images:
        if image_id not in annotated:
            findings.problem("missing annotation", path, f"image {image_id}")


def _check_image(
    entry: Entry, path: Path, folder: Path, looks: dict[str, Look], image: Entry, categories: dict[int, str],
    findings: Findings,
) -> None:  # fmt: skip
    segments = _check_segments(entry, path, image, categories, findings)
    mask = folder / entry["file_name"]
    look = looks.get(entry["file_name"])
    if look is None:
        findings.problem("missing mask", mask, f"image {entry['image_id']} of {path.name}")
        return
    if look.error:
        return
    if (look.width, look.height) != (image["width"], image["height"]):
        detail = f"has {look.size} pixels, its picture {image['width']} x {image['height']}"
        findings.problem("size that differs from the picture's", mask, detail)
    pixels = {value: count for value, count in look.values if value}  # 0 is void
    for value in pixels.keys() - segments.keys():
        findings.problem("segment in the mask that the json does not have", mask, f"id {value}")
    for value in segments.keys() - pixels.keys():
        findings.problem("segment in the json that the mask does not have", mask, f"id {value}")
    for value in pixels.keys() & segments.keys():
        area = segments[value].get("area")
        if area is not None and area != pixels[value]:
            findings.problem("area that differs from the mask's", mask, f"id {value}: {area}, {pixels[value]} pixels")


def _check_segments(
    entry: Entry, path: Path, image: Entry, categories: dict[int, str], findings: Findings
) -> dict[int, Entry]:
    """The usable segments of an image, by id."""
    segments: dict[int, Entry] = {}
    for segment in entry["segments_info"]:
        if not isinstance(segment, dict) or not is_id(segment.get("id")):
            findings.problem("object without an id", path, f"image {entry['image_id']}")
            continue
        where = f"image {entry['image_id']}, segment {segment['id']}"
        if segment["id"] in segments:
            findings.problem("annotation id that is there twice", path, where)
        segments[segment["id"]] = segment
        if segment.get("category_id") not in categories:
            findings.problem("category that is not declared", path, f"{where}: category {segment.get('category_id')}")
        if segment.get("iscrowd", 0) not in (0, 1):
            findings.problem("iscrowd that is neither 0 nor 1", path, f"{where}: {segment['iscrowd']!r}")
        if segment.get("bbox") is not None:
            check_box(segment["bbox"], path, where, image, findings)
    findings.looked_at("segments", len(entry["segments_info"]))
    return segments


def _is_annotation(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and is_id(entry.get("image_id"))
        and isinstance(entry.get("file_name"), str)
        and isinstance(entry.get("segments_info"), list)
    )
