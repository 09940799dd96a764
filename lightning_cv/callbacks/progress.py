"""Progress as plain lines, where there is no terminal to draw a bar in."""

import math
import sys
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class ProgressLines(Callback):
    """A line an epoch, and one every `seconds` within a longer one, on the error stream: for logs of cluster jobs.

    Silent where standard output is a terminal, which has Lightning's progress bar, and where bars are switched off.

    Args:
        seconds: at least this long between two lines within an epoch.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self.seconds = seconds
        self._begun = self._last = 0.0
        self._first_epoch = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock that the remaining time is guessed from."""
        self._begun = self._last = time.perf_counter()
        self._first_epoch = trainer.current_epoch

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # what the step returned
        batch: Any,  # of the kind of problem
        batch_idx: int,
    ) -> None:
        """A line within the epoch, if the last one is long ago."""
        self._within(trainer, f"epoch {_of_epochs(trainer)}", batch_idx + 1, trainer.num_training_batches)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The epoch's line: loss, validation figures, time left."""
        now = time.perf_counter()
        done = trainer.current_epoch + 1 - self._first_epoch
        words = [f"epoch {_of_epochs(trainer)}", f"{_clock(now - self._begun)} so far"]
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            left = (now - self._begun) / done * (trainer.max_epochs - trainer.current_epoch - 1)
            words.append(f"{_clock(left)} to go")
        values = {name: value.item() for name, value in trainer.callback_metrics.items()}
        words += [f"{name} {value:.4g}" for name, value in values.items() if name.startswith(("train/loss", "val/"))]
        self._say(trainer, ", ".join(words))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._last = time.perf_counter()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # what the step returned
        batch: Any,  # of the kind of problem
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A line within the test, if the last one is long ago."""
        self._within(trainer, "test", batch_idx + 1, sum(trainer.num_test_batches))

    def _within(self, trainer: Trainer, where: str, done: int, total: float) -> None:
        if time.perf_counter() - self._last >= self.seconds:
            of = f" of {int(total)}" if math.isfinite(total) else ""
            self._say(trainer, f"{where}, batch {done}{of}")

    def _say(self, trainer: Trainer, line: str) -> None:
        self._last = time.perf_counter()
        if trainer.is_global_zero and trainer.progress_bar_callback is not None and not sys.stdout.isatty():
            print(line, file=sys.stderr, flush=True)


def _of_epochs(trainer: Trainer) -> str:
    total = trainer.max_epochs
    return f"{trainer.current_epoch + 1}/{total}" if total is not None and total > 0 else f"{trainer.current_epoch + 1}"


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> _clock(3725.2)
    '1:02:05'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
