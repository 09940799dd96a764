"""Predictions of a test or validation in the formats of the official evaluators."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_cv.callbacks.metrics import label_map_of
from lightning_cv.contracts import (
    Detections,
    DetectionTarget,
    LabelMap,
    PanopticTarget,
    RunLengths,
    StepOutput,
)
from lightning_cv.datasets.box_lists import write_box_list
from lightning_cv.datasets.coco_results import (
    PanopticEntry,
    box_rows,
    coco_id,
    is_coco_id,
    mask_rows,
    write_results,
    write_segments,
)
from lightning_cv.datasets.voc_results import write_voc_detections
from lightning_cv.errors import UserError
from lightning_cv.metrics.detection import run_lengths
from lightning_cv.metrics.records import ImageRecords
from lightning_cv.ops.masks import check_masks
from lightning_cv.ops.segments import in_file_pixels, placement_of
from lightning_cv.transforms import restore_boxes
from lightning_cv.viz.masks import save_class_mask

Format = Literal["auto", "voc", "coco", "boxes-txt"]


class _Image(NamedTuple):
    """What is kept of an image until all processes have seen theirs."""

    image_id: str
    found: Detections | None = None  # without masks
    masks: list[RunLengths] | None = None
    segments: PanopticEntry | None = None


class _Found(ImageRecords[_Image]):
    """What is to be written at the end, by image id."""

    def update(self, image: _Image) -> None:
        """Keep an image's."""
        self.records[image.image_id] = image


class SavePredictions(Callback):
    """Writes what validation or test found into a folder, coordinates and masks in pixels of the files.

    These are the files that `lightning-cv evaluate` reads. Those of the same names are replaced.

    - Detections, as VOC wants them: `comp4_det_{split}_{class}.txt`. As COCO does: `bbox_results.json` and, of a net
      that finds masks, `segm_results.json`. As plain text: a file an image in the folder `boxes-txt`.
    - Class masks, as VOC wants them: a palette PNG an image in `comp6_{split}_cls`.
    - Panoptic segmentations, as COCO wants them: `panoptic_results.json` and a PNG an image in `panoptic_results`; of a
      net that finds instances in the same pass, their boxes and masks as those of detections.

    Args:
        folder: made if it does not exist.
        format: "auto" is, of detections, COCO's where the image ids are whole numbers as COCO writes them, else VOC's,
            which has no place for instance masks; of the others the one there is.
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
        """Keep what one file for all images will hold, write what has a file an image."""
        self._take(trainer, outputs, batch, _list_name(trainer, "test"))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # a StepOutput; Lightning's type is wider
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what one file for all images will hold, write what has a file an image."""
        self._take(trainer, outputs, batch, _list_name(trainer, "val"))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what all processes kept."""
        self._write(trainer, _list_name(trainer, "test"))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what all processes kept."""
        self._write(trainer, _list_name(trainer, "val"))

    def _take(self, trainer: Trainer, outputs: StepOutput, batch: Any, split: str) -> None:
        shape = tuple(batch["images"].shape[-2:])
        if "original_sizes" in batch:
            self._take_class_masks(outputs, batch["original_sizes"], split)
        elif "targets" in batch and all("segments" in found for found in outputs["preds"]):
            self._take_segments(outputs, shape, label_map_of(trainer, self))
        elif "targets" in batch and all("boxes" in found for found in outputs["preds"]):
            self._take_detections(outputs, shape, label_map_of(trainer, self))
        else:
            raise UserError("predictions are saved of detection and segmentation, which this is not")

    def _take_class_masks(self, outputs: StepOutput, sizes: Sequence[tuple[int, int]], split: str) -> None:
        if outputs["preds"].ndim == 4:
            raise UserError("label planes have no place in the formats of the official evaluators: use predict")
        self._refuse_format_but("voc", "class masks")
        for mask, image_id, size in zip(outputs["preds"], outputs["image_ids"], sizes, strict=True):
            save_class_mask(_cropped(mask, size, image_id), self.folder / f"comp6_{split}_cls" / f"{image_id}.png")

    def _take_segments(self, outputs: StepOutput, shape: tuple[int, int], label_map: LabelMap) -> None:
        self._refuse_format_but("coco", "panoptic segmentations")
        instances: Sequence[Detections | None] = outputs.get("instances") or [None] * len(outputs["preds"])
        for found, things, target in zip(outputs["preds"], instances, outputs["targets"], strict=True):
            number = coco_id(target["image_id"])
            shown = in_file_pixels(found, placement_of(target, shape), target["original_size"])
            entry = write_segments(self.folder / "panoptic_results", number, shown, label_map)
            boxes, masks = None, None
            if things is not None:
                things = {**things, "labels": things["labels"] - 1 + label_map.first}  # as the label map counts
                boxes, masks = _in_file_pixels(things, target, shape), _masks_in_file_pixels(things, target, shape)
            self._found.update(_Image(target["image_id"], boxes, masks, entry))

    def _take_detections(self, outputs: StepOutput, shape: tuple[int, int], label_map: LabelMap) -> None:
        for found, target in zip(outputs["preds"], outputs["targets"], strict=True):
            image_id = target["image_id"]
            boxes = _in_file_pixels(found, target, shape)
            if self.format == "boxes-txt":
                write_box_list(self.folder / "boxes-txt", image_id, boxes, label_map)
                continue
            if self.format == "coco":
                coco_id(image_id)  # refuses what is none
            else:
                _refuse_spaces(image_id)
            masks = None if self.format == "voc" else _masks_in_file_pixels(found, target, shape)
            self._found.update(_Image(image_id, boxes, masks))

    def _refuse_format_but(self, only: Format, what: str) -> None:
        if self.format not in ("auto", only):
            raise UserError(f"format {self.format} has no place for {what}: they are saved as {only}")

    def _write(self, trainer: Trainer, split: str) -> None:
        label_map = label_map_of(trainer, self)
        self._found.evaluate_once(lambda images: self._write_kept(images, label_map, split))
        self._found.reset()

    def _write_kept(self, images: Sequence[_Image], label_map: LabelMap, split: str) -> None:
        if entries := [image.segments for image in images if image.segments is not None]:
            write_results(self.folder / "panoptic_results.json", {"annotations": entries})
        found = {image.image_id: image.found for image in images if image.found is not None}
        if not found:
            return
        if self.format == "voc" or (self.format == "auto" and not all(map(is_coco_id, found))):
            write_voc_detections(self.folder, found, label_map, split)
            return
        boxes = [row for image_id, one in found.items() for row in box_rows(coco_id(image_id), one, label_map)]
        write_results(self.folder / "bbox_results.json", boxes)
        masked = [(coco_id(image_id), found[image_id], masks) for image_id, _, masks, _ in images if masks is not None]
        if masked:
            masks = [row for number, one, lengths in masked for row in mask_rows(number, one, lengths, label_map)]
            write_results(self.folder / "segm_results.json", masks)


