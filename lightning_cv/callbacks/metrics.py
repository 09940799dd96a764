"""Metrics of whole evaluation runs: updated in the batch hook, computed once at the epoch's end, as `val/miou`."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric

from lightning_cv.callbacks.confusion import save_confusion
from lightning_cv.contracts import LabelMap, StepOutput
from lightning_cv.metrics.coco import box_figures, mask_figures
from lightning_cv.metrics.coco_results import CocoFigures
from lightning_cv.metrics.confusion import detection_confusion
from lightning_cv.metrics.detection import VOCMeanAP
from lightning_cv.metrics.errors import split_errors
from lightning_cv.metrics.localization import LocalizationAccuracy
from lightning_cv.metrics.multilabel import MultilabelOverlap, dice_per_label, iou_per_label
from lightning_cv.metrics.segmentation import (
    PixelCounts,
    SegmentationIoU,
    accuracy_per_class,
    dice_per_class,
    frequency_weighted_iou,
    iou_per_class,
    mean_class_accuracy,
    pixel_accuracy,
)
from lightning_cv.metrics.voc import ImageResult, Kind

Stage = Literal["val", "test"]
When = Literal["never", "test", "always"]
M = TypeVar("M", bound=Metric)

COCO_NAMES = {
    "map": "AP", "map_coco_50": "AP50", "map_75": "AP75", "map_small": "APs", "map_medium": "APm", "map_large": "APl",
    "mar_1": "AR1", "mar_10": "AR10", "mar_100": "AR100", "mar_small": "ARs", "mar_medium": "ARm", "mar_large": "ARl",
}  # fmt: skip
"""Logged names of COCO's twelve figures."""
COCO_MASK_NAMES = {f"mask_{name.replace('_coco', '')}": theirs for name, theirs in COCO_NAMES.items()}
"""Logged names of those of instance masks, for which VOC has no figure."""


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
    """`val/miou`, `val/dice`, `val/pixel_accuracy`, `val/mean_accuracy` and `val/frequency_weighted_iou`.

    Over the pixels that are not void; the means leave out classes that do not occur, and per class they have no figure.

    Args:
        per_class: log `val/iou_<class>` and `val/accuracy_<class>` too.
        confusion: when to draw which class is taken for which, see `save_confusion`.
    """

    def __init__(self, per_class: bool = False, confusion: When = "test") -> None:
        super().__init__()
        self.per_class, self.confusion = per_class, confusion

    def build(self, trainer: Trainer, pl_module: LightningModule) -> SegmentationIoU:
        """A confusion matrix for the classes of the data."""
        return SegmentationIoU(label_map_of(trainer, self).num_classes)

    def feed(self, metric: SegmentationIoU, outputs: StepOutput, batch: Any) -> None:
        """Count the pixels of a batch."""
        metric.update(outputs["preds"].to(metric.device), outputs["targets"].to(metric.device), outputs["image_ids"])

    def figures(self, metric: SegmentationIoU, stage: Stage, trainer: Trainer) -> dict[str, float]:
        """Figures of the matrix."""
        label_map = label_map_of(trainer, self)

        def count(images: list[PixelCounts]) -> Tensor:  # on the first process
            matrix = metric.matrix(images)
            if self.confusion in (stage, "always"):
                save_confusion(trainer, stage, matrix.numpy(), label_map.names)
            return matrix

        matrix = metric.evaluate_once(count)
        ious = iou_per_class(matrix)
        figures = {
            "miou": ious.nanmean().item(),
            "dice": dice_per_class(matrix).nanmean().item(),
            "pixel_accuracy": pixel_accuracy(matrix).item(),
            "mean_accuracy": mean_class_accuracy(matrix).item(),
            "frequency_weighted_iou": frequency_weighted_iou(matrix).item(),
        }
        if self.per_class:
            figures |= by_class("iou", label_map, ious.tolist())
            figures |= by_class("accuracy", label_map, accuracy_per_class(matrix).tolist())
        return figures


