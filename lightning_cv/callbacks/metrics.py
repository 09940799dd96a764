"""Metrics of whole evaluation runs: updated in the batch hook, computed once at the epoch's end, as `val/miou`."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

import torch
from lightning import Callback, LightningModule, Trainer
from torchmetrics import Metric

from lightning_cv.contracts import LabelMap, StepOutput
from lightning_cv.metrics.coco import coco_mean_average_precision
from lightning_cv.metrics.detection import VOCMeanAP
from lightning_cv.metrics.likelihood import LikelihoodMeans
from lightning_cv.metrics.segmentation import SegmentationIoU, iou_per_class, pixel_accuracy
from lightning_cv.metrics.voc import ImageResult, Kind

Stage = Literal["val", "test"]
M = TypeVar("M", bound=Metric)


def label_map_of(trainer: Trainer, asking: object) -> LabelMap:
    """The class names of the data in use."""
    label_map = getattr(getattr(trainer, "datamodule", None), "label_map", None)
    if label_map is None:
        raise ValueError(f"{type(asking).__name__} needs a data module with a label_map")
    found: LabelMap = label_map
    return found


class EvaluationMetrics(Callback, Generic[M]):
    """Feeds one metric with what validation and test steps return, and logs its figures at the end."""

    def __init__(self) -> None:
        self.metric: M | None = None

    @abstractmethod
    def build(self, trainer: Trainer, pl_module: LightningModule) -> M:
        """The metric, made before the first batch."""

    @abstractmethod
    def feed(self, metric: M, outputs: StepOutput, batch: Any) -> None:  # Any: the batch type is the task's
        """Count one batch."""

    @abstractmethod
    def figures(self, metric: M, stage: Stage, trainer: Trainer) -> dict[str, float]:
        """Figures by name, without the stage."""

    def _start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        device = pl_module.device  # on cuda, where NCCL gathers; otherwise on the CPU, which has every dtype
        self.metric = self.build(trainer, pl_module).to(device if device.type == "cuda" else torch.device("cpu"))

    def _update(self, outputs: Any, batch: Any) -> None:
        assert self.metric is not None
        self.feed(self.metric, outputs, batch)

    def _finish(self, trainer: Trainer, pl_module: LightningModule, stage: Stage) -> None:
        assert self.metric is not None
        for name, value in self.figures(self.metric, stage, trainer).items():
            pl_module.log(f"{stage}/{name}", value, sync_dist=True)  # equal everywhere; the mean leaves it so

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._start(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # a StepOutput; Lightning's type is wider
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        self._update(outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the figures; checkpoints, which are saved later, can watch them."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._start(trainer, pl_module)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # a StepOutput; Lightning's type is wider
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        self._update(outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the figures."""
        self._finish(trainer, pl_module, "test")


class SegmentationMetrics(EvaluationMetrics[SegmentationIoU]):
    """`val/miou` and `val/pixel_accuracy` over the pixels that count; with `per_class` also `val/iou_<class>`."""

    def __init__(self, per_class: bool = False) -> None:
        super().__init__()
        self.per_class = per_class

    def build(self, trainer: Trainer, pl_module: LightningModule) -> SegmentationIoU:
        """A confusion matrix for the classes of the data."""
        return SegmentationIoU(label_map_of(trainer, self).num_classes)

    def feed(self, metric: SegmentationIoU, outputs: StepOutput, batch: Any) -> None:
        """Count the pixels of a batch."""
        metric.update(outputs["preds"].to(metric.device), outputs["targets"].to(metric.device))

    def figures(self, metric: SegmentationIoU, stage: Stage, trainer: Trainer) -> dict[str, float]:
        """Mean IoU and pixel accuracy."""
        with metric.sync_context(should_sync=torch.distributed.is_initialized()):
            matrix = metric.matrix.cpu()
        miou = iou_per_class(matrix)
        figures = {"miou": miou.nanmean().item(), "pixel_accuracy": pixel_accuracy(matrix).item()}
        if self.per_class:
            figures |= _by_class("iou", label_map_of(trainer, self), miou.tolist())
        return figures


class DetectionMetrics(EvaluationMetrics[VOCMeanAP]):
    """`val/map_50`, VOC's mean average precision, and `val/map`, COCO's over IoU .50 to .95.

    Args:
        iou: overlap that VOC's figure asks for; another than 0.5 changes its name, as in `val/map_75`.
        kind: "area" under the curve (VOC 2010 and later) or the "11point" mean (VOC 2007).
        coco: when COCO's figures `map` and `map_75` are worked out, which takes longest.
        per_class: log `val/ap_<class>` too, by VOC's rule.
    """

    def __init__(
        self,
        iou: float = 0.5,
        kind: Kind = "area",
        coco: Literal["never", "test", "always"] = "test",
        per_class: bool = False,
    ) -> None:
        super().__init__()
        self.iou, self.kind, self.coco, self.per_class = iou, kind, coco, per_class

    def build(self, trainer: Trainer, pl_module: LightningModule) -> VOCMeanAP:
        """Empty records for the classes of the data."""
        return VOCMeanAP(label_map_of(trainer, self).num_classes, iou=self.iou, kind=self.kind)

    def feed(self, metric: VOCMeanAP, outputs: StepOutput, batch: Any) -> None:
        """Keep the detections and objects of a batch."""
        metric.update(outputs["preds"], outputs["targets"], batch["images"].shape[-2:])

    def figures(self, metric: VOCMeanAP, stage: Stage, trainer: Trainer) -> dict[str, float]:
        """VOC's figure, and COCO's where asked for, from one gathering of all processes' images."""
        label_map = label_map_of(trainer, self)
        with_coco = self.coco == "always" or (self.coco == "test" and stage == "test")

        def evaluate(images: list[ImageResult]) -> dict[str, float]:
            mean, per_class = metric.voc(images)
            found = {f"map_{round(100 * self.iou)}": mean}
            if self.per_class:
                found |= _by_class("ap", label_map, per_class.tolist())
            if with_coco:
                coco = coco_mean_average_precision(images, metric.num_classes)
                found |= {"map": coco.ap, "map_75": coco.ap_75}
            return found

        return metric.evaluate_once(evaluate)


class LikelihoodMetrics(EvaluationMetrics[LikelihoodMeans]):
    """`val/elbo`, `val/reconstruction`, `val/kl` in nats an image, free of beta, and `val/active_units`."""

    def build(self, trainer: Trainer, pl_module: LightningModule) -> LikelihoodMeans:
        """Sums for the latents of the net."""
        latent_size = getattr(getattr(pl_module, "net", None), "latent_size", None)
        if not isinstance(latent_size, int):
            raise ValueError("LikelihoodMetrics needs a net with latents, as that of a VAE")
        return LikelihoodMeans(latent_size)

    def feed(self, metric: LikelihoodMeans, outputs: StepOutput, batch: Any) -> None:
        """Add the terms of a batch."""
        metric.update({name: values.to(metric.device) for name, values in outputs["terms"].items()})

    def figures(self, metric: LikelihoodMeans, stage: Stage, trainer: Trainer) -> dict[str, float]:
        """Means over all images."""
        found = metric.compute()
        names = ("elbo", "reconstruction", "kl", "active_units")
        return {name: float(getattr(found, name)) for name in names}


def _by_class(prefix: str, label_map: LabelMap, values: Sequence[float]) -> dict[str, float]:
    return {
        f"{prefix}_{name}": value for name, value in zip(label_map.names, values, strict=True) if value == value
    }  # NaN is not logged
