"""The same random numbers in a resumed run as in an uninterrupted one."""

import random

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from lightning_cv.ops.counters import mix


class CounterRandomness(Callback):
    """Reseeds the global generators before each training batch from (seed, batches so far, rank).

    Dropout, sampled codes and whatever else draws from them in a step thus repeat after a crash, with no generator
    state in the checkpoint.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to go on with a loader that was built before the checkpoint's progress was known."""
        seen = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        start = getattr(getattr(trainer.train_dataloader, "sampler", None), "start", seen)
        if start != seen:
            raise RuntimeError(
                f"the training loader starts after {start} batches, but the checkpoint has seen {seen}: something "
                "asked for it too early (trainer.estimated_stepping_batches does; use datamodule.batches_per_epoch())"
            )

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Reseed Python, NumPy and torch."""
        batches = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        seed = mix(self.seed, batches, trainer.global_rank)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002  # the generator that third-party code draws from
        if pl_module.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:  # seeds every accelerator; where none is in use, it would cost more than a small net's forward pass
            torch.manual_seed(seed)
