"""Scores of results in COCO's formats: boxes and masks, and panoptic segmentations."""

import argparse
import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from lightning_cv.datasets.coco_json import Content, entry_of, parse_coco, whole
from lightning_cv.datasets.coco_panoptic import read_png, segment_ids
from lightning_cv.errors import UserError
from lightning_cv.metrics.coco_results import CocoFigures, coco_figures
from lightning_cv.metrics.panoptic import PanopticCounts, PanopticImage, panoptic_counts, panoptic_quality
from lightning_cv.tools.evaluate import Scores

RESULT = "a COCO result: image_id, category_id, score and {}"


def instances(arguments: argparse.Namespace) -> Scores:
    """COCO's twelve figures for boxes, masks or both, and the AP of each category."""
    truth = parse_coco(_read(arguments.gt), arguments.gt)
    results = _load(arguments.pred)
    _refuse_strange(results, truth, arguments.pred, arguments.iou_type)
    found: dict[str, CocoFigures] = {kind: coco_figures(truth, results, kind) for kind in arguments.iou_type}
    figures = {f"{kind}_{name}": value for kind, scores in found.items() for name, value in scores.figures.items()}
    per_class = {
        str(entry["name"]): {
            f"{kind}_AP": scores.per_class.get(entry["id"], math.nan) for kind, scores in found.items()
        }
        for entry in truth["categories"]
    }
    absent = [name for name, row in per_class.items() if all(map(math.isnan, row.values()))]
    return Scores(len(truth["images"]), figures, per_class, absent)