class MultilabelMetrics(EvaluationMetrics[MultilabelOverlap]):
    """`val/iou` and `val/dice`, means over the labels that are on or found anywhere, of label planes.

    Args:
        threshold: the probability above which a label is found.
        per_class: log `val/iou_<label>` and `val/dice_<label>` too.
    """

    def __init__(self, threshold: float = 0.5, per_class: bool = False) -> None:
        super().__init__()
        if not 0 <= threshold < 1:
            raise ValueError(f"MultilabelMetrics: threshold must be at least 0 and below 1, got {threshold}")
        self.threshold, self.per_class = threshold, per_class

    def build(self, trainer: Trainer, pl_module: LightningModule) -> MultilabelOverlap:
        """Counts for the labels of the data."""
        return MultilabelOverlap(label_map_of(trainer, self).num_classes, self.threshold)

    def feed(self, metric: MultilabelOverlap, outputs: StepOutput, batch: Any) -> None:
        """Count the pixels of a batch."""
        metric.update(outputs["preds"], outputs["targets"], outputs["image_ids"])

    def figures(self, metric: MultilabelOverlap, stage: Stage, trainer: Trainer) -> dict[str, float]:
        """Figures of the counts."""
        label_map, counts = label_map_of(trainer, self), metric.evaluate_once(metric.counts)
        ious, dices = iou_per_label(counts), dice_per_label(counts)
        figures = {"iou": ious.nanmean().item(), "dice": dices.nanmean().item()}
        if self.per_class:
            figures |= by_class("iou", label_map, ious.tolist()) | by_class("dice", label_map, dices.tolist())
        return figures


class DetectionMetrics(EvaluationMetrics[VOCMeanAP]):
    """`val/map_50`, VOC's mean average precision; `val/map`, COCO's over IoU .50 to .95; and what errors cost.

    COCO's other figures are `map_coco_50`, `map_75`, `map_small`, `map_medium`, `map_large`, and the recalls `mar_1`,
    `mar_10`, `mar_100`, `mar_small`, `mar_medium`, `mar_large`. Those of instance masks are `mask_map`, `mask_map_50`
    and so on to `mask_mar_large`, in pixels of the files; they are there where detections and objects have masks, which
    must then be so in every image. `err_classification`, `err_localization`, `err_both`,
    `err_duplicate`, `err_background` and `err_missed` are TIDE's: the average precision that each kind of error costs.

    Args:
        iou: overlap that VOC's figure asks for; another than 0.5 changes its name, as in `val/map_60`.
        kind: "area" under the curve (VOC 2010 and later) or the "11point" mean (VOC 2007).
        coco: when COCO's figures are worked out, which takes longest.
        errors: when the errors are told apart.
        per_class: log `val/ap_<class>` too, by VOC's rule, and `val/ap_coco_<class>` and, of masks,
            `val/mask_ap_<class>` where COCO's figures are.
        confusion: when to draw which class is taken for which, see `save_confusion`; detections of at least
            `confusion_score` count there.
        confusion_score: 0 to 1.
    """

    def __init__(
        self,
        iou: float = 0.5,
        kind: Kind = "area",
        coco: When = "test",
        errors: When = "test",
        per_class: bool = False,
        confusion: When = "test",
        confusion_score: float = 0.5,
    ) -> None:
        super().__init__()
        if round(100 * iou) == 75 and coco != "never":
            raise ValueError(
                "DetectionMetrics: map_75 would be VOC's figure and COCO's; set coco=\"never\" for iou=0.75"
            )
        self.iou, self.kind, self.coco, self.errors, self.per_class = iou, kind, coco, errors, per_class
        self.confusion, self.confusion_score = confusion, confusion_score

    def build(self, trainer: Trainer, pl_module: LightningModule) -> VOCMeanAP:
        """Empty records for the classes of the data."""
        masks = self.coco in ("test" if trainer.testing else "val", "always")
        return VOCMeanAP(label_map_of(trainer, self).num_classes, iou=self.iou, kind=self.kind, masks=masks)

    def feed(self, metric: VOCMeanAP, outputs: StepOutput, batch: Any) -> None:
        """Keep the detections and objects of a batch."""
        metric.update(outputs["preds"], outputs["targets"], batch["images"].shape[-2:])

    def figures(self, metric: VOCMeanAP, stage: Stage, trainer: Trainer) -> dict[str, float]:
        """VOC's figure, and COCO's where asked for, from one gathering of all processes' images."""
        label_map = label_map_of(trainer, self)

        def evaluate(images: list[ImageResult]) -> dict[str, float]:  # on the first process
            if self.confusion in (stage, "always"):
                matrix = detection_confusion(images, metric.num_classes, iou=self.iou, score=self.confusion_score)
                save_confusion(trainer, stage, matrix, [*label_map.names, "background"])
            mean, per_class = metric.voc(images)
            found = {f"map_{round(100 * self.iou)}": mean}
            if self.per_class:
                found |= by_class("ap", label_map, per_class.tolist())
            if self.coco in (stage, "always"):
                found |= self._coco(box_figures(images, metric.num_classes), COCO_NAMES, "ap_coco", label_map)
                if any(image.masks is not None for image in images):
                    of_masks = mask_figures(images, metric.num_classes)
                    found |= self._coco(of_masks, COCO_MASK_NAMES, "mask_ap", label_map)
            if self.errors in (stage, "always"):
                cost = split_errors(images, metric.num_classes, iou=self.iou).cost
                found |= {f"err_{name}": value for name, value in cost._asdict().items()}
            return found

        return metric.evaluate_once(evaluate)

    def _coco(self, found: CocoFigures, names: dict[str, str], prefix: str, label_map: LabelMap) -> dict[str, float]:
        """COCO's figures under the names they are logged by, and the classes' where asked for."""
        values = {name: found.figures[theirs] for name, theirs in names.items()}
        known = {name: value for name, value in values.items() if is_known(value)}
        return known | (by_class(prefix, label_map, list(found.per_class.values())) if self.per_class else {})


