"""What every task shares: optimizer and schedule, settings that load safely, and the checks at the door."""

import inspect
import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from lightning_cv.contracts import LabelMap
from lightning_cv.scalars import log_of_step
from lightning_cv.schedules import Schedule
from lightning_cv.tasks.parameter_groups import parameter_groups, scale
from lightning_cv.tasks.unmarked import Unmarked

CHECKPOINT_KEY = "lightning_cv"
"""Where a checkpoint keeps what it needs to be used without its run: task, classes, configuration."""


class Task(LightningModule):
    """The training story of one kind of problem. It never names a net.

    Args:
        net: what is trained.
        optimizer: builds the optimizer from parameter groups. It has no default: a leaked default is a silent setting.
        schedule: factor on the learning rate by progress; None leaves it as the optimizer states it.
        lr_scales: factor on the learning rate of parameters whose name starts with the key, such as
            `{"net.backbone": 0.3}`; of several such keys the longest counts. A key with a star is a pattern for the
            whole name, whose factor comes on top: `{"*.bias": 2.0}`. A key that names no parameter is an error.
        decay_scales: likewise on the optimizer's weight decay: `{"*.bias": 0.0}`.
    """

    task_name: ClassVar[str]
    """Folder of this task's runs and the name its checkpoints carry."""

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable,
        schedule: Schedule | None = None,
        lr_scales: dict[str, float] | None = None,
        decay_scales: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.optimizer, self.schedule = optimizer, schedule
        self.lr_scales, self.decay_scales = lr_scales or {}, decay_scales or {}
        self.label_map: LabelMap | None = None
        self.latest_terms: dict[str, Tensor] = {}

    def __setattr__(self, name: str, value: Any) -> None:  # Any: as of every module
        """Set an attribute. Lightning sets this one 40 times a step; a module's own look at it costs 2 us each time."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def keep_settings(self) -> None:
        """Store the caller's constructor arguments that are plain values, so that any checkpoint loads safely.

        Nets and callables are left out: stored, they would make `torch.load(weights_only=True)` refuse the file.
        """
        frame = inspect.currentframe()
        assert frame is not None
        with warnings.catch_warnings():  # Lightning advises to ignore modules, which are left out below
            warnings.simplefilter("ignore")
            self.save_hyperparameters(frame=frame.f_back, logger=False)
        for name in [name for name, value in self.hparams.items() if not _is_plain(value)]:
            del self.hparams[name]

    def setup(self, stage: str) -> None:
        """Compare the net with the data, lay the net's weights out for convolutions, drop marks for no profiler."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is not None:
            self.label_map = datamodule.label_map
            self.check_classes(datamodule.label_map)
        self.net.to(memory_format=torch.channels_last)
        trainer: Any = self.trainer  # its profiler is not declared: a connector sets it
        if type(trainer.profiler) is PassThroughProfiler:
            trainer.profiler = Unmarked()

    def check_classes(self, label_map: LabelMap) -> None:
        """Raise where the net and the data disagree on the number of classes."""
        expected = getattr(self.net, "num_classes", None)
        if expected is not None and expected != label_map.num_classes:
            names = ", ".join(label_map.names[:3])
            raise ValueError(
                f"model.net.num_classes is {expected}, but the data has {label_map.num_classes} classes ({names}, ...)"
            )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimizer, one parameter group a learning rate, and the schedule over the steps of the whole run."""
        optimizer = self.optimizer(self._parameter_groups())
        scale(optimizer)
        if self.schedule is None:
            return optimizer
        schedule, total = self.schedule, self._planned_steps()
        scheduler = LambdaLR(optimizer, lambda step: schedule(step / total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _planned_steps(self) -> int:
        """Optimizer steps of the whole run."""
        trainer = self.trainer
        batches_per_epoch = getattr(getattr(trainer, "datamodule", None), "batches_per_epoch", None)
        if batches_per_epoch is None:
            return max(1, int(trainer.estimated_stepping_batches))
        if trainer.max_epochs is None or trainer.max_epochs < 0:
            if trainer.max_steps < 0:
                raise ValueError("a schedule needs an end: set trainer.max_epochs or trainer.max_steps")
            return max(1, trainer.max_steps)
        steps: int = trainer.max_epochs * math.ceil(batches_per_epoch() / trainer.accumulate_grad_batches)
        return max(1, min(steps, trainer.max_steps) if trainer.max_steps >= 0 else steps)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        return parameter_groups(self.named_parameters(), self.lr_scales, self.decay_scales)

    def log_terms(self, stage: str, terms: Mapping[str, Tensor], batch_size: int) -> None:
        """Log scalars as `stage/name`: in training at the logging interval, otherwise averaged over the epoch.

        The progress bar shows "loss". Training steps in between only leave their `latest_terms`: to log is a tenth of a
        small net's step.
        """
        values = {name: value.detach() for name, value in terms.items()}
        if stage != "train":
            self.log_dict(
                {f"{stage}/{name}": value for name, value in values.items()},
                batch_size=batch_size,
                sync_dist=True,
                on_step=False,
                on_epoch=True,
            )
            return
        self.latest_terms = values
        if self._step_is_logged():
            for name, value in values.items():
                log_of_step(self.trainer, self, f"train/{name}", value, in_progress_bar=name == "loss")

    def _step_is_logged(self) -> bool:
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # its logger connector sets it
        step = self.global_step + 1
        return (every > 0 and step % every == 0) or self.trainer.is_last_batch or step == self.trainer.max_steps

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the task's name and the class names, so that a checkpoint can be used without its data."""
        record = checkpoint.setdefault(CHECKPOINT_KEY, {})
        record["task"] = self.task_name
        record["label_map"] = self.label_map._asdict() if self.label_map else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another task or another net, in one line rather than a list of tensors."""
        record = checkpoint.get(CHECKPOINT_KEY, {})
        if record.get("task", self.task_name) != self.task_name:
            raise ValueError(f"the checkpoint is of task {record['task']!r}, this is {self.task_name!r}")
        ours, theirs = self.state_dict(), checkpoint["state_dict"]
        wrong = sorted(
            name
            for name in ours.keys() | theirs.keys()
            if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape
        )
        if wrong:
            raise ValueError(
                f"the checkpoint holds another net: {len(wrong)} of {len(ours)} tensors differ, first {wrong[0]!r}"
            )
        if kept := record.get("label_map"):
            stored = LabelMap(tuple(kept["names"]), kept["first"], tuple(kept["dataset_ids"]))
            if self.label_map is not None and self.label_map != stored:
                raise ValueError(
                    f"the checkpoint's classes are {_some(stored.names)} (ids {_some(stored.dataset_ids)}), the data's "
                    f"{_some(self.label_map.names)} (ids {_some(self.label_map.dataset_ids)})"
                )
            self.label_map = stored


def _some(values: Iterable[Any]) -> str:  # Any: names or numbers
    """The first few, for a message."""
    words = [str(value) for value in values]
    return ", ".join(words[:4]) + (", ..." if len(words) > 4 else "")


def _is_plain(value: Any) -> bool:  # Any: whatever a constructor was given
    if isinstance(value, Mapping):
        return all(_is_plain(item) for item in value.values())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return isinstance(value, list | tuple) and all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