def _list_name(trainer: Trainer, stage: str) -> str:
    """How VOC's file names call what was evaluated: the list of a VOC folder where it is one, else the stage."""
    splits = getattr(getattr(trainer, "datamodule", None), "splits", {})
    name = str(splits.get(stage, stage))
    return name if name.isidentifier() else stage


def _refuse_spaces(image_id: str) -> None:
    if not image_id or any(character.isspace() for character in image_id):
        raise UserError(f"predictions of image {image_id!r} cannot be saved: VOC's format has no place for spaces")


def _cropped(mask: Tensor, size: tuple[int, int], image_id: str) -> Tensor:
    """The part of a mask that shows the file, which lies in its upper left corner."""
    if mask.shape[0] < size[0] or mask.shape[1] < size[1]:
        raise UserError(
            f"image {image_id}: its file is {size[1]} x {size[0]} pixels, evaluated at {mask.shape[1]} x "
            f"{mask.shape[0]}: masks are saved where evaluation keeps the file's size, as SegmentationEval does"
        )
    return mask[: size[0], : size[1]]


def _in_file_pixels(found: Detections, target: DetectionTarget | PanopticTarget, shape: tuple[int, int]) -> Detections:
    """The detections without their masks."""
    boxes = restore_boxes(found["boxes"].detach().cpu().float(), placement_of(target, shape))
    scores = found["scores"].detach().cpu().float()
    if not (boxes.isfinite().all() and scores.isfinite().all() and (boxes[:, 2:] >= boxes[:, :2]).all()):
        raise ValueError(
            f"image {target['image_id']}: a score is no number, or a box is not finite x1, y1, x2, y2 with x2 >= x1 "
            "and y2 >= y1"
        )
    return {"boxes": boxes, "scores": scores, "labels": found["labels"].cpu()}


def _masks_in_file_pixels(
    found: Detections, target: DetectionTarget | PanopticTarget, shape: tuple[int, int]
) -> list[RunLengths] | None:
    """The masks of the detections that have some."""
    if "masks" not in found:
        return None
    check_masks(found["masks"], len(found["boxes"]), shape, f"image {target['image_id']}: masks")
    return run_lengths(found["masks"], placement_of(target, shape), target["original_size"])
