"""How far a long transfer is, on the error stream: a bar on a terminal, otherwise a line every few seconds."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

SECONDS_A_LINE = 5.0
"""How often a line is written where there is no terminal; work that is done sooner writes none."""


class Meter:
    """A context that is told of every piece of work.

    Args:
        what: the work's name.
        total: bytes of all of it; None where unknown.
        done: bytes that were there before.
    """

    def __init__(self, what: str, total: int | None, done: int = 0) -> None:
        self.what, self.total, self.done = what, total, done
        self._bar = _bar() if sys.stderr.isatty() else None
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._bar.add_task(self.what, total=self.total, completed=self.done)
        return self

    def add(self, count: int) -> None:
        """So many bytes more are done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done)
        elif time.monotonic() - self._told >= SECONDS_A_LINE:
            self._told = time.monotonic()
            print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """Name, megabytes done and, where known, the share of all."""
        if not self.total:
            return f"{self.what}: {megabytes(self.done)}"
        return f"{self.what}: {megabytes(self.done)} of {megabytes(self.total)} ({self.done / self.total:.0%})"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def megabytes(count: int) -> str:
    """Bytes in words: "911 MB", "19.3 GB".

    >>> megabytes(911_052_800), megabytes(19_336_861_798), megabytes(28_881)
    ('911 MB', '19.3 GB', '0.029 MB')
    """
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e6:.2g} MB"


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
