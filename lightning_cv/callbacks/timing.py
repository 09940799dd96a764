"""How fast training goes."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """`train/images_per_s` of each epoch: all processes' images over its seconds, loading included, validation not."""

    def __init__(self) -> None:
        self._images = 0
        self._seconds = 0.0
        self._since = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._images, self._seconds, self._since = 0, 0.0, time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # what the step returned
        batch: Any,  # of the kind of problem, with "images"
        batch_idx: int,
    ) -> None:
        """Count the images."""
        self._images += len(batch["images"])

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold the clock."""
        self._seconds += time.perf_counter() - self._since

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the clock run on."""
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the rate."""
        seconds = self._seconds + time.perf_counter() - self._since
        rate = self._images * trainer.world_size / seconds
        pl_module.log("train/images_per_s", rate, sync_dist=True)
