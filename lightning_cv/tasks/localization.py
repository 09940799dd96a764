"""Classification with localization: the class and the box of the one object of an image."""

from torch import Tensor

from lightning_cv.contracts import DetectionBatch
from lightning_cv.tasks.detection import DetectionTask


class LocalizationModule(DetectionTask):
    """Trains a `Detector` whose first detection is its guess: losses of class and box are minimised together.

    Every image must have one object: set `data.single_object`, or `data.max_objects: 1` of drawn scenes. In evaluation
    `LocalizationMetrics` logs accuracy and overlap together.
    """

    task_name = "localization"

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> dict[str, Tensor]:
        """The joint loss of a batch, and its terms under their names."""
        for target in batch["targets"]:
            if len(target["labels"]) > 1:  # an augmentation may leave none
                raise ValueError(
                    f"image {target['image_id']} has {len(target['labels'])} objects; localization is of one object an "
                    "image: set data.single_object"
                )
        return super().training_step(batch, batch_idx)
