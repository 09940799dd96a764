"""Semantic segmentation: a class for every pixel."""

from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from lightning_cv.contracts import VOID, SegmentationBatch, SegmentationNet, StepOutput
from lightning_cv.schedules import Schedule
from lightning_cv.tasks.base import Task


class SegModule(Task):
    """Cross-entropy over the pixels that are not void, averaged over all pixels of the batch.

    Differs from Long et al. 2015, who sum over the pixels and use a learning rate to match: the average makes the rate
    independent of the image size.

    Args:
        net: maps images (N, 3, H, W) to logits (N, K, H, W).
        optimizer, schedule, lr_scales: see `Task`.
    """

    task_name = "segmentation"
    net: SegmentationNet  # type: ignore[assignment]  # a Module that also fulfils the Protocol

    def __init__(
        self,
        net: SegmentationNet,
        optimizer: OptimizerCallable,
        schedule: Schedule | None = None,
        lr_scales: dict[str, float] | None = None,
    ) -> None:
        super().__init__(net, optimizer, schedule, lr_scales)  # type: ignore[arg-type]  # Protocols are not Modules
        self.keep_settings()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K, H, W) of images (N, 3, H, W)."""
        return self.net.forward(images)

    def training_step(self, batch: SegmentationBatch, batch_idx: int) -> dict[str, Tensor]:
        """The loss of a batch."""
        loss = void_cross_entropy(self.net.forward(batch["images"]), batch["masks"])
        self.log_terms("train", {"loss": loss}, len(batch["images"]))
        return {"loss": loss}

    def validation_step(self, batch: SegmentationBatch, batch_idx: int) -> StepOutput:
        """Predicted and true class masks (N, H, W)."""
        return self._eval_step(batch, "val")

    def test_step(self, batch: SegmentationBatch, batch_idx: int) -> StepOutput:
        """Predicted and true class masks (N, H, W)."""
        return self._eval_step(batch, "test")

    def predict_step(self, images: Tensor) -> Tensor:
        """Class masks int64 (N, H, W) of images (N, 3, H, W)."""
        return self.net.forward(images).argmax(dim=1)

    def _eval_step(self, batch: SegmentationBatch, stage: str) -> StepOutput:
        logits = self.net.forward(batch["images"])
        self.log_terms(stage, {"loss": void_cross_entropy(logits, batch["masks"])}, len(batch["images"]))
        return {"preds": logits.argmax(dim=1), "targets": batch["masks"], "image_ids": batch["image_ids"]}


def void_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean cross-entropy (nats) over the pixels that are not VOID; 0, with gradient, where all are.

    Args:
        logits: (N, K, H, W).
        masks: int64 (N, H, W).
    """
    total = F.cross_entropy(logits.float(), masks, ignore_index=VOID, reduction="sum")
    return total / (masks != VOID).sum().clamp(min=1)
