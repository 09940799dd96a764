"""`lightning-cv list`: all experiments with task, data and target, read from their files alone."""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from lightning_cv.cli.experiments import (
    experiment_files,
    experiment_name,
    read_yaml,
    shipped_experiments,
    staged_experiments,
    with_bases,
)


class Experiment(NamedTuple):
    """One row of the list."""

    name: str
    task: str
    data: str
    target: str
    about: str


def main(argv: list[str]) -> int:
    """Print the experiments as a table, or as JSON."""
    parser = argparse.ArgumentParser(prog="lightning-cv list", description="All experiments with task, data, target.")
    parser.add_argument("--json", action="store_true", help="one JSON list on standard output")
    options = parser.parse_args(argv)
    rows = [describe(path) for path in all_experiments()]
    if options.json:
        print(json.dumps([row._asdict() for row in rows], indent=2))
        return 0
    from rich.console import Console  # 50 ms, for people only
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("experiment", "task", "data", "target"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(row.name, row.task, row.data, row.target.partition(" (")[0])  # without its source
    Console().print(table)
    return 0


def all_experiments() -> list[Path]:
    """The experiments of ./experiments, where there are any, and those of the package that have no namesake there."""
    found: dict[str, Path] = {}
    for root in (shipped_experiments(), Path("experiments")):
        found |= {experiment_name(path): path for path in (*experiment_files(root), *staged_experiments(root))}
    return [found[name] for name in sorted(found)]


def describe(path: Path) -> Experiment:
    """What an experiment's file and its bases say of it."""
    merged: dict[str, Any] = {}
    for file in with_bases(path):
        _merge(merged, read_yaml(file))
    target = merged.get("target")
    return Experiment(
        name=experiment_name(path),
        task=_class(merged["model"]) if "model" in merged else f"`lightning-cv {path.parent.name}`",
        data=_class(merged.get("data")).removesuffix("DataModule"),
        target=_target(target) if isinstance(target, dict) else "-",
        about=path.read_text().splitlines()[0].lstrip("# "),
    )


def _target(target: dict[str, Any]) -> str:
    metric, value, source = (target.get(key, "?") for key in ("metric", "value", "source"))
    return f"{metric} {value} ({source})"


def _merge(into: dict[str, Any], later: dict[str, Any]) -> None:
    """What the settings' own parser does for mappings: later files win key by key."""
    for key, value in later.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _class(block: Any) -> str:  # Any: whatever the YAML says there
    path = block.get("class_path", "") if isinstance(block, dict) else str(block or "")
    return path.rpartition(".")[2] or "-"
