"""Detection in one pass over the image: SSD, YOLO, CornerNet."""

from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lightning_cv.contracts import DetectionBatch, Detections, Detector
from lightning_cv.ops.box_inference import BoxInference
from lightning_cv.schedules import Schedule
from lightning_cv.tasks.detection import DetectionTask


class SingleStageDetector(DetectionTask):
    """Trains a `Detector` that predicts boxes and classes directly from feature maps, without proposals.

    Args:
        net: a `Detector`.
        optimizer, schedule, lr_scales, decay_scales: see `Task`.
        inference: how validation, tests and predictions look at images, such as `Pooled` over sizes and mirror images,
            see `ops.box_inference`; None is once. It may differ from training to test.
    """

    def __init__(
        self,
        net: Detector,
        optimizer: OptimizerCallable,
        schedule: Schedule | None = None,
        lr_scales: dict[str, float] | None = None,
        decay_scales: dict[str, float] | None = None,
        inference: BoxInference | None = None,
    ) -> None:
        super().__init__(net, optimizer, schedule, lr_scales, decay_scales)
        self.inference = inference
        self.keep_settings()

    def predict_step(self, images: Tensor) -> list[Detections]:
        """One entry an image of (N, 3, H, W), boxes in pixels of it."""
        return self.net.detect(images) if self.inference is None else self.inference(self.net.detect, images)

    def detections(self, batch: DetectionBatch) -> list[Detections]:
        """What the net finds in a batch, one entry an image, boxes in pixels of the images."""
        return self.predict_step(batch["images"])
