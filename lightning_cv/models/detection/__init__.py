"""Detectors."""

from lightning_cv.models.detection.ssd import SSD

__all__ = ["SSD"]
