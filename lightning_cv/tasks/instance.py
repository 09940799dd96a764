"""Instance segmentation: detections that carry masks."""

from lightning_cv.tasks.two_stage import TwoStageDetector


class InstanceSegModule(TwoStageDetector):
    """Trains a `Detector` that learns from objects with masks and whose detections have masks: Mask R-CNN."""

    task_name = "instance"
    finds_masks = True
