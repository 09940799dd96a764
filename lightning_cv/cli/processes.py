"""What the number of processes means for a run: how large its batches are, and where it is if that number changes.

Letters: n batches of an epoch before, m now.
"""

import os
import socket
from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning import Trainer
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from torch import nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is documented there

from lightning_cv.datamodules.base import DataModule
from lightning_cv.errors import UserError

KEY = "processes"
"""Under the package's own key of a checkpoint: how many processes trained, and the batches each had in an epoch."""


def batch_words(trainer: Trainer, datamodule: DataModule) -> str | None:
    """How many images a step sees, and the learning rate that the linear rule would make of the present one.

    Goyal 2017, "Accurate, large minibatch SGD", section 2.1: k times the batch, k times the rate. It is not applied:
    the settings' rate may have been made for this batch. None where a step sees one process's one batch.
    """
    times = trainer.world_size * trainer.accumulate_grad_batches
    if times == 1:
        return None
    accumulated = f" x {trainer.accumulate_grad_batches} accumulated" if trainer.accumulate_grad_batches > 1 else ""
    rates = sorted({float(group["initial_lr" if "initial_lr" in group else "lr"]) for group in _groups(trainer)})
    now, scaled = (", ".join(f"{rate * factor:.4g}" for rate in rates) for factor in (1, times))
    return (
        f"a step sees {times * datamodule.batch_size} images: {trainer.world_size} process(es) x "
        f"{datamodule.batch_size}{accumulated}; learning rate {now} as set "
        f"(one made for batches of {datamodule.batch_size} would become {scaled} by the linear rule)"
    )


class SharedNorms(TorchSyncBatchNorm):
    """Batch statistics of all processes for every batch normalisation, timm's with an activation in it among them.

    torch's own conversion, which is Lightning's, leaves those activations out without a word.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """The model with its layers replaced."""
        from timm.layers.norm_act import convert_sync_batchnorm  # slow to import

        return cast(nn.Module, convert_sync_batchnorm(model))  # type: ignore[no-untyped-call]

    def revert(self, model: nn.Module) -> nn.Module:
        """The model as it is: alone, its layers do what those did that they replaced."""
        return model


def plugins(trainer_settings: Mapping[str, Any]) -> list[SharedNorms]:
    """What a trainer of such settings needs beside Lightning's own.

    Raises:
        UserError: batch statistics shall be shared by several processes without GPUs, which would fail in one of them
            and leave the others waiting.
    """
    if not trainer_settings["sync_batchnorm"]:
        return []
    several = str(trainer_settings["devices"]) not in ("auto", "1") or trainer_settings["num_nodes"] > 1
    if several and (trainer_settings["accelerator"] == "cpu" or not torch.cuda.is_available()):
        raise UserError("trainer.sync_batchnorm needs GPUs: torch has no such layer for several processes on CPUs")
    return [SharedNorms()]


def record(trainer: Trainer) -> dict[str, int]:
    """What a checkpoint says of this."""
    return {"count": trainer.world_size, "batches": int(trainer.num_training_batches)}


def move(checkpoint: dict[str, Any], saved: dict[str, int] | None, trainer: Trainer, datamodule: DataModule) -> str:
    """Put a checkpoint's counters where as large a part of an epoch is done by another number of processes.

    Returns:
        What is not as it was, for people; nothing where the number is the same.
    """
    if saved is None or saved["count"] == trainer.world_size:
        return ""
    before, now = saved["batches"], datamodule.batches_per_epoch()
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    done = progress["current"]["ready"]
    for counters in (progress["total"], progress["current"]):
        rescale(counters, before, now)
    progress["is_last_batch"] = progress["current"]["ready"] >= now
    return (
        f"{trainer.world_size} process(es) go on with a run of {saved['count']}: epoch {checkpoint['epoch'] + 1}, "
        f"batch {progress['current']['ready']} of {now} instead of {done} of {before}. "
        f"It will not end in the same bits: a step sees {trainer.world_size * datamodule.batch_size} images instead of "
        f"{saved['count'] * datamodule.batch_size}, in another order, under the learning rate as set; "
        "what counts steps, as schedules do, goes on at its step, and epochs have another number of them"
    )


def rescale(counters: dict[str, int], before: int, now: int) -> None:
    """Change counters of batches, in place, from n an epoch to m: whole epochs stay whole, parts stay parts.

    >>> counters = {"ready": 25, "started": 25, "processed": 25, "completed": 24}
    >>> rescale(counters, 10, 20)
    >>> counters
    {'ready': 50, 'started': 50, 'processed': 50, 'completed': 49}
    """
    epochs, part = divmod(counters["ready"], before)
    moved = round(part * now / before)
    if part:  # some batches are done and some are not, if an epoch has as many
        moved = max(1, min(moved, now - 1))
    behind = {name: counters["ready"] - value for name, value in counters.items()}
    counters.update({name: epochs * now + moved - less for name, less in behind.items()})


def _groups(trainer: Trainer) -> list[dict[str, Any]]:  # Any: torch's
    return [group for optimizer in trainer.optimizers for group in optimizer.param_groups]


def meet_anew() -> None:
    """After a restart by torchrun, agree on a new port to meet at, and leave its store.

    torch 2.14 keeps one store for all restarts and does not tell their entries apart: a process that came first would
    read where the others were before, and get no connection.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(*place, is_master=False, wait_for_workers=False)
    key = f"lightning_cv/port/{attempt}"
    if os.environ["RANK"] == "0":
        with socket.socket() as free:
            free.bind(("", 0))
            store.set(key, str(free.getsockname()[1]))
    os.environ["MASTER_PORT"] = store.get(key).decode()  # waits for the first process
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
