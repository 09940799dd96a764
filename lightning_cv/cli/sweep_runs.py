"""Reading run folders, whatever state they are in: nothing that is missing or broken stops the reading of the rest."""

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from lightning_cv.cli.experiments import read_yaml
from lightning_cv.cli.run_folder import CONFIG, ENVIRONMENT, METRICS, state_of
from lightning_cv.cli.settings import flatten
from lightning_cv.errors import UserError
from lightning_cv.tools.sweep_table import PARAMETERS, Monitor, Run

RESULTS = "results.json"


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """All runs in or below folders, in the order of their names.

    Raises:
        UserError: a folder does not exist, or no run lies in any of them.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"no folder {folder}")
    found = list(dict.fromkeys(run for folder in folders for run in run_folders(folder)))
    if not found:
        where = ", ".join(map(str, folders))
        raise UserError(f"no run in {where}: a run's folder holds a {CONFIG} with model and data")
    names = _names(found)
    return sorted((read_run(folder, names[folder]) for folder in found), key=lambda run: run.name)


def run_folders(root: Path) -> Iterator[Path]:
    """Folders with a run's settings in or below `root`; what lies inside of a run, its tests, is not looked into.

    Hidden ones are left out: runs that a sweep has begun again are set aside in them.
    """
    for place, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if CONFIG in files and _is_run(Path(place)):
            inner.clear()
            yield Path(place)


def read_run(folder: Path, name: str) -> Run:
    """What one folder says, with a note for everything that it does not say."""
    notes: list[str] = []
    settings: dict[str, Any] = {}
    try:
        settings = read_yaml(folder / CONFIG)
    except UserError as error:
        notes.append(str(error))
    trained = _figures(folder / RESULTS, notes)
    tests = sorted(folder.glob("test-*"), key=lambda path: _number(path.name))
    tested = _figures(tests[-1] / RESULTS, notes) if tests else {}
    if tests and not tested:
        notes.append(f"{tests[-1].name} has no figures")
    curves = _curves(folder / METRICS, notes)
    previews = _previews(folder / "previews", notes)
    last = {key: rows[-1][1] for key, rows in curves.items()}
    known = {key: value for key, value in _figures(folder / ENVIRONMENT, notes).items() if key == PARAMETERS}
    return Run(
        folder,
        name,
        state_of(folder, bool(trained)),
        tuple(notes),
        flatten(settings),
        known | last | trained | {key: value for key, value in tested.items() if key.startswith("test/")},
        curves,
        previews,
        _monitor(settings),
    )


def _is_run(folder: Path) -> bool:
    try:
        content = read_yaml(folder / CONFIG)
    except UserError:
        return (folder / METRICS).exists() or (folder / "env.json").exists()  # a run whose settings are broken
    return "model" in content and "data" in content


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """The shortest ends of paths that tell the folders apart."""
    resolved = [folder.resolve() for folder in folders]
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(set(resolved)):
        depth += 1
    return {folder: "/".join(path.parts[-depth:]) for folder, path in zip(folders, resolved, strict=True)}


def _figures(file: Path, notes: list[str]) -> dict[str, float]:
    """Numbers of a results.json; none where there is no file, and a note where it is broken."""
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        notes.append(f"{file.parent.name}/{file.name} is not readable: {error}")
        return {}
    if not isinstance(content, dict):
        notes.append(f"{file.parent.name}/{file.name} holds no figures")
        return {}
    return {key: float(value) for key, value in content.items() if _is_number(value)}


def _is_number(value: Any) -> bool:  # Any: what JSON holds
    return isinstance(value, int | float) and not isinstance(value, bool)


def _curves(file: Path, notes: list[str]) -> dict[str, list[tuple[int, float]]]:
    """Step and value of every column of metrics.csv; a last line that was cut off is passed over."""
    curves: dict[str, list[tuple[int, float]]] = {}
    try:
        with file.open(newline="") as opened:
            rows = list(csv.DictReader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        notes.append(f"no {file.name}" if isinstance(error, FileNotFoundError) else f"{file.name}: {error}")
        return {}
    for row in rows:
        try:
            step = int(row["step"])
            values = {key: float(text) for key, text in row.items() if key and text and key not in ("step", "epoch")}
        except (KeyError, TypeError, ValueError):
            continue
        for key, value in values.items():
            if math.isfinite(value):
                curves.setdefault(key, []).append((step, value))
    return curves


def _previews(folder: Path, notes: list[str]) -> dict[str, Path]:
    """The picture of the last epoch of each kind; hidden ones are being written by a run at work."""
    last: dict[str, Path] = {}
    for file in sorted(folder.glob("[!.]*-epoch*.png"), key=lambda path: _number(path.stem)):
        last[file.stem.rpartition("-epoch")[0]] = file
    for kind, file in list(last.items()):
        try:
            with Image.open(file) as picture:
                picture.load()
        except (OSError, SyntaxError) as error:
            notes.append(f"{file.name} is not readable: {error}")
            del last[kind]
    return last


def _number(name: str) -> int:
    found = re.search(r"(\d+)$", name)
    return int(found[1]) if found else -1


def _monitor(settings: Mapping[str, Any]) -> Monitor | None:
    """Of the callback that keeps the best checkpoint."""
    trainer = settings.get("trainer")
    callbacks = trainer.get("callbacks") if isinstance(trainer, dict) else None
    for callback in callbacks if isinstance(callbacks, list) else []:
        arguments = (callback.get("init_args") or {}) if isinstance(callback, dict) else {}
        if arguments.get("monitor") and arguments.get("mode") in ("min", "max"):
            return Monitor(arguments["monitor"], arguments["mode"])
    return None
