"""Data sets: files in, one typed sample out."""

from lightning_cv.datasets.digits import DIGIT_CLASSES, load_digit_splits
from lightning_cv.datasets.drawn import DRAWN_CLASSES, DrawnScene, draw_scene
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.memory import InMemoryImages, stratified_split
from lightning_cv.datasets.mnist import load_mnist, load_mnist_splits, read_idx
from lightning_cv.datasets.voc import VOC_CLASSES, VOCDetection, VOCSegmentation
from lightning_cv.datasets.writers import write_coco, write_voc

__all__ = [
    "DIGIT_CLASSES",
    "DRAWN_CLASSES",
    "VOC_CLASSES",
    "DataError",
    "DrawnScene",
    "InMemoryImages",
    "VOCDetection",
    "VOCSegmentation",
    "draw_scene",
    "load_digit_splits",
    "load_mnist",
    "load_mnist_splits",
    "read_idx",
    "stratified_split",
    "write_coco",
    "write_voc",
]
