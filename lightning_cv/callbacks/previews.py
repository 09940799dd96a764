"""Pictures of the same few validation images after every epoch: as PNG beside the run, and to W&B."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from lightning import Callback, LightningModule, Trainer
from lightning_utilities.core.apply_func import apply_to_collection
from PIL import Image
from torch import Tensor

from lightning_cv import tracking
from lightning_cv.callbacks.metrics import label_map_of
from lightning_cv.contracts import Detections, DetectionTarget, StepOutput
from lightning_cv.metrics.records import gathered, on_first_process
from lightning_cv.viz.boxes import above_score, boxes_beside_truth
from lightning_cv.viz.canvas import Picture, picture, tile
from lightning_cv.viz.labels import labels_below_truth, labels_on, plane_as_mask
from lightning_cv.viz.masks import masks_beside_truth
from lightning_cv.viz.rows import image_rows

Batch = dict[str, Any]  # Any: a SegmentationBatch, DetectionBatch or ImageBatch, by the kind of problem
Item = TypeVar("Item")


class Preview(Callback, Generic[Item]):
    """Draws the first `count` validation images every `every_n_epochs` epochs, and in the last one.

    They are the same images whatever the number of processes, in their order. The picture goes to
    `previews/<name>-epochNNN.png` in the trainer's folder and, with a W&B logger, to `previews/<name>`. Nothing is
    drawn from a random generator.
    """

    name: ClassVar[str]

    def __init__(self, count: int = 8, every_n_epochs: int = 1) -> None:
        if count < 1 or every_n_epochs < 1:
            raise ValueError(
                f"{type(self).__name__}: count and every_n_epochs must be at least 1, got {count} and {every_n_epochs}"
            )
        self.count, self.every_n_epochs = count, every_n_epochs
        self._kept: list[Item] = []

    @property
    def key(self) -> str:
        """Where loggers keep the pictures."""
        return f"previews/{self.name}"

    @abstractmethod
    def items(self, outputs: StepOutput, batch: Batch, room: int) -> list[Item]:
        """What is kept of the first `room` images of a batch, on the CPU."""

    @abstractmethod
    def draw(self, items: Sequence[Item], trainer: Trainer, pl_module: LightningModule) -> Picture:
        """One picture of what was kept; the first process draws, as it saves and sends."""

    def save_more(self, trainer: Trainer, folder: Path) -> None:
        """Write what a preview has besides its picture."""

    def send(self, items: Sequence[Item], trainer: Trainer, drawn: Picture) -> None:
        """Hand the picture to W&B."""
        tracking.log_images(trainer, self.key, [drawn])

    def forget(self) -> None:
        """Drop what was kept of the last epoch."""
        self._kept = []

    def watch(self, outputs: StepOutput, batch: Batch) -> None:
        """Look at every batch of an epoch that is drawn."""

    def gather(self) -> list[Item]:
        """The first images of all processes, as one process would see them; nothing but on the first process.

        The evaluation samplers deal the images out in turn.
        """
        turns = zip_longest(*gathered(self._kept))
        return [item for turn in turns for item in turn if item is not None][: self.count]

    def _due(self, trainer: Trainer) -> bool:
        epoch = trainer.current_epoch + 1
        wanted = trainer.state.fn != "fit" or epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs
        return wanted and not trainer.sanity_checking

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self.forget()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # a StepOutput; Lightning's type is wider
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first images."""
        if not self._due(trainer):
            return
        self.watch(outputs, batch)
        room = self.count - len(self._kept)
        if room > 0:
            self._kept += self.items(outputs, batch, room)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save, send."""
        if not self._due(trainer):
            return
        items = self.gather()
        on_first_process(lambda: self._publish(items, trainer, pl_module))
        self.forget()

    def _publish(self, items: Sequence[Item], trainer: Trainer, pl_module: LightningModule) -> None:
        if not items:
            return
        drawn = self.draw(items, trainer, pl_module)
        folder = Path(trainer.default_root_dir) / "previews"
        folder.mkdir(parents=True, exist_ok=True)
        _save(drawn, folder / f"{self.name}-epoch{trainer.current_epoch:03d}.png")
        self.save_more(trainer, folder)
        self.send(items, trainer, drawn)


class Segmented(NamedTuple):
    """An image (3, H, W), its predicted and its true class mask (H, W)."""

    image: Tensor
    pred: Tensor
    target: Tensor
    image_id: str


class SegmentationPreview(Preview[Segmented]):
    """Image, true and predicted class mask side by side; W&B gets native masks that can be switched on and off."""

    name = "segmentation"

    def items(self, outputs: StepOutput, batch: Batch, room: int) -> list[Segmented]:
        """Images and masks."""
        columns = (batch["images"][:room], outputs["preds"][:room], outputs["targets"][:room])
        return list(map(Segmented, *map(kept, columns), outputs["image_ids"][:room]))

    def draw(self, items: Sequence[Segmented], trainer: Trainer, pl_module: LightningModule) -> Picture:
        """Two images a row."""
        label_map = label_map_of(trainer, self)
        return tile([masks_beside_truth(one.image, one.pred, one.target, label_map) for one in items], columns=2)

    def send(self, items: Sequence[Segmented], trainer: Trainer, drawn: Picture) -> None:
        """Images with native masks."""
        pictures, image_ids = [picture(one.image) for one in items], [one.image_id for one in items]
        masks = [{"predictions": one.pred, "ground_truth": one.target} for one in items]
        tracking.log_masks(trainer, self.key, pictures, masks, image_ids, label_map_of(trainer, self))


class MultilabelPreview(Preview[Segmented]):
    """The pixels of each label that is there or found, truth above prediction; W&B gets a native mask for each.

    Predicted and true of an image are label planes (K, H, W). A label is found where its probability is above a half.
    """

    name = "multilabel"

    def items(self, outputs: StepOutput, batch: Batch, room: int) -> list[Segmented]:
        """Images and planes."""
        found = (outputs["preds"][:room] > 0.5).long()
        tensors = (batch["images"][:room].cpu(), found.cpu(), outputs["targets"][:room].cpu())
        return list(map(Segmented, *tensors, outputs["image_ids"][:room]))

    def draw(self, items: Sequence[Segmented], trainer: Trainer, pl_module: LightningModule) -> Picture:
        """An image a row."""
        label_map = label_map_of(trainer, self)
        return tile([labels_below_truth(one.image, one.pred, one.target, label_map) for one in items], columns=1)

    def send(self, items: Sequence[Segmented], trainer: Trainer, drawn: Picture) -> None:
        """Images with native masks."""
        pictures, image_ids = [picture(one.image) for one in items], [one.image_id for one in items]
        label_map = label_map_of(trainer, self)
        masks = [
            {
                f"{who}_{label_map.name(label)}": plane_as_mask(planes[label - label_map.first], label)
                for label in labels_on(one.pred, one.target, label_map)
                for who, planes in (("predicted", one.pred), ("true", one.target))
            }
            for one in items
        ]
        tracking.log_masks(trainer, self.key, pictures, masks, image_ids, label_map)


class Detected(NamedTuple):
    """An image (3, H, W), what was found and what was there."""

    image: Tensor
    found: Detections
    target: DetectionTarget


class DetectionPreview(Preview[Detected]):
    """True boxes beside the predicted ones that reach `score_threshold`, which has nothing to do with evaluation.

    Instance masks, where detections and targets have some, lie over the images in the colours of their classes.
    W&B gets native boxes with class names and scores, and such masks as native class masks.
    """

    name = "detection"

    def __init__(self, count: int = 8, every_n_epochs: int = 1, score_threshold: float = 0.3) -> None:
        super().__init__(count, every_n_epochs)
        self.score_threshold = score_threshold

    def items(self, outputs: StepOutput, batch: Batch, room: int) -> list[Detected]:
        """Images, detections and objects."""
        drawn = [{key: value for key, value in one.items() if key != "file_masks"} for one in outputs["targets"][:room]]
        return list(map(Detected, *map(kept, (batch["images"][:room], outputs["preds"][:room], drawn))))

    def draw(self, items: Sequence[Detected], trainer: Trainer, pl_module: LightningModule) -> Picture:
        """Two images a row."""
        label_map = label_map_of(trainer, self)
        pairs = [
            boxes_beside_truth(one.image, above_score(one.found, self.score_threshold), one.target, label_map)
            for one in items
        ]
        return tile(pairs, columns=2)

    def send(self, items: Sequence[Detected], trainer: Trainer, drawn: Picture) -> None:
        """Images with native boxes and masks."""
        images, found, targets = zip(*items, strict=True)
        pictures = [picture(image) for image in images]
        label_map = label_map_of(trainer, self)
        tracking.log_boxes(trainer, self.key, pictures, found, targets, label_map, self.score_threshold)


class ReconstructionPreview(Preview[dict[str, Tensor]]):
    """Images above their reconstructions, between them what the net saw where that was something else."""

    name = "reconstruction"

    def __init__(self, count: int = 20, every_n_epochs: int = 1) -> None:
        super().__init__(count, every_n_epochs)

    def items(self, outputs: StepOutput, batch: Batch, room: int) -> list[dict[str, Tensor]]:
        """Image, what the net saw, and reconstruction, each by its name."""
        rows = {"image": outputs["targets"], "reconstruction": outputs["preds"]}
        if "inputs" in outputs:
            rows = {"image": outputs["targets"], "shown": outputs["inputs"], "reconstruction": outputs["preds"]}
        columns = zip(*(kept(images[:room]) for images in rows.values()), strict=True)
        return [dict(zip(rows, column, strict=True)) for column in columns]

    def draw(self, items: Sequence[dict[str, Tensor]], trainer: Trainer, pl_module: LightningModule) -> Picture:
        """A grid of columns, one an image."""
        return image_rows({name: torch.stack([one[name] for one in items]) for name in items[0]})


def kept(rows: Any) -> list[Any]:  # Any: one tensor, or lists and dicts of tensors
    """A copy of each row on the CPU: what is left of a view of a batch would keep, and send, the whole batch."""
    return [apply_to_collection(row, Tensor, lambda tensor: tensor.detach().cpu().clone()) for row in rows]


def _save(drawn: Picture, path: Path) -> None:
    """Write beside and rename, so that a kill never leaves half a picture."""
    part = path.with_name(f".{path.stem}.part.png")
    Image.fromarray(drawn).save(part, compress_level=1)
    os.replace(part, path)
