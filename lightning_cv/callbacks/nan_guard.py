"""Stops a run at the first loss that is not a number, before it reaches the weights."""

import json
import math
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_cv.errors import UserError


class NanGuard(Callback):
    """Looks at the loss between forward and backward and ends training where it is infinite or not a number.

    The weights are still those of the last good step, and no checkpoint is touched. The message names the terms, the
    step and the images; `not_a_number.json` in the run's folder keeps them, with the ids of all images of the batch.

    Args:
        every_n_steps: on an accelerator each look waits for it; a larger number looks less often.
    """

    def __init__(self, every_n_steps: int = 1) -> None:
        if every_n_steps < 1:
            raise ValueError(f"NanGuard: every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self._batch: Any = None  # of the kind of problem

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember whose loss it is."""
        self._batch = batch

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Raise where the loss is not finite."""
        if trainer.global_step % self.every_n_steps:
            return
        bad = not math.isfinite(loss.item())
        if trainer.world_size > 1:  # a process that went on alone would wait for the others' gradients
            stopped = trainer.strategy.reduce_boolean_decision(bad, all=False)
            if stopped and not bad:
                raise UserError(
                    f"training stopped: the loss of another process is no number in step {trainer.global_step}"
                )
        if not bad:
            return
        logged = {
            name.removeprefix("train/"): value
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/")
        }
        known = getattr(pl_module, "latest_terms", None) or logged  # a task of ours does not log every step
        terms = {name: value.item() for name, value in known.items() if not value.isfinite().all()}
        terms = terms or {"loss": float(loss.detach().float().mean())}
        listed = ", ".join(f"{name} is {value}" for name, value in terms.items())
        ids = _ids(self._batch)
        self._keep(trainer, terms, ids)
        raise UserError(f"training stopped: {listed} in step {trainer.global_step}, images {_some(ids)}")

    def _keep(self, trainer: Trainer, terms: dict[str, float], ids: list[str]) -> None:
        rank = f"-rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        record = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "terms": {name: str(value) for name, value in terms.items()},  # JSON knows no NaN
            "image_ids": ids,
        }
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"not_a_number{rank}.json").write_text(json.dumps(record, indent=1) + "\n")


def _ids(batch: Any) -> list[str]:  # Any: the batch type is the task's
    if not isinstance(batch, dict):
        return []
    ids = batch.get("image_ids") or [target["image_id"] for target in batch.get("targets", [])]
    return [str(image_id) for image_id in ids]


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:16]) + (f" and {len(ids) - 16} more" if len(ids) > 16 else "") or "unknown"
