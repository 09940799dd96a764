"""Callbacks that play what goes wrong: the crash at any moment, the crash within a write, the full disk."""

import io
import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from lightning_cv import checkpoints

SEED = "LIGHTNING_CV_TEST_FAULT"
"""Environment variable: which of the random faults is played; none without it."""


class KilledSometime(Callback):
    """SIGKILL at a random moment of the `seconds` after the first checkpoint, from another thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._armed = SEED in os.environ

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if self._armed and any(Path(trainer.default_root_dir).glob("checkpoints/*.ckpt")):
            self._armed = False
            moment = random.Random(int(os.environ[SEED])).uniform(0, self.seconds)
            threading.Timer(moment, os.kill, (os.getpid(), signal.SIGKILL)).start()


class KilledInWrite(Callback):
    """SIGKILL within a checkpoint write, any but the first: after a part of the bytes, all, or the renaming.

    The bytes are on the disk when it comes, as if the system had been quick.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if SEED not in os.environ:
            return
        draw = random.Random(int(os.environ[SEED]))
        left, share = draw.randint(1, 4), draw.choice([draw.random(), draw.random(), draw.random(), 1.0, 2.0])
        write, rename = torch.save, os.replace

        def save(content: Any, file: Any) -> None:
            nonlocal left
            left -= 1
            whole = io.BytesIO()
            write(content, whole)
            data = whole.getvalue()
            if left == -1 and share <= 1:
                file.write(data[: int(share * len(data))])
                file.flush()
                os.fsync(file.fileno())
                os.kill(os.getpid(), signal.SIGKILL)
            file.write(data)

        def replace(source: Any, target: Any) -> None:
            rename(source, target)
            if left == -1 and str(target).endswith(".ckpt"):
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoints.torch.save, checkpoints.os.replace = save, replace  # type: ignore[assignment]


class FullDisk(Callback):
    """Fills the disk that the run is on when as many batches are done as the environment says."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.total.ready == int(os.environ.get(SEED, "-1")):
            with (Path(trainer.default_root_dir).parents[3] / "filler").open("wb", buffering=0) as filler:
                try:
                    while True:
                        filler.write(bytes(1000))
                except OSError:
                    return
