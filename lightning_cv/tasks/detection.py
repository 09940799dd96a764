"""What detection tasks share: any net with the two verbs `losses` and `detect`."""

from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lightning_cv.contracts import DetectionBatch, Detections, Detector, ProposalDetector, StepOutput
from lightning_cv.ops.box_inference import BoxInference
from lightning_cv.schedules import Schedule
from lightning_cv.tasks.base import Task


class DetectionTask(Task):
    """Minimises the sum of the net's loss terms; validation gives losses and detections in one pass.

    Args:
        net: a `Detector`.
        optimizer, schedule, lr_scales, decay_scales: see `Task`.
        inference: how validation, tests and predictions look at images, such as `Fused` over sizes and mirror images,
            see `ops.box_inference`; None is once. It may differ from training to test. Not for nets that find masks,
            nor for a `ProposalDetector`, whose proposals are of the image as it comes.
    """

    task_name = "detection"
    finds_masks = False
    """Whether detections have masks."""
    net: Detector  # type: ignore[assignment]  # a Module that also fulfils the Protocol

    def __init__(
        self,
        net: Detector,
        optimizer: OptimizerCallable,
        schedule: Schedule | None = None,
        lr_scales: dict[str, float] | None = None,
        decay_scales: dict[str, float] | None = None,
        inference: BoxInference | None = None,
    ) -> None:
        super().__init__(net, optimizer, schedule, lr_scales, decay_scales)  # type: ignore[arg-type]  # no Module
        if inference is not None and (self.finds_masks or isinstance(net, ProposalDetector)):
            why = (
                "masks cannot be brought together" if self.finds_masks else "its proposals are of one size of an image"
            )
            raise ValueError(f"{type(self).__name__}: no inference with {type(net).__name__}: {why}; leave it out")
        self.inference = inference
        self.keep_settings()

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> dict[str, Tensor]:
        """The loss of a batch, and its terms under their names."""
        terms = self._terms(batch)
        self.log_terms("train", terms, len(batch["images"]))
        return terms

    def validation_step(self, batch: DetectionBatch, batch_idx: int) -> StepOutput:
        """Detections and targets, one entry an image."""
        return self._eval_step(batch, "val")

    def test_step(self, batch: DetectionBatch, batch_idx: int) -> StepOutput:
        """Detections and targets, one entry an image."""
        return self._eval_step(batch, "test")

    def predict_step(self, images: Tensor) -> list[Detections]:
        """One entry an image of (N, 3, H, W), boxes in pixels of it."""
        return self.net.detect(images) if self.inference is None else self.inference(self.net.detect, images)

    def detections(self, batch: DetectionBatch) -> list[Detections]:
        """What the net finds in a batch, one entry an image, boxes in pixels of the images."""
        return self.predict_step(batch["images"])

    def _terms(self, batch: DetectionBatch) -> dict[str, Tensor]:
        losses = self.net.losses(batch["images"], batch["targets"])
        return {"loss": sum(losses.values(), start=batch["images"].new_zeros(()))} | {
            f"loss_{name}": value for name, value in losses.items()
        }

    def _eval_step(self, batch: DetectionBatch, stage: str) -> StepOutput:
        self.log_terms(stage, self._terms(batch), len(batch["images"]))
        image_ids = [target["image_id"] for target in batch["targets"]]
        return {"preds": self.detections(batch), "targets": batch["targets"], "image_ids": image_ids}
