"""Nets for semantic segmentation."""

from lightning_cv.models.segmentation.fcn import FCN

__all__ = ["FCN"]