def panoptic(arguments: argparse.Namespace) -> Scores:
    """Panoptic quality of a json and its folder of PNG files, which has the json's name without the ending.

    A class that is absent has the figures 0, as panopticapi prints them, and is in no mean.
    """
    truth = parse_coco(_read(arguments.gt), arguments.gt)
    label_of = {entry["id"]: label for label, entry in enumerate(truth["categories"])}
    true, found = _by_image(truth, arguments.gt), _by_image(_load(arguments.pred), arguments.pred)
    if strange := sorted(set(found) - set(true)):
        raise UserError(f"{arguments.pred}: image_id {strange[0]} is not in the ground truth {arguments.gt}")
    if missing := sorted(set(true) - set(found)):
        raise UserError(f"{arguments.pred} has no prediction of image {missing[0]}, one of {len(missing)}")

    def count(image_id: int) -> PanopticCounts:
        guess = _division(found[image_id], arguments.pred, label_of)
        division = _division(true[image_id], arguments.gt, label_of)
        try:
            return panoptic_counts(guess, division, len(label_of), str(image_id))
        except ValueError as error:
            raise UserError(f"{arguments.pred}: {error}") from None

    console = Console(stderr=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # reading PNG files runs outside Python's lock
        work = pool.map(count, true)
        counts = list(track(work, "evaluating", len(true), console=console, disable=not console.is_terminal))
    is_thing = np.array([entry.get("isthing") == 1 for entry in truth["categories"]], np.bool_)
    quality = panoptic_quality(counts, is_thing)
    figures: dict[str, float] = {}
    for name, mean in (("all", quality.all), ("things", quality.things), ("stuff", quality.stuff)):
        figures |= {f"{key}_{name}": value for key, value in mean._asdict().items()}
    names = [str(entry["name"]) for entry in truth["categories"]]
    columns = [np.nan_to_num(values).tolist() for values in (quality.pq, quality.sq, quality.rq)]
    per_class = {name: {"pq": pq, "sq": sq, "rq": rq} for name, pq, sq, rq in zip(names, *columns, strict=True)}
    return Scores(len(true), figures, per_class, [names[row] for row in np.flatnonzero(np.isnan(quality.pq))])


def _by_image(content: object, path: Path) -> dict[int, Content]:
    """The annotation of each image of a panoptic json."""
    listed = entry_of(content).get("annotations")
    if not isinstance(listed, list):
        raise UserError(f"{path} is no panoptic json: it has no annotations; it is the other format, or something else")
    if not listed:
        raise UserError(f"{path} holds no annotation")
    found: dict[int, Content] = {}
    for number, entry in enumerate(map(entry_of, listed)):
        image_id, name, segments = whole(entry.get("image_id")), entry.get("file_name"), entry.get("segments_info")
        if image_id is None or not isinstance(name, str) or not isinstance(segments, list):
            raise UserError(f"{path}, annotation [{number}]: needs image_id, file_name and segments_info")
        if image_id in found:
            raise UserError(f"{path}, annotation [{number}]: a second one of image {image_id}")
        found[image_id] = entry
    return found


def _division(annotation: Content, path: Path, label_of: dict[int, int]) -> PanopticImage:
    segments = [entry_of(entry) for entry in annotation["segments_info"]]
    for entry in segments:
        if whole(entry.get("id")) is None or entry.get("category_id") not in label_of:
            place = f"{path}, image {annotation['image_id']}, segment {entry.get('id')}"
            raise UserError(f"{place}: category_id {entry.get('category_id')!r} is not in the ground truth")
    return PanopticImage(
        segment_ids(read_png(path.with_suffix("") / annotation["file_name"])),
        np.array([entry["id"] for entry in segments], np.int64),
        np.array([label_of[entry["category_id"]] for entry in segments], np.int64),
        np.array([entry.get("iscrowd") == 1 for entry in segments], np.bool_),
    )


def _refuse_strange(results: object, truth: Content, path: Path, kinds: list[str]) -> None:
    """An error at the first entry that is no result for these images and categories."""
    if not isinstance(results, list):
        raise UserError(f"{path} is no list of COCO results: it is the other format, or something else")
    if not results:
        raise UserError(f"{path} holds no result")
    sizes = {entry["id"]: [entry.get("height"), entry.get("width")] for entry in truth["images"]}
    categories = {entry["id"] for entry in truth["categories"]}
    for place, entry in _places(results, path):
        if entry.get("image_id") not in sizes:
            raise UserError(f"{place}: image_id {entry.get('image_id')!r} is not in the ground truth")
        if entry.get("category_id") not in categories:
            raise UserError(f"{place}: category_id {entry.get('category_id')!r} is not in the ground truth")
        if not _number(entry.get("score")):
            raise UserError(f"{place}: score {entry.get('score')!r} is no finite number")
        if "bbox" in kinds:
            _refuse_box(entry, place)
        if "segm" in kinds:
            _refuse_mask(entry, place, sizes[entry["image_id"]])
    _refuse_repeated(results, path)


def _places(results: list[object], path: Path) -> Iterator[tuple[str, Content]]:
    for number, entry in enumerate(results):
        found = entry_of(entry)
        yield f"{path}, result [{number}]" + (f", id {found['id']}" if "id" in found else ""), found


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refuse_box(entry: Content, place: str) -> None:
    box = entry.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(map(_number, box))):
        raise UserError(f"{place}: bbox {box!r} is not x, y, width, height; {RESULT.format('bbox')}")
    if box[2] < 0 or box[3] < 0:
        raise UserError(f"{place}: bbox {box!r} has a negative width or height")


def _refuse_mask(entry: Content, place: str, size: list[int | None]) -> None:
    mask = entry.get("segmentation")
    if not (isinstance(mask, dict) and isinstance(mask.get("counts"), str) and isinstance(mask.get("size"), list)):
        raise UserError(f"{place}: no segmentation as compressed RLE; {RESULT.format('segmentation')}")
    if None not in size and mask["size"] != size:
        raise UserError(f"{place}: segmentation of size {mask['size']}, the image's height and width are {size}")


def _refuse_repeated(results: list[Content], path: Path) -> None:
    seen: dict[int, int] = {}
    for number, entry in enumerate(results):
        given = whole(entry.get("id"))
        if given is not None and given in seen:
            raise UserError(f"{path}, result [{number}]: id {given} is that of result [{seen[given]}] too")
        if given is not None:
            seen[given] = number


def _load(path: Path) -> Any:  # json: anything
    try:
        return json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON, or only a part of it: {error}") from None


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"{path} is no file: COCO's format is a json")
    return path.read_bytes()
