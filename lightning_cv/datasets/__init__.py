"""Data sets: files in, one typed sample out.

The names below are imported when they are first asked for: fetching needs none of them, nor torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_MODULES = {
    "digits": ("DIGIT_CLASSES", "load_digit_splits"),
    "drawn": ("DRAWN_CLASSES", "DrawnScene", "draw_scene"),
    "errors": ("DataError",),
    "memory": ("InMemoryImages", "stratified_split"),
    "mnist": ("load_mnist", "load_mnist_splits", "read_idx"),
    "voc": ("VOC_CLASSES", "VOCDetection", "VOCSegmentation"),
    "writers": ("write_coco", "write_voc"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
