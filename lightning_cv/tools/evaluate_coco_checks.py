"""What cannot be in ground truth and results of COCO's format: one message with file, entry and id."""

import math
from collections.abc import Iterator
from pathlib import Path

from lightning_cv.datasets.coco_json import Content, entry_of, whole
from lightning_cv.errors import UserError
from lightning_cv.tools.data_check_rle import EMPTY, mask_problem, sound_masks

Size = tuple[int, int] | None  # height and width, None where the ground truth does not say


def refuse_strange_truth(truth: Content, path: Path, kinds: list[str]) -> dict[int, Size]:
    """An error at the first entry of the ground truth that no figure can be made of; the size of each image."""
    sizes: dict[int, Size] = {}
    for place, entry in _places(truth["images"], f"{path}, images"):
        height, width = whole(entry.get("height")), whole(entry.get("width"))
        sizes[_new_id(entry, place, sizes)] = (height, width) if height and width else None
    categories: dict[int, None] = {}
    names: set[str] = set()
    for place, entry in _places(truth["categories"], f"{path}, categories"):
        name = entry.get("name")
        if not isinstance(name, str):
            raise UserError(f"{place} has no name")
        if name in names:
            raise UserError(f"{place}: a second category of the name {name!r}")
        names.add(name)
        categories[_new_id(entry, place, categories)] = None
    seen: dict[int, None] = {}
    sound = _sound(truth["annotations"], sizes, kinds)
    for place, entry in _places(truth["annotations"], f"{path}, annotations"):
        if "segments_info" in entry:
            raise UserError(f"{path} is a panoptic json: `coco` takes one of instances, `coco-panoptic` takes this")
        seen[_new_id(entry, place, seen)] = None
        _refuse_unknown(entry, place, sizes, categories, "declared")
        _refuse_box(entry, place)
        if not _number(entry.get("area")) or entry.get("iscrowd") not in (0, 1):
            raise UserError(f"{place} needs area, a number, and iscrowd, 0 or 1")
        if "segm" in kinds and not next(sound):
            _refuse_mask(entry, place, sizes[entry["image_id"]], polygons=True)
    return sizes


def refuse_strange_results(
    results: object, path: Path, truth: Content, sizes: dict[int, Size], kinds: list[str]
) -> None:
    """An error at the first entry that is no result for these images and categories."""
    if not isinstance(results, list):
        raise UserError(f"{path} is no list of COCO results: it is the other format, or something else")
    if not results:
        raise UserError(f"{path} holds no result")
    categories = {entry["id"]: None for entry in truth["categories"]}
    seen: dict[int, None] = {}
    sound = _sound(results, sizes, kinds)
    for place, entry in _places(results, f"{path}, results"):
        _refuse_unknown(entry, place, sizes, categories, "in the ground truth")
        if not _number(entry.get("score")):
            raise UserError(f"{place}: score {_short(entry.get('score'))} is no finite number")
        if "bbox" in kinds:
            _refuse_box(entry, place)
        if "segm" in kinds and not next(sound):
            _refuse_mask(entry, place, sizes[entry["image_id"]], polygons=False)
        if "id" in entry:
            seen[_new_id(entry, place, seen)] = None


def _sound(entries: list[object], sizes: dict[int, Size], kinds: list[str]) -> Iterator[bool]:
    """Whether the mask of each entry needs no second look; nothing where masks are not asked for."""
    if "segm" not in kinds:
        return iter(())
    known = map(entry_of, entries)
    return sound_masks((entry.get("segmentation"), sizes.get(whole(entry.get("image_id")) or 0)) for entry in known)


def _places(entries: list[object], where: str) -> Iterator[tuple[str, Content]]:
    for number, entry in enumerate(entries):
        found = entry_of(entry)
        yield f"{where}[{number}]" + (f" (id {_short(found['id'])})" if "id" in found else ""), found


def _new_id(entry: Content, place: str, seen: dict[int, Size] | dict[int, None]) -> int:
    number = whole(entry.get("id"))
    if number is None:
        raise UserError(f"{place} has no whole number as its id")
    if number in seen:
        raise UserError(f"{place}: a second entry of this id")
    return number


def _refuse_unknown(
    entry: Content, place: str, images: dict[int, Size], categories: dict[int, None], known: str
) -> None:  # fmt: skip
    for key, ids in (("image_id", images), ("category_id", categories)):
        if whole(entry.get(key)) not in ids:
            raise UserError(f"{place}: {key} {_short(entry.get(key))} is not {known}")


def _number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _refuse_box(entry: Content, place: str) -> None:
    box = entry.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(map(_number, box))):
        raise UserError(f"{place}: bbox {_short(box)} is not x, y, width, height")
    if box[2] < 0 or box[3] < 0:
        raise UserError(f"{place}: bbox {_short(box)} has a negative width or height")


def _refuse_mask(entry: Content, place: str, size: Size, *, polygons: bool) -> None:
    mask = entry.get("segmentation")
    if size is None:
        raise UserError(f"{place}: the ground truth does not say the height and width of image {entry['image_id']}")
    if polygons and isinstance(mask, list) and mask:
        for points in mask:
            if not (
                isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0 and all(map(_number, points))
            ):
                raise UserError(f"{place}: a polygon needs three points or more, it is {_short(points)}")
            if min(points) < -max(size) or max(points) > 2 * max(size):  # to fill it would take minutes
                raise UserError(
                    f"{place}: a polygon lies far outside of its picture, {size[0]} x {size[1]} (height x width)"
                )
        return
    if not isinstance(mask, dict) or not (isinstance(mask.get("counts"), str) or polygons):
        raise UserError(f"{place}: no segmentation as {'polygons or ' if polygons else 'compressed '}RLE")
    problem = mask_problem(mask, width=size[1], height=size[0])
    if problem and (polygons or problem != EMPTY):  # polygons: of the ground truth
        raise UserError(f"{place}: {problem}, {size[0]} x {size[1]} (height x width)")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
