"""What callbacks and loggers cost: a run of the demo's detector in which half of the epochs go without them.

Run it where nothing else runs. An epoch goes from its first batch to the next one's, validation of 300 scenes with
pictures of 8 and the checkpoint included. In the epochs without, only the reseeding that a run's figures depend on
stays; all epochs are of one process, for processes differ by more than callbacks cost. After an epoch that does not
count, pairs follow, of which every second one begins with the epoch without.
"""

import os
import statistics
import tempfile
import time
from itertools import pairwise
from typing import ClassVar

from lightning import Callback, LightningModule, Trainer

from lightning_cv.callbacks.reproducible import CounterRandomness
from lightning_cv.cli.fit import launch

SCENES, PAIRS = 16_000, 6


def is_bare(epoch: int) -> bool:
    """Epochs 2 and 3, 6 and 7, and so on."""
    return epoch % 4 in (2, 3)


class EverySecond(Callback):
    """Takes the other callbacks and the loggers away in half of the epochs and notes how long each epoch lasts."""

    starts: ClassVar[list[float]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.current_epoch:
            self.callbacks, self.loggers = trainer.callbacks, trainer.loggers
        bare = is_bare(trainer.current_epoch)
        few = [callback for callback in self.callbacks if isinstance(callback, EverySecond | CounterRandomness)]
        trainer.callbacks, trainer.loggers = (few, []) if bare else (self.callbacks, self.loggers)
        EverySecond.starts.append(time.perf_counter())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        EverySecond.starts.append(time.perf_counter())


def main() -> None:
    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
    asked = [f"--data.train={SCENES}", f"--trainer.max_epochs={1 + 2 * PAIRS}", "--trainer.check_val_every_n_epoch=1"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    with tempfile.TemporaryDirectory() as folder:
        ours = "--trainer.callbacks+=callback_overhead.EverySecond"
        launch("fit", ["--config", "detection/ssd_drawn", "--runs", folder, *asked, *quiet, ours])
    from callback_overhead import EverySecond as Noted  # the class that the command line imported by this name

    seconds = [end - start for start, end in pairwise(Noted.starts)]
    timed = list(enumerate(seconds))[1:]
    with_all, bare = ([one for epoch, one in timed if is_bare(epoch) == wanted] for wanted in (False, True))
    print("epochs with all: " + ", ".join(f"{one:.1f} s" for one in with_all))
    print("epochs without: " + ", ".join(f"{one:.1f} s" for one in bare))
    shares = [mine / other - 1 for mine, other in zip(with_all, bare, strict=True)]
    print("pairs: " + ", ".join(f"{100 * share:+.1f} %" for share in shares))
    print(f"median of {len(shares)} pairs: {100 * statistics.median(shares):+.1f} %")
    print(f"all epochs together: {100 * (sum(with_all) / sum(bare) - 1):+.1f} %")


if __name__ == "__main__":
    main()
