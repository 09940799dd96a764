"""Detections of a whole data set, kept by image id and evaluated once. Letters: D detections, G objects of an image."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from lightning_cv.contracts import Detections, DetectionTarget, Placement
from lightning_cv.metrics.coco import CocoPrecision, coco_mean_average_precision
from lightning_cv.metrics.voc import Floats, ImageResult, Kind, voc_mean_average_precision

Result = TypeVar("Result")


class DetectionRecords(Metric):
    """What was found and what was there in every image, by image id: an image passed in twice counts once.

    The base of the average precisions. `evaluate_once` gathers the records of all processes as one Python object a
    process (not as tensors, whose number would have to agree), lets the first process evaluate, and hands every
    process its result. A process without images takes part.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, num_classes: int, **kwargs: Any) -> None:  # kwargs: torchmetrics' own settings
        super().__init__(sync_on_compute=False, **kwargs)
        if num_classes < 1:
            raise ValueError(f"{type(self).__name__}: num_classes must be at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.records: dict[str, ImageResult] = {}

    def update(
        self, detections: Sequence[Detections], targets: Sequence[DetectionTarget], image_size: Sequence[int]
    ) -> None:
        """Keep a batch, brought to pixels of each file: by the target's placement, or as its whole image (H, W)."""
        if len(detections) != len(targets):
            raise ValueError(f"{len(detections)} images with detections, but {len(targets)} targets")
        for found, target in zip(detections, targets, strict=True):
            self.records[target["image_id"]] = self._record(found, target, image_size)

    def _record(self, found: Detections, target: DetectionTarget, image_size: Sequence[int]) -> ImageResult:
        height, width = target["original_size"]
        stretched = Placement(image_size[1] / width, image_size[0] / height)
        x_scale, y_scale, left, top = target.get("placement", stretched)
        shift, scale = np.array([left, top] * 2), np.array([1 / x_scale, 1 / y_scale] * 2)
        record = ImageResult(
            boxes=(_floats(found["boxes"]).reshape(-1, 4) - shift) * scale,
            scores=_floats(found["scores"]),
            labels=_whole(found["labels"]),
            true_boxes=(_floats(target["boxes"]).reshape(-1, 4) - shift) * scale,
            true_labels=_whole(target["labels"]),
            difficult=_whole(target["difficult"]).astype(bool),
            size=(height, width),
        )
        self._check(record, target["image_id"])
        return record

    def _check(self, record: ImageResult, image_id: str) -> None:
        for what, boxes, labels in (
            ("detection", record.boxes, record.labels),
            ("object", record.true_boxes, record.true_labels),
        ):
            if len(boxes) != len(labels):
                raise ValueError(f"image {image_id}: {len(boxes)} {what} boxes, but {len(labels)} labels")
            wrong = labels[(labels < 1) | (labels > self.num_classes)]
            if len(wrong):
                raise ValueError(
                    f"image {image_id}: {what} labels must be 1 to {self.num_classes}, got {np.unique(wrong).tolist()}"
                )
        if len(record.scores) != len(record.boxes) or np.isnan(record.scores).any():
            raise ValueError(f"image {image_id}: every detection needs a score that is a number")

    def evaluate_once(self, evaluate: Callable[[list[ImageResult]], Result]) -> Result:
        """What `evaluate` makes of the images of all processes, ordered by image id."""
        if not (dist.is_available() and dist.is_initialized()):
            return evaluate(_in_order([self.records]))
        first = dist.get_rank() == 0
        gathered: list[Any] | None = [None] * dist.get_world_size() if first else None
        dist.gather_object(self.records, gathered, dst=0)
        answer: list[Any] = [
            None,
            None,
        ]  # result, error: an error on the first process must not leave the others waiting
        if gathered is not None:
            try:
                answer[0] = evaluate(_in_order(gathered))
            except Exception as error:
                answer[1] = error
        dist.broadcast_object_list(answer, src=0)
        if answer[1] is not None:
            raise answer[1]
        result: Result = answer[0]
        return result

    def compute(self) -> Any:
        """Number of different images seen by all processes."""
        return self.evaluate_once(len)

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self.records = {}


class VOCMeanAP(DetectionRecords):
    """VOC's mean average precision over the classes with an object to find: the devkit's rules, see `metrics.voc`.

    Args:
        num_classes: classes, labelled 1 to K.
        iou: the overlap that makes a detection right.
        kind: "area" under the curve (VOC 2010 and later) or the "11point" mean (VOC 2007).
        strict: ask for more than `iou`, as py-faster-rcnn does.
    """

    def __init__(
        self,
        num_classes: int,
        iou: float = 0.5,
        kind: Kind = "area",
        strict: bool = False,
        **kwargs: Any,  # torchmetrics' own settings
    ) -> None:
        super().__init__(num_classes, **kwargs)
        if not 0 < iou <= 1:
            raise ValueError(f"VOCMeanAP: iou must be above 0 and at most 1, got {iou}")
        self.iou, self.kind, self.strict = iou, kind, strict

    def compute(self) -> Tensor:
        """Mean average precision, 0 to 1; NaN without any object to find."""
        return torch.tensor(self.evaluate_once(self.voc)[0])

    def voc(self, images: Sequence[ImageResult]) -> tuple[float, Floats]:
        """Mean and (K,) average precision of given images under this metric's settings."""
        return voc_mean_average_precision(images, self.num_classes, iou=self.iou, kind=self.kind, strict=self.strict)


class COCOMeanAP(DetectionRecords):
    """COCO's box AP, mean over IoU .50 to .95; what happens to difficult objects is said in `metrics.coco`."""

    def compute(self) -> Tensor:
        """Average precision, 0 to 1; NaN without any object to find."""
        return torch.tensor(self.evaluate_once(self.coco).ap)

    def coco(self, images: Sequence[ImageResult]) -> CocoPrecision:
        """COCO's figures of given images."""
        return coco_mean_average_precision(images, self.num_classes)


def _in_order(parts: Sequence[dict[str, ImageResult]]) -> list[ImageResult]:
    merged = {image_id: record for part in parts for image_id, record in part.items()}
    return [merged[image_id] for image_id in sorted(merged)]


def _floats(values: Tensor) -> Floats:
    return values.detach().double().cpu().numpy()


def _whole(values: Tensor) -> NDArray[np.int64]:
    return values.detach().long().cpu().numpy()
