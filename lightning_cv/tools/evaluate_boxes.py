"""Average precision of box lists in plain text. Letters: N boxes of a file.

A file an image; a line a box: `class x y width height`, with a score after the class in predictions. Corner and size
count pixels, and the far edge is part of the box, as in VOC's development kit: a box is width + 1 pixels wide.
"""

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_cv.errors import UserError
from lightning_cv.metrics.voc import Floats, ImageResult, Judged, judge_class, precision_of
from lightning_cv.tools.evaluate import Scores, intervals_of


class Box(NamedTuple):
    """One line: class, score (1 in the ground truth) and corners, the far ones included."""

    line: int
    name: str
    score: float
    corners: tuple[float, float, float, float]


def boxes(arguments: argparse.Namespace) -> Scores:
    """Average precision of a folder of text files against another."""
    truth, found = _read_folder(arguments.gt, scored=False), _read_folder(arguments.pred, scored=True)
    unknown = sorted(set(found) - set(truth))
    if unknown:
        raise UserError(f"{arguments.pred / unknown[0]}.txt: the ground truth {arguments.gt} has no such image")
    names = sorted({box.name for rows in truth.values() for box in rows})
    if not names:
        raise UserError(f"--gt {arguments.gt} holds no box")
    for image, rows in found.items():
        for box in rows:
            if box.name not in names:
                place = f"{arguments.pred / image}.txt, line {box.line}"
                raise UserError(f"{place}: unknown class {box.name!r}; known are {', '.join(names)}")
    if not any(found.values()):
        raise UserError(f"{arguments.pred} holds no box")
    label_of = {name: label for label, name in enumerate(names, start=1)}
    results = [_result(truth[image], found.get(image, []), label_of) for image in sorted(truth)]
    return average_precisions(results, names, arguments, inclusive=True)


def average_precisions(
    results: list[ImageResult], names: list[str], arguments: argparse.Namespace, *, inclusive: bool
) -> Scores:
    """The mean and each class's average precision, for every overlap asked for."""
    figures: dict[str, float] = {}
    per_class: dict[str, dict[str, float]] = {name: {} for name in names}
    judged: list[list[Judged]] = []
    for iou in arguments.iou:
        labels = range(1, len(names) + 1)
        judged.append(
            [judge_class(results, label, iou=iou, strict=arguments.strict, inclusive=inclusive) for label in labels]
        )
        for name, of_class in zip(names, judged[-1], strict=True):
            found = precision_of(of_class, arguments.ap)
            per_class[name] |= {"objects": found.objects, f"ap@{iou:g}": found.ap}
        figures[f"map@{iou:g}"] = _mean([row[f"ap@{iou:g}"] for row in per_class.values()])

    def resampled(times: NDArray[np.int64]) -> Floats:
        return np.array([_mean([precision_of(one, arguments.ap, times).ap for one in row]) for row in judged])

    absent = [name for name, row in per_class.items() if not row["objects"]]
    intervals = intervals_of(figures, resampled, len(results), arguments.bootstrap)
    return Scores(len(results), figures, per_class, absent, intervals=intervals)


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _result(truth: list[Box], found: list[Box], label_of: dict[str, int]) -> ImageResult:
    return ImageResult(
        _corners(found),
        np.array([box.score for box in found], np.float64),
        np.array([label_of[box.name] for box in found], np.int64),
        _corners(truth),
        np.array([label_of[box.name] for box in truth], np.int64),
        np.zeros(len(truth), np.bool_),
        (0, 0),  # no size is known, and VOC's rule asks for none
    )


def _corners(rows: list[Box]) -> Floats:
    return np.array([box.corners for box in rows], np.float64).reshape(-1, 4)


def _read_folder(folder: Path, *, scored: bool) -> dict[str, list[Box]]:
    """The boxes of each text file by its name without ending."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of text files")
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise UserError(f"{folder} holds no text file")
    return {path.stem: _read(path, scored=scored) for path in files}


def _read(path: Path, *, scored: bool) -> list[Box]:
    lines = enumerate(path.read_text(errors="replace").splitlines(), start=1)
    return [_parse(path, number, line, scored=scored) for number, line in lines if line.strip()]


def _parse(path: Path, number: int, line: str, *, scored: bool) -> Box:
    place = f"{path}, line {number}"
    form = "class score x y width height" if scored else "class x y width height"
    name, *texts = line.split()
    try:
        values = [float(text) for text in texts]
    except ValueError:
        raise UserError(f"{place}: not {form}: {line!r}") from None
    if len(values) != (5 if scored else 4):
        raise UserError(f"{place}: not {form}: {line!r}")
    if not np.isfinite(values).all():
        raise UserError(f"{place}: a number is not finite: {line!r}")
    *score, x, y, width, height = values
    if width < 0 or height < 0:
        raise UserError(f"{place}: width and height must not be negative: {line!r}")
    return Box(number, name, score[0] if scored else 1.0, (x, y, x + width, y + height))
