"""Classification with localization: the class and the box of the one object of an image."""

from lightning.pytorch import Callback
from torch import Tensor

from lightning_cv.contracts import DetectionBatch
from lightning_cv.tasks.detection import DetectionTask


class LocalizationModule(DetectionTask):
    """Trains a `Detector` whose first detection is its guess: losses of class and box are minimised together.

    Every image must have one object: set `data.single_object`, or `data.max_objects: 1` of drawn scenes. In evaluation
    `LocalizationMetrics` logs accuracy and overlap together.
    """

    task_name = "localization"

    def configure_callbacks(self) -> list[Callback]:
        """None: Lightning asks before it prepares data, so scenes of several objects are refused before they are drawn.

        Raises:
            ValueError: the data module's `max_objects` is above 1.
        """
        most = getattr(getattr(self.trainer, "datamodule", None), "max_objects", 1)
        if most > 1:
            raise ValueError(
                f"data.max_objects is {most}, but localization is of one object an image: set data.max_objects=1"
            )
        return []

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> dict[str, Tensor]:
        """The joint loss of a batch, and its terms under their names."""
        for target in batch["targets"]:
            if len(target["labels"]) > 1:  # an augmentation may leave none
                raise ValueError(
                    f"image {target['image_id']} has {len(target['labels'])} objects; localization is of one object an "
                    "image: set data.single_object (drawn scenes: data.max_objects=1)"
                )
        return super().training_step(batch, batch_idx)
