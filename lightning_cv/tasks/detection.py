"""What detection tasks share: any net with the two verbs `losses` and `detect`."""

import sys
from dataclasses import dataclass, field

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lightning_cv.contracts import DetectionBatch, Detections, Detector, ProposalDetector, StepOutput
from lightning_cv.errors import is_out_of_memory
from lightning_cv.metrics.records import gathered, on_first_process
from lightning_cv.ops.box_inference import BoxInference
from lightning_cv.schedules import Schedule
from lightning_cv.tasks.base import Task


@dataclass
class _Evaluation:
    """What one process has seen of a validation or test."""

    sums: dict[str, Tensor | float] = field(default_factory=dict)  # of each loss term over images
    images: int = 0  # that have losses
    failed: int = 0  # for which memory ran out


class DetectionTask(Task):
    """Minimises the sum of the net's loss terms; validation and test ask for losses and detections, each a pass.

    Where memory runs out there, the images of the batch are looked at one by one, without losses. One that does not fit
    even so is named on standard error and counts as an image in which nothing was found; their number is logged as
    `err_images_out_of_memory`.

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
        self._evaluation = _Evaluation()
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
        if not losses:  # of a net that is trained elsewhere, such as R-CNN
            return {}
        return {"loss": sum(losses.values(), start=batch["images"].new_zeros(()))} | {
            f"loss_{name}": value for name, value in losses.items()
        }

    def on_validation_epoch_start(self) -> None:
        """Begin anew."""
        self._evaluation = _Evaluation()

    def on_test_epoch_start(self) -> None:
        """Begin anew."""
        self._evaluation = _Evaluation()

    def on_validation_epoch_end(self) -> None:
        """Log mean losses."""
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Log mean losses."""
        self._log_evaluation("test")

    def _eval_step(self, batch: DetectionBatch, stage: str) -> StepOutput:
        found: list[Detections] | None = None
        try:
            terms, found = self._terms(batch), self.detections(batch)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        if found is None:  # no more in the handler, whose error holds what filled the memory
            found = self._one_by_one(batch)
        else:
            self._count(terms, len(batch["images"]))
        image_ids = [target["image_id"] for target in batch["targets"]]
        return {"preds": found, "targets": batch["targets"], "image_ids": image_ids}

    def _one_by_one(self, batch: DetectionBatch) -> list[Detections]:
        found = []
        for row, target in enumerate(batch["targets"]):
            image = batch["images"][row : row + 1]  # (1, 3, H, W)
            one = self._found_alone({"images": image, "targets": [target]})
            if one is None:
                print(f"image {target['image_id']}: out of memory, nothing is detected in it", file=sys.stderr)
                self._evaluation.failed += 1
            found.append(self._nothing(image) if one is None else one)
        return found

    def _found_alone(self, batch: DetectionBatch) -> Detections | None:
        """The detections of a batch of one image; None where memory runs out."""
        if batch["images"].device.type == "cuda":
            torch.cuda.empty_cache()  # pieces of other sizes
        try:
            return self.detections(batch)[0]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _nothing(self, image: Tensor) -> Detections:
        """No detections in an image (1, 3, H, W)."""
        labels = torch.zeros(0, dtype=torch.int64, device=image.device)
        none: Detections = {"boxes": labels.new_zeros(0, 4).float(), "scores": labels.float(), "labels": labels}
        if self.finds_masks:
            none["masks"] = labels.new_zeros(0, *image.shape[-2:], dtype=torch.bool)
        return none

    def _count(self, terms: dict[str, Tensor], images: int) -> None:
        seen = self._evaluation
        for name, value in terms.items():
            seen.sums[name] = seen.sums.get(name, 0.0) + value.detach().float() * images
        seen.images += images

    def _log_evaluation(self, stage: str) -> None:
        """Log the means over the images of all processes, one of which may have had no memory for any of its own."""
        own = self._evaluation
        parts = gathered((own.images, own.failed, {name: float(total) for name, total in own.sums.items()}))
        for name, value in on_first_process(lambda: _means(parts)).items():
            self.log(f"{stage}/{name}", value, sync_dist=True)  # equal everywhere; the mean leaves it so


def _means(parts: list[tuple[int, int, dict[str, float]]]) -> dict[str, float]:
    """Mean losses, and the number of images for which memory ran out, of each process's images, failures and sums."""
    images, failed = sum(part[0] for part in parts), sum(part[1] for part in parts)
    names = dict.fromkeys(name for *_, sums in parts for name in sums)
    means = {name: sum(sums.get(name, 0.0) for *_, sums in parts) / images for name in names}
    return means | ({"err_images_out_of_memory": float(failed)} if failed else {})
