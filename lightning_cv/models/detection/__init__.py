"""Detectors."""

from lightning_cv.models.detection.ssd import SSD
from lightning_cv.models.detection.yolo_v1 import YOLOv1
from lightning_cv.models.detection.yolo_v2_tiny import TinyYOLOv2

__all__ = ["SSD", "TinyYOLOv2", "YOLOv1"]
