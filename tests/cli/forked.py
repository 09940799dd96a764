"""Commands in processes of their own that need not import torch again: a fork server imports once, then forks.

Also callbacks that play a crash, an interruption, or batches of one process without an object.
"""

import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer

from lightning_cv.contracts import DetectionBatch

KILL_AT = "LIGHTNING_CV_TEST_KILL_AT"
SIGNAL_AT = "LIGHTNING_CV_TEST_SIGNAL_AT"


class KillAt(Callback):
    """Kills its own process with SIGKILL after as many batches as the environment says; does nothing without."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.total.ready == int(os.environ.get(KILL_AT, "-1")):
            os.kill(os.getpid(), signal.SIGKILL)


class NoObjects(Callback):
    """Takes all objects out of the second process's batches of boxes."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: DetectionBatch, batch_idx: int
    ) -> None:
        if trainer.global_rank == 1:
            for target in batch["targets"]:
                for name in {"boxes", "labels", "difficult", "crowd", "areas", "masks"} & target.keys():
                    target[name] = target[name][:0]  # type: ignore[literal-required]


class Pace(Callback):
    """Takes its time over each batch, so that there is a moment to interrupt it in."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        time.sleep(self.seconds)


class SignalAt(Callback):
    """Sends a signal at a place the environment names: `HOOK:N WHO [SIGNAL]`, at the Nth call of the hook.

    WHO is the number of the process that signals itself, `both` for each of them, or `group` for the first of them to
    signal the whole process group, loader workers and all. Does nothing without; writes the moment to `signalled`.
    """

    def __init__(self) -> None:
        where, self.who, *name = [*os.environ.get(SIGNAL_AT, "nowhere:0 none").split(), "SIGTERM"][:3]
        self.signal = signal.Signals[name[0]]
        self.hook, _, count = where.partition(":")
        self.left = int(count) if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0" else 0

    def _passes(self, hook: str, trainer: Trainer) -> None:
        if hook != self.hook:
            return
        self.left -= 1
        if self.left != 0:
            return
        if self.who == "group":
            if trainer.global_rank == 0:
                Path("signalled").write_text(str(time.time()))
                subprocess.run(["kill", f"-{self.signal.value}", "--", f"-{os.getpgid(0)}"], preexec_fn=os.setpgrp)
        elif self.who in ("both", str(trainer.global_rank)):
            Path("signalled").write_text(str(time.time()))
            os.kill(os.getpid(), self.signal)

    def setup(self, trainer: Trainer, *_: object, **__: object) -> None:
        self._passes("setup", trainer)

    def on_train_start(self, trainer: Trainer, *_: object) -> None:
        self._passes("on_train_start", trainer)

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        self._passes("on_train_batch_start", trainer)

    def on_validation_start(self, trainer: Trainer, *_: object) -> None:
        self._passes("on_validation_start", trainer)

    def on_validation_batch_start(self, trainer: Trainer, *_: object) -> None:
        self._passes("on_validation_batch_start", trainer)

    def on_validation_end(self, trainer: Trainer, *_: object) -> None:
        self._passes("on_validation_end", trainer)

    def on_train_epoch_end(self, trainer: Trainer, *_: object) -> None:
        self._passes("on_train_epoch_end", trainer)


def run(arguments: list[str], folder: Path, **environment: str) -> int:
    """Exit status of `lightning-cv ARGUMENTS` run in `folder` on one thread; -9 when it was killed."""
    return run_for(240, arguments, folder, threads=1, **environment)


def run_for(seconds: float, arguments: list[str], folder: Path, threads: int = 2, **environment: str) -> int:
    """As `run`, for a command that takes longer."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning_cv.cli.fit", "lightning_cv.cli.resume", "lightning_cv.models"])
    process = context.Process(target=_main, args=(arguments, str(folder), environment, threads))
    process.start()
    process.join(seconds)
    assert process.exitcode is not None, f"still running after {seconds} s: {arguments}"
    return process.exitcode


def _main(arguments: list[str], folder: str, environment: dict[str, str], threads: int) -> None:
    from lightning_cv.cli import main

    os.chdir(folder)
    os.environ.update(environment)
    for name in [name for name in os.environ if name.startswith("WANDB") and "SERVICE" in name]:
        del os.environ[name]  # each command has a W&B service of its own, as it would from a shell
    torch.set_num_threads(threads)
    with open("output.txt", "a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        raise SystemExit(main(arguments))
