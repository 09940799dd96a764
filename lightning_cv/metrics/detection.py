"""Detections of a whole data set, kept by image id and evaluated once. Letters: D detections, G objects of an image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle
from torch import Tensor

from lightning_cv.contracts import Detections, DetectionTarget, Placement, RunLengths
from lightning_cv.metrics.coco import box_figures, mask_figures
from lightning_cv.metrics.coco_results import CocoFigures
from lightning_cv.metrics.records import ImageRecords
from lightning_cv.metrics.voc import Floats, ImageResult, Kind, voc_mean_average_precision
from lightning_cv.ops.masks import check_masks, masks_in_file_pixels
from lightning_cv.ops.segments import placement_of


class DetectionRecords(ImageRecords[ImageResult]):
    """What was found and what was there in every image: the base of the average precisions and of the error split.

    Args:
        num_classes: classes, labelled 1 to K.
        masks: keep instance masks too, of images whose detections and objects have them.
    """

    def __init__(self, num_classes: int, masks: bool = False, **kwargs: Any) -> None:  # kwargs: torchmetrics' own
        super().__init__(**kwargs)
        if num_classes < 1:
            raise ValueError(f"{type(self).__name__}: num_classes must be at least 1, got {num_classes}")
        self.num_classes, self.masks = num_classes, masks

    def update(
        self, detections: Sequence[Detections], targets: Sequence[DetectionTarget], image_size: Sequence[int]
    ) -> None:
        """Keep a batch, brought to pixels of each file: by the target's placement, or as its whole image (H, W)."""
        if len(detections) != len(targets):
            raise ValueError(f"{len(detections)} images with detections, but {len(targets)} targets")
        for found, target in zip(detections, targets, strict=True):
            self.records[target["image_id"]] = self._record(found, target, image_size)

    def _record(self, found: Detections, target: DetectionTarget, image_size: Sequence[int]) -> ImageResult:
        record = ImageResult(
            boxes=in_pixels_of_the_file(found["boxes"], target, image_size),
            scores=_floats(found["scores"]),
            labels=_whole(found["labels"]),
            true_boxes=in_pixels_of_the_file(target["boxes"], target, image_size),
            true_labels=_whole(target["labels"]),
            difficult=_whole(target["difficult"]).astype(bool),
            size=target["original_size"],
            crowd=_whole(target["crowd"]).astype(bool) if "crowd" in target else None,
            areas=_floats(target["areas"]) if "areas" in target else None,
            image_id=target["image_id"],
        )
        self._check(record, target["image_id"])
        if not (self.masks and "masks" in found and ("masks" in target or "file_masks" in target)):
            return record
        size, there, image = target["original_size"], placement_of(target, image_size), f"image {target['image_id']}"
        check_masks(found["masks"], len(record.boxes), image_size, f"{image}: detection masks")
        masks = run_lengths(found["masks"], there, size)
        if "file_masks" in target:
            check_masks(target["file_masks"], len(record.true_boxes), size, f"{image}: object masks of the file")
            return record._replace(masks=masks, true_masks=run_lengths(target["file_masks"], Placement(1, 1), size))
        check_masks(target["masks"], len(record.true_boxes), image_size, f"{image}: object masks")
        return record._replace(masks=masks, true_masks=run_lengths(target["masks"], there, size))

    def _check(self, record: ImageResult, image_id: str) -> None:
        for what, boxes, labels in (
            ("detection", record.boxes, record.labels),
            ("object", record.true_boxes, record.true_labels),
        ):
            if len(boxes) != len(labels):
                raise ValueError(f"image {image_id}: {len(boxes)} {what} boxes, but {len(labels)} labels")
            strange = ~np.isfinite(boxes).all(1) | (boxes[:, 2:] < boxes[:, :2]).any(1)
            if strange.any():
                raise ValueError(
                    f"image {image_id}: {what} boxes must be finite x1, y1, x2, y2 with x2 >= x1 and y2 >= y1, got "
                    f"{boxes[strange][0].tolist()}"
                )
            wrong = labels[(labels < 1) | (labels > self.num_classes)]
            if len(wrong):
                raise ValueError(
                    f"image {image_id}: {what} labels must be 1 to {self.num_classes}, got {np.unique(wrong).tolist()}"
                )
        if len(record.scores) != len(record.boxes) or np.isnan(record.scores).any():
            raise ValueError(f"image {image_id}: every detection needs a score that is a number")


class VOCMeanAP(DetectionRecords):
    """VOC's mean average precision over the classes with an object to find: the devkit's rules, see `metrics.voc`.

    Args:
        num_classes: classes, labelled 1 to K.
        iou: the overlap that makes a detection right.
        kind: "area" under the curve (VOC 2010 and later) or the "11point" mean (VOC 2007).
        strict: ask for more than `iou`, as py-faster-rcnn does.
        masks: keep instance masks too, for COCO's figures from the same records.
    """

    def __init__(
        self,
        num_classes: int,
        iou: float = 0.5,
        kind: Kind = "area",
        strict: bool = False,
        masks: bool = False,
        **kwargs: Any,  # torchmetrics' own settings
    ) -> None:
        super().__init__(num_classes, masks, **kwargs)
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
        return torch.tensor(self.evaluate_once(self.coco).figures["AP"])

    def coco(self, images: Sequence[ImageResult]) -> CocoFigures:
        """COCO's figures of given images."""
        return box_figures(images, self.num_classes)


class COCOMaskAP(DetectionRecords):
    """COCO's AP of instance masks, mean over IoU .50 to .95, in the pixels of the files.

    Masks of detections are brought there as `ops.masks` says, those of objects where the target has none of the file.
    """

    def __init__(self, num_classes: int, **kwargs: Any) -> None:  # kwargs: torchmetrics' own settings
        super().__init__(num_classes, masks=True, **kwargs)

    def compute(self) -> Tensor:
        """Average precision, 0 to 1; NaN without any object to find. An image without masks is an error."""
        return torch.tensor(self.evaluate_once(self.coco).figures["AP"])

    def coco(self, images: Sequence[ImageResult]) -> CocoFigures:
        """COCO's figures of given images."""
        return mask_figures(images, self.num_classes)


def in_pixels_of_the_file(boxes: Tensor, target: DetectionTarget, image_size: Sequence[int]) -> Floats:
    """Boxes (N, 4) of a prepared image in pixels of its file: by its placement, or as its whole image (H, W)."""
    x_scale, y_scale, left, top = placement_of(target, image_size)
    shift, scale = np.array([left, top] * 2), np.array([1 / x_scale, 1 / y_scale] * 2)
    moved: Floats = (_floats(boxes).reshape(-1, 4) - shift) * scale
    return moved


def run_lengths(masks: Tensor, placement: Placement, size: tuple[int, int]) -> list[RunLengths]:
    """COCO's compressed run lengths of masks (N, H, W) of a prepared image, in the pixels (h, w) of its file."""
    shown = masks_in_file_pixels(masks, placement, size)
    return [RunLengths(size=list(size), counts=rle.encode(mask)["counts"].decode("ascii")) for mask in shown]


def _floats(values: Tensor) -> Floats:
    return values.detach().double().cpu().numpy()


def _whole(values: Tensor) -> NDArray[np.int64]:
    return values.detach().long().cpu().numpy()
