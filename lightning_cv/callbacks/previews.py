"""Pictures of the same few validation images after every epoch: as PNG beside the run, and to W&B."""

import os
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from lightning_cv import tracking
from lightning_cv.callbacks.metrics import label_map_of
from lightning_cv.contracts import Detections, DetectionTarget, StepOutput
from lightning_cv.viz.boxes import above_score, boxes_beside_truth
from lightning_cv.viz.canvas import Picture, picture, tile
from lightning_cv.viz.masks import masks_beside_truth
from lightning_cv.viz.rows import image_rows

Batch = dict[str, Any]  # Any: a SegmentationBatch, DetectionBatch or ImageBatch, by the kind of problem


class Preview(Callback):
    """Draws the first `count` validation images every `every_n_epochs` epochs, and in the last one.

    The picture goes to `previews/<name>-epochNNN.png` in the trainer's folder and, with a W&B logger, to
    `previews/<name>`. Nothing is drawn from a random generator, and only the first process draws.
    """

    name: ClassVar[str]

    def __init__(self, count: int = 8, every_n_epochs: int = 1) -> None:
        if count < 1 or every_n_epochs < 1:
            raise ValueError(
                f"{type(self).__name__}: count and every_n_epochs must be at least 1, got {count} and {every_n_epochs}"
            )
        self.count, self.every_n_epochs = count, every_n_epochs
        self._seen = 0

    @property
    def key(self) -> str:
        """Where loggers keep the pictures."""
        return f"previews/{self.name}"

    @abstractmethod
    def forget(self) -> None:
        """Drop what was kept of the last epoch."""

    @abstractmethod
    def keep(self, outputs: StepOutput, batch: Batch, room: int) -> None:
        """Keep at most `room` images of a batch."""

    @abstractmethod
    def draw(self, trainer: Trainer, pl_module: LightningModule) -> Picture:
        """One picture of what was kept."""

    def save_more(self, trainer: Trainer, folder: Path) -> None:
        """Write what a preview has besides its picture."""

    def send(self, trainer: Trainer, drawn: Picture) -> None:
        """Hand the picture to W&B."""
        tracking.log_images(trainer, self.key, [drawn])

    def watch(self, outputs: StepOutput, batch: Batch) -> None:
        """Look at every batch of an epoch that is drawn."""

    def _due(self, trainer: Trainer) -> bool:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return False
        epoch = trainer.current_epoch + 1
        return trainer.state.fn != "fit" or epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._seen = 0
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
        room = self.count - self._seen
        if room > 0:
            self.keep(outputs, batch, room)
            self._seen += min(room, len(batch["images"]))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save, send."""
        if not self._due(trainer) or not self._seen:
            return
        drawn = self.draw(trainer, pl_module)
        folder = Path(trainer.default_root_dir) / "previews"
        folder.mkdir(parents=True, exist_ok=True)
        _save(drawn, folder / f"{self.name}-epoch{trainer.current_epoch:03d}.png")
        self.save_more(trainer, folder)
        self.send(trainer, drawn)
        self.forget()


class SegmentationPreview(Preview):
    """Image, true and predicted class mask side by side; W&B gets native masks that can be switched on and off."""

    name = "segmentation"

    def forget(self) -> None:
        """Drop the last epoch's images."""
        self._images: list[Tensor] = []
        self._preds: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._ids: list[str] = []

    def keep(self, outputs: StepOutput, batch: Batch, room: int) -> None:
        """Keep images and masks."""
        self._images += list(batch["images"][:room].cpu())
        self._preds += list(outputs["preds"][:room].cpu())
        self._targets += list(outputs["targets"][:room].cpu())
        self._ids += outputs["image_ids"][:room]

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> Picture:
        """Two images a row."""
        label_map = label_map_of(trainer, self)
        triples = zip(self._images, self._preds, self._targets, strict=True)
        return tile([masks_beside_truth(*triple, label_map) for triple in triples], columns=2)

    def send(self, trainer: Trainer, drawn: Picture) -> None:
        """Images with native masks."""
        pictures = [picture(image) for image in self._images]
        tracking.log_masks(
            trainer, self.key, pictures, self._preds, self._targets, self._ids, label_map_of(trainer, self)
        )


class DetectionPreview(Preview):
    """True boxes beside the predicted ones that reach `score_threshold`, which has nothing to do with evaluation.

    Instance masks, where detections and targets have some, lie over the images in the colours of their classes.
    W&B gets native boxes with class names and scores, and such masks as native class masks.
    """

    name = "detection"

    def __init__(self, count: int = 8, every_n_epochs: int = 1, score_threshold: float = 0.3) -> None:
        super().__init__(count, every_n_epochs)
        self.score_threshold = score_threshold

    def forget(self) -> None:
        """Drop the last epoch's images."""
        self._images: list[Tensor] = []
        self._preds: list[Detections] = []
        self._targets: list[DetectionTarget] = []

    def keep(self, outputs: StepOutput, batch: Batch, room: int) -> None:
        """Keep images, detections and objects."""
        self._images += list(batch["images"][:room].cpu())
        self._preds += outputs["preds"][:room]
        self._targets += outputs["targets"][:room]

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> Picture:
        """Two images a row."""
        label_map = label_map_of(trainer, self)
        pairs = [
            boxes_beside_truth(image, above_score(found, self.score_threshold), target, label_map)
            for image, found, target in zip(self._images, self._preds, self._targets, strict=True)
        ]
        return tile(pairs, columns=2)

    def send(self, trainer: Trainer, drawn: Picture) -> None:
        """Images with native boxes and masks."""
        pictures = [picture(image) for image in self._images]
        label_map = label_map_of(trainer, self)
        tracking.log_boxes(trainer, self.key, pictures, self._preds, self._targets, label_map, self.score_threshold)


class ReconstructionPreview(Preview):
    """Images above their reconstructions, between them what the net saw where that was something else."""

    name = "reconstruction"

    def __init__(self, count: int = 20, every_n_epochs: int = 1) -> None:
        super().__init__(count, every_n_epochs)

    def forget(self) -> None:
        """Drop the last epoch's images."""
        self._rows: dict[str, list[Tensor]] = {}

    def keep(self, outputs: StepOutput, batch: Batch, room: int) -> None:
        """Keep images, what the net saw, and reconstructions."""
        rows = {"image": outputs["targets"], "reconstruction": outputs["preds"]}
        if "inputs" in outputs:
            rows = {"image": outputs["targets"], "shown": outputs["inputs"], "reconstruction": outputs["preds"]}
        for name, images in rows.items():
            self._rows.setdefault(name, []).extend(images[:room].cpu())

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> Picture:
        """A grid of columns, one an image."""
        return image_rows({name: torch.stack(images) for name, images in self._rows.items()})


def _save(drawn: Picture, path: Path) -> None:
    """Write beside and rename, so that a kill never leaves half a picture."""
    part = path.with_name(f".{path.stem}.part.png")
    Image.fromarray(drawn).save(part)
    os.replace(part, path)
