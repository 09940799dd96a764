"""Data modules by name."""

from lightning_cv.datamodules.base import DataModule, DetectionDataModule
from lightning_cv.datamodules.celeba import CelebADataModule
from lightning_cv.datamodules.coco import CocoDetectionDataModule, CocoPanopticDataModule
from lightning_cv.datamodules.drawn import (
    DrawnDetectionDataModule,
    DrawnMultilabelDataModule,
    DrawnSegmentationDataModule,
)
from lightning_cv.datamodules.drawn_coco import DrawnInstancesDataModule, DrawnPanopticDataModule
from lightning_cv.datamodules.dsprites import DSpritesDataModule
from lightning_cv.datamodules.folder import ImageFolderDataModule
from lightning_cv.datamodules.small_images import DigitsDataModule, FashionMNISTDataModule, MNISTDataModule
from lightning_cv.datamodules.voc import (
    VOCDetectionDataModule,
    VOCInstancesDataModule,
    VOCSegmentationDataModule,
)

__all__ = [
    "CelebADataModule",
    "CocoDetectionDataModule",
    "CocoPanopticDataModule",
    "DSpritesDataModule",
    "DataModule",
    "DetectionDataModule",
    "DigitsDataModule",
    "DrawnDetectionDataModule",
    "DrawnInstancesDataModule",
    "DrawnMultilabelDataModule",
    "DrawnPanopticDataModule",
    "DrawnSegmentationDataModule",
    "FashionMNISTDataModule",
    "ImageFolderDataModule",
    "MNISTDataModule",
    "VOCDetectionDataModule",
    "VOCInstancesDataModule",
    "VOCSegmentationDataModule",
]
