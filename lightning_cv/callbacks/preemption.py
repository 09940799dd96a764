"""Runs that are asked to stop save where they are and end, on all processes together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from lightning_cv import interrupts

LoopState = dict[str, Any]  # Any: Lightning's own counters, nested


class Preemption(Callback):
    """Ends a fit by `interrupts.Interrupted` once any of its processes was asked to stop, after `checkpoint` is saved.

    A signal leaves a note only. After every few training batches, and in validations, the processes ask each other
    whether one has got a note; they then save at a place from which the run goes on as if it had not been stopped:
    between two batches, between two epochs, or ahead of a validation, which is then made anew. Figures logged so far
    are written before the end. A run that has made its last step finishes as usual.

    Differs from Lightning's own handling, which this replaces: its handlers talk to other processes from within the
    signal and hang where two of them are signalled at once; under SLURM it saves from within the handler.
    Has to come after all other callbacks, so that what they keep of the same batch is in the checkpoint.

    Args:
        checkpoint: the file to save to.
        before_end: called in the first process when all is saved, with whether a step was made since the start;
            returns what to tell the user.
        every_n_steps: training batches between two questions; each reduces one number, as Lightning does every step.
    """

    def __init__(self, checkpoint: Path, before_end: Callable[[Trainer, bool], str], every_n_steps: int = 1) -> None:
        if every_n_steps < 1:
            raise ValueError(f"Preemption: every_n_steps must be at least 1, got {every_n_steps}")
        self.checkpoint, self.before_end, self.every_n_steps = checkpoint, before_end, every_n_steps
        self._asked = False
        self._place: LoopState | None = None  # where the checkpoint shall say that the run is
        self._first_step = 0
        self._shared_batches: list[float] = []  # of each validation loader, those that every process has

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take over from Lightning's handlers; end at once where the note is there already."""
        if stage != "fit":
            return
        trainer._signal_connector.register_signal_handlers = interrupts.listen  # type: ignore[method-assign]  # no public way
        self._end_unbegun(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End where the note came while data and net were made ready: there is nothing new to save."""
        self._first_step = trainer.global_step
        self._end_unbegun(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save and end, if the last epoch's end was found to be the place."""
        if self._place is not None:
            self._end(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save and end, if the last batch's end was found to be the place; its figures are logged by now."""
        if self._place is not None:
            self._end(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # what the step returned
        batch: Any,  # of the kind of problem
        batch_idx: int,
    ) -> None:
        """Ask, and remember the place."""
        if (batch_idx + 1) % self.every_n_steps == 0 and self._is_asked(trainer):
            self._place = trainer.fit_loop.state_dict()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask, and remember the place."""
        if self._is_asked(trainer):
            self._place = trainer.fit_loop.state_dict()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask ahead of a validation, and how many of its batches all processes have."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._shared_batches = [-most for most in _largest(trainer, [-count for count in trainer.num_val_batches])]
        if self._is_asked(trainer):
            self._place = ahead_of_validation(trainer.fit_loop.state_dict())
            self._end(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # what the step returned
        batch: Any,  # of the kind of problem
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ask within a validation, which is given up: no weight has changed since it began."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or batch_idx >= self._shared_batches[dataloader_idx]:
            return
        if (batch_idx + 1) % self.every_n_steps == 0 and self._is_asked(trainer):
            for callback in trainer.callbacks:  # type: ignore[attr-defined]  # by Lightning's connector
                if isinstance(callback, WeightAveraging):  # validates the average, saves expecting the weights
                    callback.on_validation_epoch_end(trainer, pl_module)
            self._place = ahead_of_validation(trainer.fit_loop.state_dict())
            self._end(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say where the run is, instead of where the hook is that saves."""
        if self._place is not None:
            checkpoint["loops"]["fit_loop"] = self._place
            checkpoint["epoch"] = self._place["epoch_progress"]["current"]["completed"]

    def _is_asked(self, trainer: Trainer) -> bool:
        """Whether any process was asked to stop; every process gets the same answer at the same time."""
        if not self._asked:
            self._asked = _largest(trainer, [float(interrupts.received() is not None)]) != [0.0]
        return self._asked

    def _end_unbegun(self, trainer: Trainer) -> None:
        if self._is_asked(trainer):
            self._finish(trainer, "no step was made, nothing is saved")

    def _end(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.checkpoint, weights_only=False)
        place = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
        self._finish(trainer, f"{self.checkpoint} is saved, {place}")

    def _finish(self, trainer: Trainer, what: str) -> None:
        words = ""
        if trainer.is_global_zero:
            signal = interrupts.received()
            by = f"by {signal.name}" if signal else "by another process"
            words = "; ".join((f"interrupted {by}: {what}", self.before_end(trainer, self._made_steps(trainer))))
        trainer.strategy.barrier("Preemption")  # the first process has yet to say what the others' ending might cut off
        raise interrupts.Interrupted(words)

    def _made_steps(self, trainer: Trainer) -> bool:
        return trainer.global_step > self._first_step


def _largest(trainer: Trainer, values: list[float]) -> list[float]:
    """The largest of each value over all processes."""
    if trainer.world_size == 1:
        return values
    largest = torch.tensor(values, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
    return largest.tolist()


def ahead_of_validation(loops: LoopState) -> LoopState:
    """The same place in training, in the first batch of a validation: one that Lightning begins again when it resumes.

    It would go on behind the batches that were made, but the metrics of those are in no checkpoint.
    """
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    progress = {"total": begun, "current": dict(begun), "is_last_batch": False}
    return loops | {"epoch_loop.val_loop.batch_progress": progress}
