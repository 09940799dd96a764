"""Detectors."""

from lightning_cv.models.detection.cornernet import CornerNet
from lightning_cv.models.detection.sliding_window import CropClassifier, SlidingWindowDetector
from lightning_cv.models.detection.ssd import SSD
from lightning_cv.models.detection.ssd_heads import SharedHead
from lightning_cv.models.detection.ssd_vgg import SSD300, SSD512
from lightning_cv.models.detection.torchvision import TorchvisionDetector
from lightning_cv.models.detection.yolo_v1 import YOLOv1
from lightning_cv.models.detection.yolo_v2_tiny import TinyYOLOv2

__all__ = [
    "SSD",
    "SSD300",
    "SSD512",
    "CornerNet",
    "CropClassifier",
    "SharedHead",
    "SlidingWindowDetector",
    "TinyYOLOv2",
    "TorchvisionDetector",
    "YOLOv1",
]
