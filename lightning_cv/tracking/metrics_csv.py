"""Figures in a CSV file that survives a resume."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor


class MetricsCSV(Logger):
    """Appends every logged row to `save_dir/metrics.csv`, each on disk before the next.

    Lightning's own CSVLogger deletes an existing file; this one goes on with it, and `resume_from` drops what the
    checkpoint has not seen. Columns come as they are first logged; empty cells mean "not logged in this row".
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """There is one file a run, so no version."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder of the file."""
        return str(self.path.parent)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:  # Any: Lightning's signature; settings are in config.yaml
        """Settings are not figures: nothing is written."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row."""
        row = {"step": "" if step is None else str(step)} | {name: _cell(value) for name, value in metrics.items()}
        if self._columns is None:
            self._columns, rows = self._read()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write(rows or [])  # without a row that a kill cut off
        new = [name for name in row if name not in self._columns]
        if new:
            _, rows = self._read()
            self._columns += new
            self._write(rows or [])
        with self.path.open("a", newline="") as file:
            file.write(self._lines([row]))

    @rank_zero_only
    def resume_from(self, global_step: int) -> None:
        """Drop the rows of steps that a checkpoint after `global_step` steps will run again (step counts from 0)."""
        columns, rows = self._read()
        if rows is not None:
            self._columns = columns
            self._write([row for row in rows if not row["step"] or int(row["step"]) < global_step])

    def _read(self) -> tuple[list[str], list[dict[str, str]] | None]:
        """Columns and whole rows of the file; a last row that was cut off is left out, None stands for no file."""
        if not self.path.exists():
            return ["step", "epoch"], None
        text = self.path.read_text()
        reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
        columns = list(reader.fieldnames or ["step", "epoch"])
        return columns, [row for row in reader if None not in row and None not in row.values()]

    def _write(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Replace the file in one step."""
        assert self._columns is not None
        part = self.path.with_name(f".{self.path.name}.part")
        part.write_text(self._lines([{name: name for name in self._columns}, *rows]), newline="")
        os.replace(part, self.path)

    def _lines(self, rows: Sequence[Mapping[str, str]]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns or [], restval="", lineterminator="\n").writerows(rows)
        return text.getvalue()


def _cell(value: float | Tensor) -> str:
    return str(value.item() if isinstance(value, Tensor) else value)
