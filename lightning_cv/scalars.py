"""Scalars of single training steps."""

from lightning import LightningModule, Trainer
from torch import Tensor


def log_of_step(
    trainer: Trainer, module: LightningModule, name: str, value: Tensor, *, in_progress_bar: bool = False
) -> None:
    """Log a scalar of this training step, as `module.log` with `on_step` alone does.

    Where the same was logged before in this run, only the last part of Lightning's `log` is left, which stores the
    value: its checks look at every attribute of what is stored, a third of a millisecond a name. An epoch's first batch
    takes the long way, on which Lightning drops what the epoch before has left.
    """
    results, key = trainer._results, f"{module._current_fx_name}.{name}"
    if results is None or key not in results or trainer.fit_loop.epoch_loop.batch_progress.current.ready <= 1:
        module.log(name, value, prog_bar=in_progress_bar, on_step=True, on_epoch=False)
    else:
        results.update_metrics(key, value, batch_size=1)  # which only an epoch's mean weighs by
