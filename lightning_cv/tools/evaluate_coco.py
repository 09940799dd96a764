"""Scores of results in COCO's formats: boxes and masks, and panoptic segmentations."""

import argparse
import gc
import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from lightning_cv.datasets.coco_json import Content, entry_of, parse_coco, read_categories, whole
from lightning_cv.datasets.coco_panoptic import LARGEST_ID, read_png, segment_ids
from lightning_cv.datasets.repairs import Repairs
from lightning_cv.errors import UserError
from lightning_cv.metrics.coco_results import CocoFigures, coco_figures
from lightning_cv.metrics.panoptic import PanopticCounts, PanopticImage, panoptic_counts, panoptic_quality
from lightning_cv.tools.evaluate import Scores
from lightning_cv.tools.evaluate_coco_checks import refuse_strange_results, refuse_strange_truth


def instances(arguments: argparse.Namespace) -> Scores:
    """COCO's twelve figures for boxes, masks or both, and the AP of each category."""
    with _uncollected():
        return _instances(arguments)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the search for cycles, which would go through half a million results again and again and find none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _instances(arguments: argparse.Namespace) -> Scores:
    truth = parse_coco(_read(arguments.gt), arguments.gt)
    results = _load(arguments.pred)
    sizes = refuse_strange_truth(truth, arguments.gt, arguments.iou_type)
    refuse_strange_results(results, arguments.pred, truth, sizes, arguments.iou_type)
    found: dict[str, CocoFigures] = {kind: coco_figures(truth, results, kind) for kind in arguments.iou_type}
    figures = {f"{kind}_{name}": value for kind, scores in found.items() for name, value in scores.figures.items()}
    per_class = {
        entry["name"]: {f"{kind}_AP": scores.per_class.get(entry["id"], math.nan) for kind, scores in found.items()}
        for entry in truth["categories"]
    }
    absent = [name for name, row in per_class.items() if all(map(math.isnan, row.values()))]
    return Scores(len(truth["images"]), figures, per_class, absent)


def panoptic(arguments: argparse.Namespace) -> Scores:
    """Panoptic quality of a json and its folder of PNG files, which has the json's name without the ending.

    A class that is absent has the figures 0, as panopticapi prints them, and is in no mean.
    """
    truth = parse_coco(_read(arguments.gt), arguments.gt)
    categories = read_categories(truth, arguments.gt, Repairs(strict=True))
    label_of = {category.id: label for label, category in enumerate(categories)}
    true, found = _by_image(truth, arguments.gt), _by_image(_load(arguments.pred), arguments.pred)
    if strange := sorted(set(found) - set(true)):
        raise UserError(f"{arguments.pred}: image_id {strange[0]} is not in the ground truth {arguments.gt}")
    if missing := sorted(set(true) - set(found)):
        raise UserError(f"{arguments.pred} has no prediction of image {missing[0]}, one of {len(missing)}")

    def count(image_id: int) -> PanopticCounts:
        division = _division(true[image_id], arguments.gt, label_of)
        guess = _division(found[image_id], arguments.pred, label_of)
        try:
            panoptic_counts(division, division, len(label_of), str(image_id))  # refuses what is wrong with the truth
        except ValueError as error:
            raise UserError(f"{arguments.gt}: {error}") from None
        try:
            return panoptic_counts(guess, division, len(label_of), str(image_id))
        except ValueError as error:
            raise UserError(f"{arguments.pred}: {error}") from None

    console = Console(stderr=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # reading PNG files runs outside Python's lock
        work = pool.map(count, true)
        counts = list(track(work, "evaluating", len(true), console=console, disable=not console.is_terminal))
    is_thing = np.array([category.is_thing for category in categories], np.bool_)
    quality = panoptic_quality(counts, is_thing)
    figures: dict[str, float] = {}
    for name, mean in (("all", quality.all), ("things", quality.things), ("stuff", quality.stuff)):
        figures |= {f"{key}_{name}": value for key, value in mean._asdict().items()}
    names = [category.name for category in categories]
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
        segment_id, category = whole(entry.get("id")), whole(entry.get("category_id"))
        place = f"{path}, image {annotation['image_id']}, segment {entry.get('id')}"
        if segment_id is None or not 0 < segment_id <= LARGEST_ID:
            raise UserError(f"{place}: the id is no whole number from 1 to {LARGEST_ID}")
        if category not in label_of:
            raise UserError(f"{place}: category_id {entry.get('category_id')!r} is not declared in the ground truth")
    name = Path(annotation["file_name"])
    if name.is_absolute() or ".." in name.parts:
        raise UserError(f"{path}, image {annotation['image_id']}: file_name {str(name)!r} leads out of the folder")
    return PanopticImage(
        segment_ids(read_png(path.with_suffix("") / name)),
        np.array([entry["id"] for entry in segments], np.int64),
        np.array([label_of[entry["category_id"]] for entry in segments], np.int64),
        np.array([entry.get("iscrowd") == 1 for entry in segments], np.bool_),
    )


def _load(path: Path) -> Any:  # json: anything
    try:
        return json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON, or only a part of it: {error}") from None


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"{path} is no file: COCO's format is a json")
    return path.read_bytes()
