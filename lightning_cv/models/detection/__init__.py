"""Detectors."""

from lightning_cv.models.detection.ssd import SSD
from lightning_cv.models.detection.ssd_heads import SharedHead
from lightning_cv.models.detection.ssd_vgg import SSD300, SSD512
from lightning_cv.models.detection.torchvision import TorchvisionDetector

__all__ = ["SSD", "SSD300", "SSD512", "SharedHead", "TorchvisionDetector"]
