"""Detectors."""

from lightning_cv.models.detection.cornernet import CornerNet
from lightning_cv.models.detection.ssd import SSD

__all__ = ["SSD", "CornerNet"]
