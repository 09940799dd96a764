"""Panoptic segmentation: every pixel belongs to a thing, to stuff, or to nothing."""

from typing import Any

from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lightning_cv.contracts import (
    Detections,
    FoundSegments,
    LabelMap,
    Merge,
    PanopticBatch,
    PanopticNet,
    PanopticParts,
    StepOutput,
)
from lightning_cv.ops.panoptic import PanopticMerge, instances_of
from lightning_cv.schedules import Schedule
from lightning_cv.tasks.base import CHECKPOINT_KEY, Task


class PanopticModule(Task):
    """Minimises the sum of the net's loss terms; one pass of validation gives segments and instances.

    Args:
        net: a `PanopticNet`. It is told by the data which classes are things.
        optimizer, schedule, lr_scales, decay_scales: see `Task`.
        inference: how validation, tests and predictions share the pixels out among what the net proposes, with which
            thresholds, see `ops.panoptic`; None is the net's own way. It may differ from training to test.
    """

    task_name = "panoptic"
    net: PanopticNet  # type: ignore[assignment]  # a Module that also fulfils the Protocol

    def __init__(
        self,
        net: PanopticNet,
        optimizer: OptimizerCallable,
        schedule: Schedule | None = None,
        lr_scales: dict[str, float] | None = None,
        decay_scales: dict[str, float] | None = None,
        inference: PanopticMerge | None = None,
    ) -> None:
        super().__init__(net, optimizer, schedule, lr_scales, decay_scales)  # type: ignore[arg-type]  # no Module
        self.inference = inference
        self.is_thing: tuple[bool, ...] | None = None
        self.keep_settings()

    def check_classes(self, label_map: LabelMap) -> None:
        """Tell the net which classes are things, where it counts both kinds; then as `Task.check_classes`."""
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # a connector sets it
        is_thing = getattr(datamodule, "is_thing", None)
        if is_thing is None:
            raise ValueError(
                "PanopticModule needs data that tell things and stuff apart, as CocoPanopticDataModule's do, "
                f"not those of {type(datamodule).__name__}"
            )
        self._tell(is_thing)
        super().check_classes(label_map)

    def training_step(self, batch: PanopticBatch, batch_idx: int) -> dict[str, Tensor]:
        """The loss of a batch, and its terms under their names."""
        terms = self._terms(batch)
        self.log_terms("train", terms, len(batch["images"]))
        return terms

    def validation_step(self, batch: PanopticBatch, batch_idx: int) -> StepOutput:
        """Segments, instances and targets, one entry an image."""
        return self._eval_step(batch, "val")

    def test_step(self, batch: PanopticBatch, batch_idx: int) -> StepOutput:
        """Segments, instances and targets, one entry an image."""
        return self._eval_step(batch, "test")

    def predict_step(self, images: Tensor) -> list[tuple[FoundSegments, Detections]]:
        """Segments and instances of each image of (N, 3, H, W), in its pixels."""
        return [(self.merge(parts), instances_of(parts)) for parts in self.net.parts(images)]

    @property
    def merge(self) -> Merge:
        """How pixels are shared out outside of training."""
        return self.net.merge if self.inference is None else self.inference

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add which classes are things."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY]["is_thing"] = None if self.is_thing is None else list(self.is_thing)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As `Task.on_load_checkpoint`; data that take other classes for things are refused."""
        super().on_load_checkpoint(checkpoint)
        kept = checkpoint.get(CHECKPOINT_KEY, {}).get("is_thing")
        if kept is None:
            return
        if self.is_thing is not None and list(self.is_thing) != list(kept):
            names = self.label_map.names if self.label_map else tuple(map(str, range(len(kept))))
            other = next(name for name, old, new in zip(names, kept, self.is_thing, strict=True) if old != new)
            raise ValueError(f"the checkpoint and the data disagree whether the class {other!r} is a thing or stuff")
        self._tell(kept)

    def _tell(self, is_thing: tuple[bool, ...]) -> None:
        self.is_thing = tuple(bool(mark) for mark in is_thing)
        self.net.tell_classes(self.is_thing)

    def _terms(self, batch: PanopticBatch) -> dict[str, Tensor]:
        losses = self.net.losses(batch["images"], batch["targets"])
        return {"loss": sum(losses.values(), start=batch["images"].new_zeros(()))} | {
            f"loss_{name}": value for name, value in losses.items()
        }

    def _eval_step(self, batch: PanopticBatch, stage: str) -> StepOutput:
        self.log_terms(stage, self._terms(batch), len(batch["images"]))
        parts: list[PanopticParts] = self.net.parts(batch["images"])
        return {
            "preds": [self.merge(one) for one in parts],
            "targets": batch["targets"],
            "image_ids": [target["image_id"] for target in batch["targets"]],
            "instances": [instances_of(one) for one in parts],
        }
