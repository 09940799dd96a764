"""Semantic segmentation: a class for every pixel."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lightning_cv.contracts import LabelMap, SegmentationBatch, SegmentationNet, StepOutput
from lightning_cv.ops.dense_inference import DenseInference
from lightning_cv.ops.segmentation_losses import CrossEntropyLoss, SegmentationLoss, predict_masks
from lightning_cv.schedules import Schedule
from lightning_cv.tasks.base import Task


@runtime_checkable
class Auxiliary(Protocol):
    """A head on an inner layer of a net, which helps to train it; `weight` is a factor on its loss."""

    weight: float

    def layer_of(self, net: SegmentationNet, /) -> nn.Module:
        """The layer of a net that it looks at; ValueError where there is none."""
        ...

    def forward(self, net: SegmentationNet, images: Tensor, /) -> tuple[Tensor, Tensor]:
        """The net's logits and its own, both (N, K, H, W), of images (N, 3, H, W)."""
        ...


class SegModule(Task):
    """Trains a net that gives every pixel a class, by default on the cross-entropy of the pixels that are not void.

    Differs from Long et al. 2015, who sum over the pixels and use a learning rate to match: the average over the batch
    makes the rate independent of the image size.

    Args:
        net: maps images (N, 3, H, W) to logits (N, K, H, W), one for each class; a single one for two classes is the
            logit of the second.
        optimizer, schedule, lr_scales, decay_scales: see `Task`.
        loss: of logits, float32, and masks; None is `CrossEntropyLoss()`. See `ops.segmentation_losses`; a loss of
            another library has to be told that 255 is void.
        inference: how validation, tests and predictions look at images, such as `Averaged` over sizes and mirrored
            images or in `Tiles`, see `ops.dense_inference`, or by windows, see `ops.window_inference`; None is once.
            It may differ from training to test.
        auxiliary: a head on an inner layer whose loss, times its weight, is added in training, such as
            `models.segmentation.AuxiliaryHead`; None is none. Evaluation, predictions and exports go without. Its
            parameters are called `auxiliary.*` in `lr_scales`.

    Raises:
        ValueError: the net has no forward, or not the layer that the auxiliary head looks at.
    """

    task_name = "segmentation"
    net: SegmentationNet  # type: ignore[assignment]  # a Module that also fulfils the Protocol
    loss: SegmentationLoss
    auxiliary: Auxiliary | None

    def __init__(
        self,
        net: SegmentationNet,
        optimizer: OptimizerCallable,
        schedule: Schedule | None = None,
        lr_scales: dict[str, float] | None = None,
        decay_scales: dict[str, float] | None = None,
        loss: SegmentationLoss | None = None,
        inference: DenseInference | None = None,
        auxiliary: Auxiliary | None = None,
    ) -> None:
        if type(net).forward is nn.Module.forward:
            raise ValueError(f"model.net: {type(net).__name__} is no SegmentationNet (contracts.py): it has no forward")
        super().__init__(net, optimizer, schedule, lr_scales, decay_scales)  # type: ignore[arg-type]  # no Module
        self.loss = CrossEntropyLoss() if loss is None else loss
        self.inference = inference
        if auxiliary is not None:
            auxiliary.layer_of(net)  # or raise
        self.auxiliary = auxiliary
        self.keep_settings()

    def check_classes(self, label_map: LabelMap) -> None:
        """Raise where the net and the data disagree on the number of classes; one logit serves two."""
        if not (getattr(self.net, "num_classes", None) == 1 and label_map.num_classes == 2):
            super().check_classes(label_map)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K, H, W) of images (N, 3, H, W)."""
        return self.net.forward(images)

    def training_step(self, batch: SegmentationBatch, batch_idx: int) -> dict[str, Tensor]:
        """The loss of a batch; with an auxiliary head also the two terms, weighted, of which it is the sum."""
        terms = self._training_terms(batch)
        self.log_terms("train", terms, len(batch["images"]))
        return terms

    def validation_step(self, batch: SegmentationBatch, batch_idx: int) -> StepOutput:
        """Predicted and true class masks (N, H, W)."""
        return self._eval_step(batch, "val")

    def test_step(self, batch: SegmentationBatch, batch_idx: int) -> StepOutput:
        """Predicted and true class masks (N, H, W)."""
        return self._eval_step(batch, "test")

    def predict_step(self, images: Tensor) -> Tensor:
        """Class masks int64 (N, H, W) of images (N, 3, H, W)."""
        return self.predictions(self.logits_of(images))

    def predictions(self, logits: Tensor) -> Tensor:
        """Class masks int64 (N, H, W) of logits (N, K, H, W)."""
        return predict_masks(logits)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities float32 (N, K, H, W) of logits (N, K, H, W): of one class a pixel, or of one logit's class."""
        return logits.float().sigmoid() if logits.shape[1] == 1 else logits.float().softmax(dim=1)

    def logits_of(self, images: Tensor, image_ids: Sequence[str] = ()) -> Tensor:
        """Logits (N, K, H, W) of images (N, 3, H, W), by way of probabilities where `inference` averages these."""
        if self.inference is None:
            return self.net.forward(images)
        if self.inference.of_logits:
            return self.inference(self.net.forward, images, image_ids)
        mean = self.inference(lambda looked_at: self.probabilities(self.net.forward(looked_at)), images, image_ids)
        return self.from_probabilities(mean)

    def from_probabilities(self, mean: Tensor) -> Tensor:
        """Logits of which `probabilities` makes these again."""
        return mean.logit(1e-6) if mean.shape[1] == 1 else mean.clamp(min=1e-6).log()

    def check_masks(self, masks: Tensor) -> None:
        """Raise where a batch does not hold class masks (N, H, W)."""
        if masks.ndim != 3:  # the losses know labels; predictions, metrics and pictures are of one class a pixel
            raise ValueError(
                f"SegModule needs class masks (N, H, W), got {tuple(masks.shape)}: label planes are for "
                "MultilabelSegModule"
            )

    def _training_terms(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        if self.auxiliary is None:
            return {"loss": self._loss(self.net.forward(batch["images"]), batch["masks"])}
        logits, auxiliary_logits = self.auxiliary.forward(self.net, batch["images"])
        main = self._loss(logits, batch["masks"])
        auxiliary = self.auxiliary.weight * self._loss(auxiliary_logits, batch["masks"])
        return {"loss": main + auxiliary, "loss_main": main, "loss_auxiliary": auxiliary}

    def _eval_step(self, batch: SegmentationBatch, stage: str) -> StepOutput:
        logits = self.logits_of(batch["images"], batch["image_ids"])
        self.log_terms(stage, {"loss": self._loss(logits, batch["masks"])}, len(batch["images"]))
        return {"preds": self.predictions(logits), "targets": batch["masks"], "image_ids": batch["image_ids"]}

    def check_logits(self, logits: Tensor) -> None:
        """Raise where a net that does not say how many classes it has gives other logits than the data needs."""
        found, wanted = logits.shape[1], self.label_map and self.label_map.num_classes
        if wanted is not None and found != wanted and (found, wanted) != (1, 2):
            raise ValueError(f"model.net gives {found} logits a pixel, but the data has {wanted} classes")

    def _loss(self, logits: Tensor, masks: Tensor) -> Tensor:
        self.check_masks(masks)
        self.check_logits(logits)
        with torch.autocast(logits.device.type, enabled=False):  # other libraries' losses do not see to it
            return self.loss.forward(logits.float(), masks)


class MultilabelSegModule(SegModule):
    """Trains a net that says of every pixel and every label whether it is there: labels overlap, a pixel may have none.

    By default on the binary cross-entropy of each label's pixels that are not void. Arguments as for `SegModule`; the
    net has one logit a label and none for a background, the batches hold label planes (N, K, H, W).
    """

    task_name = "multilabel_segmentation"

    def predictions(self, logits: Tensor) -> Tensor:
        """Probability of each label, float32 (N, K, H, W), of logits (N, K, H, W)."""
        return self.probabilities(logits)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probability of each label, float32 (N, K, H, W), of logits (N, K, H, W)."""
        return logits.float().sigmoid()

    def from_probabilities(self, mean: Tensor) -> Tensor:
        """Logits of these probabilities."""
        return mean.logit(1e-6)

    def predict_step(self, images: Tensor) -> Tensor:
        """Probability of each label, float32 (N, K, H, W), of images (N, 3, H, W)."""
        return super().predict_step(images)

    def check_masks(self, masks: Tensor) -> None:
        """Raise where a batch does not hold label planes (N, K, H, W)."""
        if masks.ndim != 4:
            raise ValueError(
                f"MultilabelSegModule needs label planes (N, K, H, W), got {tuple(masks.shape)}: class masks are for "
                "SegModule"
            )

    def check_classes(self, label_map: LabelMap) -> None:
        """Raise where the net and the data disagree on the number of labels, or `inference` is for other classes."""
        Task.check_classes(self, label_map)
        if self.inference is not None and self.inference.exclusive:
            raise ValueError(f"model.inference: {type(self.inference).__name__} is for classes that exclude each other")
