"""Panoptic quality and pictures of segments, thing by thing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from lightning import LightningModule, Trainer
from torch import Tensor

from lightning_cv import tracking
from lightning_cv.callbacks.metrics import DetectionMetrics, EvaluationMetrics, Stage, by_class, is_known, label_map_of
from lightning_cv.callbacks.previews import Batch, Preview, kept
from lightning_cv.contracts import FoundSegments, PanopticTarget, StepOutput
from lightning_cv.metrics.detection import VOCMeanAP
from lightning_cv.metrics.panoptic import PanopticFigures, PanopticImage, PanopticQuality, panoptic_image
from lightning_cv.ops.panoptic import objects_of_segments
from lightning_cv.ops.segments import drop_empty, in_file_pixels
from lightning_cv.viz.canvas import Picture, picture, tile
from lightning_cv.viz.panoptic import segments_beside_truth


def is_thing_of(trainer: Trainer, asking: object) -> tuple[bool, ...]:
    """Which classes of the data in use are things."""
    is_thing = getattr(getattr(trainer, "datamodule", None), "is_thing", None)
    if is_thing is None:
        raise ValueError(f"{type(asking).__name__} needs a data module that tells things and stuff apart by is_thing")
    found: tuple[bool, ...] = is_thing
    return found


class PanopticMetrics(EvaluationMetrics[PanopticQuality]):
    """`val/pq`, `val/sq`, `val/rq`, and each over things and over stuff, as in `val/pq_things`.

    Measured in the pixels of the file, as panopticapi does: the net's segments are brought to the file's size.

    Args:
        per_class: log `val/pq_<class>` too.
    """

    def __init__(self, per_class: bool = False) -> None:
        super().__init__()
        self.per_class = per_class

    def build(self, trainer: Trainer, pl_module: LightningModule) -> PanopticQuality:
        """No images yet."""
        return PanopticQuality(is_thing_of(trainer, self))

    def feed(self, metric: PanopticQuality, outputs: StepOutput, batch: Any) -> None:
        """Count the matches of each image."""
        pairs = [in_one_size(found, target) for found, target in zip(outputs["preds"], outputs["targets"], strict=True)]
        metric.update([found for found, _ in pairs], [truth for _, truth in pairs], outputs["image_ids"])

    def figures(self, metric: PanopticQuality, stage: Stage, trainer: Trainer) -> dict[str, float]:
        """PQ, SQ and RQ."""
        found: PanopticFigures = metric.evaluate_once(metric.quality)
        means = {"": found.all, "_things": found.things, "_stuff": found.stuff}
        figures = {
            f"{name}{which}": getattr(mean, name)
            for which, mean in means.items()
            for name in ("pq", "sq", "rq")
            if which == "" or is_known(getattr(mean, name))
        }
        if self.per_class:
            figures |= by_class("pq", label_map_of(trainer, self), found.pq.tolist())
        return figures


class PanopticInstanceMetrics(DetectionMetrics):
    """What `DetectionMetrics` logs of boxes and masks, of the things that a panoptic net found in the same pass.

    The objects are the true segments of things in the pixels of the file, with the boxes around them: what another
    object hides of one is not part of it, so that figures differ from those of a json of instances. A detection keeps
    what other detections share with it. Arguments as for `DetectionMetrics`.
    """

    def feed(self, metric: VOCMeanAP, outputs: StepOutput, batch: Any) -> None:
        """Keep the instances and true things of a batch."""
        if "instances" not in outputs:
            raise ValueError(
                "PanopticInstanceMetrics needs a task whose steps return instances, such as PanopticModule"
            )
        shape = batch["images"].shape[-2:]
        metric.update(
            outputs["instances"], [objects_of_segments(target, shape) for target in outputs["targets"]], shape
        )


class Divided(NamedTuple):
    """An image (3, H, W), how the net divides it and how it is divided."""

    image: Tensor
    found: FoundSegments
    target: PanopticTarget


class PanopticPreview(Preview[Divided]):
    """Image, true and predicted segments side by side, each thing in a colour of its own.

    W&B gets native class masks, and the boxes around the things with their class names and scores.
    """

    name = "panoptic"

    def items(self, outputs: StepOutput, batch: Batch, room: int) -> list[Divided]:
        """Images and segments, without those of the file, which are not drawn."""
        drawn = [{key: value for key, value in one.items() if key != "file"} for one in outputs["targets"][:room]]
        return list(map(Divided, *map(kept, (batch["images"][:room], outputs["preds"][:room], drawn))))

    def draw(self, items: Sequence[Divided], trainer: Trainer, pl_module: LightningModule) -> Picture:
        """An image a row."""
        label_map, is_thing = label_map_of(trainer, self), is_thing_of(trainer, self)
        return tile([segments_beside_truth(*one, label_map, is_thing) for one in items], columns=1)

    def send(self, items: Sequence[Divided], trainer: Trainer, drawn: Picture) -> None:
        """Images with native masks and boxes."""
        label_map, is_thing = label_map_of(trainer, self), is_thing_of(trainer, self)
        images, found, targets = zip(*items, strict=True)
        pictures = [picture(image) for image in images]
        tracking.log_segments(trainer, self.key, pictures, found, targets, label_map, is_thing)


def in_one_size(found: FoundSegments, target: PanopticTarget) -> tuple[PanopticImage, PanopticImage]:
    """What was found and what was there in the file's pixels, or in those of the image where the file is not given."""
    if "file" in target and "placement" in target:
        truth = panoptic_image(target["file"])
        found = in_file_pixels(found, target["placement"], target["original_size"])
    else:
        truth, found = panoptic_image(target), drop_empty(found)
    labels = found["labels"].cpu().numpy()
    numbers = np.arange(1, len(labels) + 1)
    segments = found["segments"].cpu().numpy()
    return PanopticImage(segments, numbers, labels, np.zeros(len(labels), np.bool_)), truth
