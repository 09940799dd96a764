"""Stops a run at the first loss that is not a number, before it reaches the weights."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_cv.errors import UserError


class NanGuard(Callback):
    """Looks at the loss between forward and backward and ends training where it is infinite or not a number.

    The weights are still those of the last good step, and no file is touched. The message names the terms, the step
    and the images.

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
        if trainer.global_step % self.every_n_steps or loss.isfinite().all():
            return
        terms = {
            name.removeprefix("train/"): value.item()
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/") and not value.isfinite().all()
        } or {"loss": float(loss.detach().float().mean())}
        listed = ", ".join(f"{name} is {value}" for name, value in terms.items())
        raise UserError(f"training stopped: {listed} in step {trainer.global_step}, images {_ids(self._batch)}")


def _ids(batch: Any) -> str:  # Any: the batch type is the task's
    if not isinstance(batch, dict):
        return "unknown"
    ids = batch.get("image_ids") or [target["image_id"] for target in batch.get("targets", [])]
    return ", ".join(map(str, ids[:16])) + (f" and {len(ids) - 16} more" if len(ids) > 16 else "") or "unknown"
