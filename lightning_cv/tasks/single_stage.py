"""Detection in one pass over the image: SSD, YOLO, CornerNet."""

from lightning_cv.tasks.detection import DetectionTask


class SingleStageDetector(DetectionTask):
    """Trains a `Detector` that predicts boxes and classes directly from feature maps, without proposals."""
