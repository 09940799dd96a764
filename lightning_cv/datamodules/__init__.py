"""Data modules by name."""

from lightning_cv.datamodules.base import DataModule
from lightning_cv.datamodules.drawn import DrawnDetectionDataModule, DrawnSegmentationDataModule
from lightning_cv.datamodules.small_images import DigitsDataModule, MNISTDataModule
from lightning_cv.datamodules.voc import VOCDetectionDataModule, VOCSegmentationDataModule

__all__ = [
    "DataModule",
    "DigitsDataModule",
    "DrawnDetectionDataModule",
    "DrawnSegmentationDataModule",
    "MNISTDataModule",
    "VOCDetectionDataModule",
    "VOCSegmentationDataModule",
]
