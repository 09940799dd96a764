"""Predictions of a test or validation in the formats of the official evaluators."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_cv.callbacks.metrics import label_map_of
from lightning_cv.contracts import Detections, DetectionTarget, LabelMap, Placement, StepOutput
from lightning_cv.datasets.voc_results import write_voc_detections
from lightning_cv.errors import UserError
from lightning_cv.metrics.records import ImageRecords
from lightning_cv.transforms import restore_boxes
from lightning_cv.viz.masks import save_class_mask

Format = Literal["auto", "voc", "coco"]


class _Found(ImageRecords[tuple[str, Detections | None]]):
    """Detections by image id, None for an image whose mask is written."""

    def update(self, image_id: str, found: Detections | None) -> None:
        """Keep an image's."""
        self.records[image_id] = (image_id, found)


class SavePredictions(Callback):
    """Writes what validation or test found into a folder, coordinates and masks in pixels of the files.

    Boxes: `comp4_det_{split}_{class}.txt` as VOC wants them, or `bbox_results.json` as COCO does. Class masks: a
    palette PNG an image in `comp6_{split}_cls`. Files of the same names are replaced.

    Args:
        folder: made if it does not exist.
        format: of boxes; "auto" is COCO's where the image ids are whole numbers as COCO writes them, else VOC's.
    """

    def __init__(self, folder: str, format: Format = "auto") -> None:
        self.folder, self.format = Path(folder), format
        self._found = _Found()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the folder before anything is computed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot save predictions in {self.folder}: {error.strerror}") from error

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # a StepOutput; Lightning's type is wider
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the batch's boxes, write its masks."""
        self._take(outputs, batch, _list_name(trainer, "test"))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # a StepOutput; Lightning's type is wider
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the batch's boxes, write its masks."""
        self._take(outputs, batch, _list_name(trainer, "val"))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the boxes of all processes."""
        self._write(trainer, _list_name(trainer, "test"))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the boxes of all processes."""
        self._write(trainer, _list_name(trainer, "val"))

    def _take(self, outputs: StepOutput, batch: Any, split: str) -> None:
        if "original_sizes" in batch:
            for mask, image_id, size in zip(
                outputs["preds"], outputs["image_ids"], batch["original_sizes"], strict=True
            ):
                save_class_mask(_cropped(mask, size, image_id), self.folder / f"comp6_{split}_cls" / f"{image_id}.png")
                self._found.update(image_id, None)
        elif "targets" in batch and all("boxes" in found for found in outputs["preds"]):
            shape = batch["images"].shape[-2:]
            for found, target in zip(outputs["preds"], outputs["targets"], strict=True):
                _refuse_spaces(target["image_id"])
                self._found.update(target["image_id"], _in_file_pixels(found, target, tuple(shape)))
        else:
            raise UserError("predictions are saved of detection and semantic segmentation, which this is not")

    def _write(self, trainer: Trainer, split: str) -> None:
        label_map = label_map_of(trainer, self)
        self._found.evaluate_once(lambda rows: self._write_boxes(rows, label_map, split))
        self._found.reset()

    def _write_boxes(self, rows: Sequence[tuple[str, Detections | None]], label_map: LabelMap, split: str) -> None:
        found = {image_id: boxes for image_id, boxes in rows if boxes is not None}
        if not found:
            return
        format = self.format
        if format == "auto":
            whole = all(image_id.isdecimal() and str(int(image_id)) == image_id for image_id in found)
            format = "coco" if whole else "voc"
        if format == "voc":
            write_voc_detections(self.folder, found, label_map, split)
            return
        listed = [row for image_id, one in found.items() for row in coco_rows(int(image_id), one, label_map)]
        part = self.folder / ".bbox_results.json.part"
        part.write_text(json.dumps(listed))
        os.replace(part, self.folder / "bbox_results.json")


def _list_name(trainer: Trainer, stage: str) -> str:
    """How VOC's file names call what was evaluated: the list of a VOC folder where it is one, else the stage."""
    splits = getattr(getattr(trainer, "datamodule", None), "splits", {})
    name = str(splits.get(stage, stage))
    return name if name.isidentifier() else stage


def _refuse_spaces(image_id: str) -> None:
    if not image_id or any(character.isspace() for character in image_id):
        raise UserError(f"predictions of image {image_id!r} cannot be saved: VOC's format has no place for spaces")


def coco_rows(image_id: int, found: Detections, label_map: LabelMap) -> list[dict[str, Any]]:
    """An image's detections as COCO's results list them: corner and size, and the data set's own category ids."""
    columns = (found["boxes"].tolist(), found["scores"].tolist(), found["labels"].tolist())
    return [
        {
            "image_id": image_id,
            "category_id": label_map.dataset_ids[label - label_map.first],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for (x1, y1, x2, y2), score, label in zip(*columns, strict=True)
    ]


def _cropped(mask: Tensor, size: tuple[int, int], image_id: str) -> Tensor:
    """The part of a mask that shows the file, which lies in its upper left corner."""
    if mask.shape[0] < size[0] or mask.shape[1] < size[1]:
        raise UserError(
            f"image {image_id}: its file is {size[1]} x {size[0]} pixels, evaluated at {mask.shape[1]} x "
            f"{mask.shape[0]}: masks are saved where evaluation keeps the file's size, as SegmentationEval does"
        )
    return mask[: size[0], : size[1]]


def _in_file_pixels(found: Detections, target: DetectionTarget, shape: tuple[int, int]) -> Detections:
    height, width = target["original_size"]
    placement = target.get("placement", Placement(shape[1] / width, shape[0] / height))
    return {
        "boxes": restore_boxes(found["boxes"].detach().cpu().float(), placement),
        "scores": found["scores"].detach().cpu().float(),
        "labels": found["labels"].cpu(),
    }
