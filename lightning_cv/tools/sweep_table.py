"""Runs beside each other: what was set differently, what came out, and how much each setting mattered."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

State = Literal["finished", "running", "stopped", "failed"]
Floats = NDArray[np.float64]

SEED = "seed_everything"
PARAMETERS = "parameters"
COSTS = {PARAMETERS: PARAMETERS, "images/s": "train/images_per_s"}
"""What a run took, beside its figures: name and key."""

_PLACES = ("trainer.logger", "trainer.default_root_dir", "target", "ckpt", "runs", "run_dir", "config", "data.root")
"""Settings that say where things lie or what they are measured by, not how they are made."""


class Monitor(NamedTuple):
    """The figure that the best checkpoint is chosen by, and which way."""

    name: str
    mode: Literal["min", "max"]


class Run(NamedTuple):
    """What a run's folder says of it."""

    folder: Path
    name: str
    state: State
    notes: tuple[str, ...]  # what was missing or not readable
    settings: dict[str, Any]  # by dotted short key; Any: what YAML holds
    figures: dict[str, float]  # the last of training and validation, and of the last test
    curves: dict[str, list[tuple[int, float]]]  # step and value of what was logged more than once
    previews: dict[str, Path]  # the last picture of each kind
    monitor: Monitor | None

    def best(self, monitor: Monitor) -> float | None:
        """The best value that was logged of a figure; None without one that is a number."""
        values = [value for _, value in self.curves.get(monitor.name, [])]
        values = [value for value in values or [self.figures.get(monitor.name, np.nan)] if np.isfinite(value)]
        return (max(values) if monitor.mode == "max" else min(values)) if values else None


def differing_keys(runs: Sequence[Run]) -> list[str]:
    """Settings that are not the same in all runs, the seed last, places left out.

    Below a class that differs, what not all classes have is left out where it follows from the class: all runs that
    have it say the same.
    """
    every = dict.fromkeys(key for run in runs for key in run.settings)
    keys = [key for key in every if not key.startswith(_PLACES) and len(_values(runs, key)) > 1]
    chosen = [key.removesuffix("class_path") for key in keys if key.endswith(".class_path")]
    kept = [
        key
        for key in keys
        if all(key in run.settings for run in runs)
        or not any(key.startswith(place) for place in chosen)
        or len(_values([run for run in runs if key in run.settings], key)) > 1
    ]
    return sorted(kept, key=lambda key: key == SEED)


def _values(runs: Sequence[Run], key: str) -> set[str]:
    return {repr(run.settings.get(key)) for run in runs}


def numeric_keys(runs: Sequence[Run], keys: Iterable[str]) -> list[str]:
    """The keys, without the seed, that hold a number in every run."""
    return [key for key in keys if key != SEED and all(is_number(run.settings.get(key)) for run in runs)]


def is_number(value: Any) -> bool:  # Any: a YAML value
    """Whether a setting is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def short(key: str, keys: Sequence[str]) -> str:
    """The last words of a dotted key, as many as tell it apart: `beta` of `model.beta`, `net` of a net's class."""
    key, keys = key.removesuffix(".class_path"), [other.removesuffix(".class_path") for other in keys]
    words = key.split(".")
    for count in range(1, len(words)):
        tail = ".".join(words[-count:])
        if sum(other == tail or other.endswith(f".{tail}") for other in keys) == 1:
            return tail
    return key


def evaluation_figures(runs: Sequence[Run]) -> dict[str, str]:
    """Figures to compare, and the key of each: of the test where all finished runs have it, else of validation."""
    finished = [run for run in runs if run.state == "finished"] or list(runs)
    found: dict[str, str] = {}
    for part in ("val/", "test/"):
        for key in dict.fromkeys(key for run in finished for key in run.figures if key.startswith(part)):
            if part == "val/" or all(key in run.figures for run in finished):
                found[key.removeprefix(part)] = key
    return found


def common_monitor(runs: Sequence[Run]) -> Monitor | None:
    """What most runs' best checkpoint is chosen by."""
    monitors = [run.monitor for run in runs if run.monitor is not None]
    return max(monitors, key=monitors.count) if monitors else None


class Importance(NamedTuple):
    """How much of a figure's variance over runs a setting accounts for, 0 to 1, and how that was found."""

    key: str
    share: float
    method: str


GROUPED, RANKED = "variance between groups, adjusted", "squared rank correlation"


def importances(
    settings: Sequence[Mapping[str, Any]], values: Sequence[float], keys: Sequence[str]
) -> list[Importance]:
    """Each setting alone, the most important first; settings that nothing can be said about are left out.

    Where settings repeat, the share of the figure's variance between the groups of one setting, adjusted for their
    number so that a setting without influence scores about 0 (epsilon squared; Kelley 1935, "An unbiased correlation
    ratio measure"). Where all runs differ, as in a random search, the squared rank correlation (Spearman 1904) of
    numbers. Neither sees what settings do only together.

    >>> settings = [{"beta": 1, "seed": 0}, {"beta": 1, "seed": 1}, {"beta": 4, "seed": 0}, {"beta": 4, "seed": 1}]
    >>> importances(settings, [1.0, 1.0, 2.0, 2.0], ["seed", "beta"])[0]
    Importance(key='beta', share=1.0, method='variance between groups, adjusted')
    """
    found = [_importance([one.get(key) for one in settings], np.array(values, dtype=np.float64), key) for key in keys]
    return sorted((one for one in found if one is not None), key=lambda one: -one.share)


def _importance(column: Sequence[Any], values: Floats, key: str) -> Importance | None:
    labels = [repr(value) for value in column]
    names, count = sorted(set(labels)), len(values)
    total = float(((values - values.mean()) ** 2).sum()) if count else 0.0
    if len(names) < 2 or total == 0.0:
        return None
    if len(names) < count:
        groups = [values[[label == name for label in labels]] for name in names]
        within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
        return Importance(key, max(0.0, 1 - within / total * (count - 1) / (count - len(names))), GROUPED)
    if all(map(is_number, column)) and count > 2:
        return Importance(key, float(np.corrcoef(rankdata(column), rankdata(values))[0, 1] ** 2), RANKED)
    return None