class LocalizationMetrics(EvaluationMetrics[LocalizationAccuracy]):
    """`val/localization_accuracy`, class right and IoU at least `iou`; `val/accuracy` of the class; `val/mean_iou`.

    Of the detections of an image the first, that is the best, is its guess; its one object is what was there.

    Args:
        iou: the overlap that makes a box right.
    """

    def __init__(self, iou: float = 0.5) -> None:
        super().__init__()
        self.iou = iou

    def build(self, trainer: Trainer, pl_module: LightningModule) -> LocalizationAccuracy:
        """No images yet."""
        return LocalizationAccuracy(self.iou)

    def feed(self, metric: LocalizationAccuracy, outputs: StepOutput, batch: Any) -> None:
        """Keep the guess and the object of each image; an image without a guess is wrong."""
        for target in outputs["targets"]:
            if len(target["labels"]) != 1:
                raise ValueError(
                    f"image {target['image_id']} has {len(target['labels'])} objects; localization is of one object an "
                    "image: set data.single_object (drawn scenes: data.max_objects=1)"
                )
        guesses = [(found["boxes"][:1], found["labels"][:1]) for found in outputs["preds"]]
        metric.update(
            torch.cat([box if len(box) else box.new_zeros(1, 4) for box, _ in guesses]),
            torch.cat([label if len(label) else label.new_zeros(1) for _, label in guesses]),
            torch.cat([target["boxes"] for target in outputs["targets"]]),
            torch.cat([target["labels"] for target in outputs["targets"]]),
            outputs["image_ids"],
        )

    def figures(self, metric: LocalizationAccuracy, stage: Stage, trainer: Trainer) -> dict[str, float]:
        """Shares of right images and classes, and the mean overlap."""
        found = metric.compute()
        return {
            "localization_accuracy": found.accuracy,
            "accuracy": found.class_accuracy,
            "mean_iou": found.mean_iou,
        }


def is_known(value: float) -> bool:
    """Whether a figure is logged: NaN stands for what there is none of."""
    return not math.isnan(value)


def by_class(prefix: str, label_map: LabelMap, values: Sequence[float]) -> dict[str, float]:
    """`prefix_<class>` of the classes that occur."""
    pairs = zip(label_map.names, values, strict=True)
    return {f"{prefix}_{name}": value for name, value in pairs if is_known(value)}
