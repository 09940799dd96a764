"""How fast training goes, what it waits for and what memory it takes."""

import resource
import sys
import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

GIB = 1024**3


class Throughput(Callback):
    """Figures of each training epoch, loading included, validation not.

    `train/images_per_s` counts all processes' images; `train/data_wait` is the share of the time spent waiting for
    the next batch, 0 to 1, averaged over processes; `train/memory_gib` is the most that any process has held so far:
    of the accelerator's memory, or without one of the process's own (loader workers not counted).
    """

    def __init__(self) -> None:
        self._images = 0
        self._seconds = self._waited = 0.0
        self._since = self._asked = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        self._images, self._seconds, self._waited = 0, 0.0, 0.0
        self._since = self._asked = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The batch has come."""
        self._waited += time.perf_counter() - self._asked

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # what the step returned
        batch: Any,  # of the kind of problem, with "images"
        batch_idx: int,
    ) -> None:
        """Count the images; from here on the next batch is waited for."""
        self._images += len(batch["images"])
        self._asked = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold the clocks."""
        now = time.perf_counter()
        self._seconds += now - self._since
        self._waited += now - self._asked

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the clocks run on."""
        self._since = self._asked = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the figures."""
        seconds = self._seconds + time.perf_counter() - self._since
        pl_module.log("train/images_per_s", self._images * trainer.world_size / seconds, sync_dist=True)
        pl_module.log("train/data_wait", self._waited / seconds, sync_dist=True)
        pl_module.log("train/memory_gib", peak_memory(pl_module.device) / GIB, sync_dist=True, reduce_fx="max")


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: on a CUDA device by tensors, otherwise by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
