"""`lightning-cv runs`: what lies below a folder of runs, filtered, sorted, removed. Imports nothing heavy."""

import argparse
import csv
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lightning_cv.cli.run_folder import CONFIG, METRICS, state_of
from lightning_cv.cli.settings import flatten
from lightning_cv.errors import UserError

STATES = ("finished", "running", "stopped", "failed")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml is


class Run(NamedTuple):
    """One run's folder."""

    folder: Path
    state: str
    begun: float
    """Seconds since 1970."""
    size: int
    """Bytes on the disk."""
    epoch: int | None
    """The last one that logged something, from 1."""
    figures: dict[str, float]
    """The last value of each."""
    settings: dict[str, Any]  # by short key; Any: what YAML holds


def main(argv: list[str]) -> int:
    """List runs, or remove them."""
    options = _parser().parse_args(argv)
    if not options.folder.is_dir():
        raise UserError(f"no folder {options.folder}")
    wanted = [_condition(text) for text in options.where]
    runs = [
        run
        for folder in run_folders(options.folder)
        if (run := read_run(folder)) is not None
        and (options.state is None or run.state == options.state)
        and all(str(run.settings.get(key)) == value for key, value in wanted)
    ]
    runs = by_figure(runs, options.sort, options.reverse)
    if options.remove:
        return _remove(runs, options.yes)
    print(json.dumps([as_json(run) for run in runs], indent=1) if options.json else table(runs, options.sort))
    return 0


def run_folders(root: Path) -> Iterator[Path]:
    """Folders of runs in or below `root`, in the order of their names; evaluations inside of a run are parts of it."""
    for place, inner, files in os.walk(root):
        inner.sort()
        if CONFIG in files:
            inner.clear()
            yield Path(place)


def read_run(folder: Path) -> Run | None:
    """What a folder says, as far as it can be read; None where its config.yaml is of something else."""
    try:
        settings = yaml.load((folder / CONFIG).read_text(), Loader=_LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        settings = None
    if settings is not None and not (isinstance(settings, dict) and {"model", "data"} <= settings.keys()):
        return None
    figures, epoch = _figures(folder / METRICS)
    results = _results(folder / "results.json")
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    begun = (folder / CONFIG).stat().st_mtime
    known = flatten(settings) if settings else {}
    return Run(folder, state_of(folder, bool(results)), begun, size, epoch, figures | results, known)


def by_figure(runs: list[Run], name: str | None, reverse: bool) -> list[Run]:
    """Sorted by a figure, the largest first, runs without it last; by when they were begun without a name.

    Raises:
        UserError: no run has such a figure.
    """
    if name is None:
        return sorted(runs, key=lambda run: run.begun, reverse=reverse)
    if runs and not any(name in run.figures for run in runs):
        from difflib import get_close_matches  # needed only on the way out

        near = get_close_matches(name, sorted({key for run in runs for key in run.figures}), n=3)
        raise UserError(f"no run has {name}" + (f"; did you mean {', '.join(near)}?" if near else ""))
    sign = 1 if reverse else -1
    return sorted(runs, key=lambda run: (name not in run.figures, sign * run.figures.get(name, 0.0)))


def table(runs: list[Run], name: str | None) -> str:
    """A line a run, and a last one about all."""
    head = ["run", "state", "begun", "epoch", name or "", "size"]
    cells = [head]
    for run in runs:
        value = f"{run.figures[name]:.5g}" if name and name in run.figures else ""
        begun = f"{datetime.fromtimestamp(run.begun):%Y-%m-%d %H:%M}"
        cells.append([str(run.folder), run.state, begun, str(run.epoch or ""), value, told_size(run.size)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([*lines, f"{len(runs)} runs, {told_size(sum(run.size for run in runs))}"])


def as_json(run: Run) -> dict[str, Any]:  # Any: JSON
    """The same for programs."""
    begun = datetime.fromtimestamp(run.begun).astimezone().isoformat(timespec="seconds")
    figures = {name: value for name, value in run.figures.items() if math.isfinite(value)}
    return run._asdict() | {"folder": str(run.folder), "begun": begun, "figures": figures}


def told_size(size: int) -> str:
    """Bytes for people.

    >>> told_size(1_500_000)
    '1.5 MB'
    """
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _remove(runs: list[Run], sure: bool) -> int:
    """Remove runs that nobody works in, after a question."""
    idle = [run for run in runs if run.state != "running"]
    for run in runs:
        if run.state == "running":
            print(f"{run.folder} is at work and stays", file=sys.stderr)
    if not idle:
        print("no run to remove")
        return 0
    print(table(idle, None))
    if not sure:
        if not sys.stdin.isatty():
            raise UserError("--remove asks first, and nobody is there to answer: say --yes")
        if input(f"remove {len(idle)} runs for ever? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing is removed")
            return 1
    for run in idle:
        shutil.rmtree(run.folder)
    print(f"{len(idle)} runs removed")
    return 0


def _figures(file: Path) -> tuple[dict[str, float], int | None]:
    """The last value of each column of a metrics.csv, and the last epoch, from 1."""
    figures: dict[str, float] = {}
    try:
        with file.open(newline="") as opened:
            for row in csv.DictReader(opened):
                for name, text in row.items():
                    try:
                        figures[str(name)] = float(text)
                    except (TypeError, ValueError):
                        continue
    except (OSError, UnicodeDecodeError, csv.Error):
        pass
    epoch = figures.pop("epoch", None)
    figures.pop("step", None)
    return figures, None if epoch is None else int(epoch) + 1


def _results(file: Path) -> dict[str, float]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    numbers = content.items() if isinstance(content, dict) else ()
    return {name: float(value) for name, value in numbers if isinstance(value, int | float)}


def _condition(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--where is KEY=VALUE, such as model.beta=4, got {text}")
    return key, str(yaml.safe_load(value))  # as the settings have it: 4 and 4.0 are told apart, true is True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-cv runs", description="List the runs in and below a folder, or remove those that are listed."
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs"), help="default: runs")
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="setting, such as model.beta=4"
    )
    parser.add_argument("--state", choices=STATES, help="only these")
    parser.add_argument(
        "--sort", metavar="FIGURE", help="such as val/miou: largest first (default: by time, oldest first)"
    )
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument(
        "--json", action="store_true", help="a JSON list on standard output, with all figures and settings"
    )
    parser.add_argument("--remove", action="store_true", help="remove what would be listed; asks first")
    parser.add_argument("--yes", action="store_true", help="with --remove: do not ask")
    return parser
