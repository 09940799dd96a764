"""Checkpoints beside a run's last and best one: the newest few, or the best few. Older and worse ones are removed."""

from lightning.pytorch.callbacks import ModelCheckpoint


class KeepLast(ModelCheckpoint):
    """Keeps the checkpoints of the last epochs, `newest-step=N.ckpt`.

    Args:
        count: how many; each is as large as `last.ckpt`.
        every_n_epochs: epochs from one to the next.
        dirpath: where; None for the run's own checkpoints.
    """

    def __init__(self, count: int = 3, every_n_epochs: int = 1, dirpath: str | None = None) -> None:
        _refuse_none(count)
        super().__init__(
            dirpath,
            "newest-{step}",
            monitor="step",
            mode="max",
            save_top_k=count,
            every_n_epochs=every_n_epochs,
            save_on_train_epoch_end=True,
        )


class KeepBest(ModelCheckpoint):
    """Keeps the checkpoints of the best validations, `top-step=N.ckpt`; the experiment's `best.ckpt` is one of them.

    Args:
        monitor: figure that tells which are best, such as val/miou.
        mode: max where larger is better, else min.
        count: how many; each is as large as `last.ckpt`.
        dirpath: where; None for the run's own checkpoints.
    """

    def __init__(self, monitor: str, mode: str = "max", count: int = 3, dirpath: str | None = None) -> None:
        _refuse_none(count)
        super().__init__(
            dirpath, "top-{step}", monitor=monitor, mode=mode, save_top_k=count, save_on_train_epoch_end=False
        )


def _refuse_none(count: int) -> None:
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
