"""What callbacks and loggers cost: a run of the demo's detector that goes without them every other moment.

Run it where nothing else runs. Within an epoch, blocks of 20 training steps have all callbacks and loggers or none,
in turns whose order alternates; so do the ends of epochs, which are validation of 300 scenes with pictures of 8, and
the checkpoint. Whole epochs would be too far apart: machines change their pace by more than callbacks cost. Where there
are none, only the reseeding stays that a run's figures depend on. The first epoch does not count. What steps and ends
cost is then put together for an epoch of 16,000 scenes.
"""

import os
import statistics
import tempfile
import time
from typing import Any, ClassVar

from lightning import Callback, LightningModule, Trainer

from lightning_cv.callbacks.reproducible import CounterRandomness
from lightning_cv.cli.fit import launch

BLOCK, BLOCKS, EPOCHS, BATCH = 20, 16, 17, 8
STEPS = 16_000 // BATCH
"""Of the epoch that the cost is told for."""


def is_bare(turn: int) -> bool:
    """Turns 1 and 2, 5 and 6, and so on: pairs whose order alternates."""
    return turn % 4 in (1, 2)


class InTurns(Callback):
    """Takes the other callbacks and the loggers away and gives them back; notes how long each turn lasts."""

    blocks: ClassVar[dict[bool, list[float]]] = {False: [], True: []}
    ends: ClassVar[dict[bool, list[float]]] = {False: [], True: []}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.callbacks, self.loggers, self.turn, self.since = trainer.callbacks, trainer.loggers, -1, 0.0
        self.few = [one for one in self.callbacks if isinstance(one, InTurns | CounterRandomness)]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epoch = trainer.current_epoch
        if self.epoch > 1:
            self.ends[is_bare(self.epoch - 1)].append(time.perf_counter() - self.since)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx % BLOCK == 0:
            self.note(trainer, batch_idx)
            self.turn += 1
            self.choose(trainer, is_bare(self.turn))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == BLOCK * BLOCKS - 1:
            self.note(trainer, batch_idx)
            self.choose(trainer, is_bare(trainer.current_epoch))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.ends[is_bare(self.epoch)].append(time.perf_counter() - self.since)

    def note(self, trainer: Trainer, batch_idx: int) -> None:
        now = time.perf_counter()
        if trainer.current_epoch and batch_idx:
            self.blocks[is_bare(self.turn)].append(now - self.since)
        self.since = now

    def choose(self, trainer: Trainer, bare: bool) -> None:
        trainer.callbacks, trainer.loggers = (self.few, []) if bare else (self.callbacks, self.loggers)


def main() -> None:
    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
    asked = [f"--data.train={BATCH * BLOCK * BLOCKS}", f"--trainer.max_epochs={EPOCHS}"]
    asked += ["--trainer.check_val_every_n_epoch=1", "--trainer.callbacks+=callback_overhead.InTurns"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    with tempfile.TemporaryDirectory() as folder:
        launch("fit", ["--config", "detection/ssd_drawn", "--runs", folder, *asked, *quiet])
    from callback_overhead import InTurns as Noted  # the class that the command line imported by this name

    steps = [mine / other - 1 for mine, other in zip(Noted.blocks[False], Noted.blocks[True], strict=False)]
    bare_step = statistics.median(Noted.blocks[True]) / BLOCK
    end, bare_end = (statistics.median(Noted.ends[bare]) for bare in (False, True))
    epoch = STEPS * bare_step + bare_end
    cost = STEPS * bare_step * statistics.median(steps) + end - bare_end
    print(f"a step without: {1000 * bare_step:.1f} ms; with all {100 * statistics.median(steps):+.1f} %, the median of")
    print(f"{len(steps)} pairs of {BLOCK} steps, quartiles {_percents(statistics.quantiles(steps)[::2])}")
    print(f"the end of an epoch: {end:.2f} s with, {bare_end:.2f} s without, medians of {len(Noted.ends[False])}")
    print(f"an epoch of {STEPS * BATCH} scenes: {epoch:.1f} s without, with all {100 * cost / epoch:+.1f} %")
    print(f"of 60 s: {100 * (statistics.median(steps) + (end - bare_end) / 60):+.1f} %")


def _percents(shares: list[float]) -> str:
    return " and ".join(f"{100 * share:+.1f} %" for share in shares)


if __name__ == "__main__":
    main()
