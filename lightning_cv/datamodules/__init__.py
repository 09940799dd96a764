"""Data modules by name."""

from lightning_cv.datamodules.base import DataModule
from lightning_cv.datamodules.drawn import DrawnDetectionDataModule, DrawnSegmentationDataModule
from lightning_cv.datamodules.voc import VOCDetectionDataModule, VOCSegmentationDataModule

__all__ = [
    "DataModule",
    "DrawnDetectionDataModule",
    "DrawnSegmentationDataModule",
    "VOCDetectionDataModule",
    "VOCSegmentationDataModule",
]
