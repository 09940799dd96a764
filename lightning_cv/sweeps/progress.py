"""How far a trial is, read from its folder by nothing heavier than csv."""

import csv
import math
import re
from pathlib import Path
from typing import NamedTuple

from lightning_cv.cli.run_folder import CHECKPOINTS, CONFIG, METRICS
from lightning_cv.sweeps.spec import Goal

RESULTS = "results.json"
_MAX_EPOCHS = re.compile(r"^  max_epochs: (\d+)", re.MULTILINE)  # below `trainer`; reading all of the YAML takes 50 ms


class Progress(NamedTuple):
    """What a trial's metrics.csv and config.yaml say."""

    epoch: int | None
    """The epoch it is in, from 1."""
    epochs: int | None
    values: list[float]
    """Of the sweep's metric, in the order they were logged; those that are no number are left out."""


def read_progress(folder: Path, metric: str | None) -> Progress:
    """The progress of the trial in a folder, as far as the program writes it there; a cut last line is passed over."""
    epoch: int | None = None
    values: list[float] = []
    try:
        with (folder / METRICS).open(newline="") as file:
            for row in csv.DictReader(file):
                if (at := _number(row.get("epoch"))) is not None:
                    epoch = int(at) + 1
                if metric is not None and (value := _number(row.get(metric))) is not None:
                    values.append(value)
    except (OSError, UnicodeDecodeError, csv.Error):
        return Progress(epoch, _epochs(folder), values)
    return Progress(epoch, _epochs(folder), values)


def best_of(values: list[float], goal: Goal) -> float | None:
    """The best value; None of none."""
    if not values:
        return None
    return max(values) if goal == "maximize" else min(values)


def newest_checkpoint_time(folder: Path) -> float | None:
    """When the newest checkpoint of a trial was written; None without one."""
    return max((path.stat().st_mtime for path in (folder / CHECKPOINTS).glob("*.ckpt")), default=None)


def _epochs(folder: Path) -> int | None:
    try:
        found = _MAX_EPOCHS.search((folder / CONFIG).read_text())
    except (OSError, UnicodeDecodeError):
        return None
    return int(found[1]) if found else None


def _number(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
