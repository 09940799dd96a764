"""Data sets: files in, one typed sample out."""

from lightning_cv.datasets.drawn import DRAWN_CLASSES, DrawnScene, draw_scene
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.voc import VOC_CLASSES, VOCDetection, VOCSegmentation
from lightning_cv.datasets.writers import write_coco, write_voc

__all__ = [
    "DRAWN_CLASSES",
    "VOC_CLASSES",
    "DataError",
    "DrawnScene",
    "VOCDetection",
    "VOCSegmentation",
    "draw_scene",
    "write_coco",
    "write_voc",
]
