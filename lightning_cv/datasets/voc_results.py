"""Detections in VOC's submission format: a text file a class, a line a detection.

Everingham and Winn 2012, VOC development kit, section 9.2: `{competition}_det_{split}_{class}.txt` with image id,
confidence and the corners counted from 1, the far ones included. Boxes that are read back are bit for bit those that
were written. Letters: D detections of an image.
"""

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lightning_cv.contracts import Detections, LabelMap
from lightning_cv.datasets.errors import DataError
from lightning_cv.replaced import replaced


def write_voc_detections(
    folder: str | Path,
    detections: Mapping[str, Detections],
    label_map: LabelMap,
    split: str,
    competition: str = "comp4",
) -> list[Path]:
    """The files written, one for each class, also for a class of which nothing was found.

    Args:
        folder: made if it does not exist; files of the same names are replaced, each at once.
        detections: by image id, boxes in pixels of the file.
        label_map: class names.
        split: such as `test`.
        competition: `comp3` for detectors trained on VOC alone, `comp4` for others.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    labels = range(label_map.first, label_map.first + len(label_map.names))
    lines: dict[int, list[str]] = {label: [] for label in labels}
    for image_id, found in detections.items():
        if not image_id or any(c.isspace() for c in image_id):
            raise ValueError(f"VOC's format has no place for the image id {image_id!r}: it must not hold spaces")
        if not (found["boxes"].isfinite().all() and found["scores"].isfinite().all()):
            raise ValueError(f"image {image_id}: a box or a score is no number")
        for label, score, box in zip(*(found[key].tolist() for key in ("labels", "scores", "boxes")), strict=True):
            lines[label].append(f"{image_id} {score!r} {' '.join(_from_one(box))}\n")
    paths = []
    for label, rows in lines.items():
        paths.append(place / f"{competition}_det_{split}_{label_map.name(label)}.txt")
        with replaced(paths[-1]) as file:
            file.write("".join(rows).encode())
    return paths


class VOCRow(NamedTuple):
    """One line: a detection with its far edge excluded and its first pixel 0."""

    line: int
    image_id: str
    score: float
    box: list[float]


def read_voc_rows(path: Path) -> list[VOCRow]:
    """The detections of one class in the order of its file."""
    lines = enumerate(path.read_text(errors="replace").splitlines(), start=1)
    return [_parse(path, number, line) for number, line in lines if line.strip()]


def read_voc_detections(
    folder: str | Path, label_map: LabelMap, split: str, competition: str = "comp4"
) -> dict[str, Detections]:
    """Detections by image id, best score first; images without any are not in it. Every class needs its file."""
    rows: dict[str, list[tuple[float, int, list[float]]]] = {}
    for label, name in enumerate(label_map.names, start=label_map.first):
        path = Path(folder) / f"{competition}_det_{split}_{name}.txt"
        if not path.is_file():
            raise DataError(f"no file {path}: VOC's format has one for each class")
        for row in read_voc_rows(path):
            rows.setdefault(row.image_id, []).append((row.score, label, row.box))
    return {image_id: _detections(found) for image_id, found in rows.items()}


def _detections(rows: list[tuple[float, int, list[float]]]) -> Detections:
    rows = sorted(rows, key=lambda row: -row[0])
    return {
        "boxes": torch.tensor([box for _, _, box in rows], dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor([score for score, _, _ in rows], dtype=torch.float32),
        "labels": torch.tensor([label for _, label, _ in rows], dtype=torch.int64),
    }


_EXACT = Context(prec=200)
"""Digits for the sum of 1 and any float32."""


def _from_one(box: Iterable[float]) -> list[str]:
    """Corners counted from 1, the far ones included: x1 + 1, y1 + 1, x2, y2, with all their digits.

    >>> _from_one([0.0, 1.5, 10.0, 20.0])
    ['1', '2.5', '10', '20']
    """
    x1, y1, x2, y2 = (Decimal(value) for value in box)
    return [_plain(value) for value in (_EXACT.add(x1, Decimal(1)), _EXACT.add(y1, Decimal(1)), x2, y2)]


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _parse(path: Path, number: int, line: str) -> VOCRow:
    try:
        image_id, score, *corners = line.split()
        x1, y1, x2, y2 = (Decimal(value) for value in corners)
        box = [float(_EXACT.subtract(x1, Decimal(1))), float(_EXACT.subtract(y1, Decimal(1))), float(x2), float(y2)]
        if not np.isfinite([float(score), *box]).all():
            raise ValueError
    except (ValueError, ArithmeticError):
        raise DataError(f"{path}, line {number}: not an image id, a score and four corners: {line!r}") from None
    if box[2] < box[0] or box[3] < box[1]:  # a box of one pixel has equal corners, a smaller one less than that
        raise DataError(f"{path}, line {number}: the far corner lies more than a pixel before the near one: {line!r}")
    return VOCRow(number, image_id, float(score), box)
