"""What all presets share: their two base classes, what they give, resizing, and boxes back in the file's pixels.

Letters: N objects of an image; H, W the file's size; S the side of a prepared image.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import DetectionSample, DetectionTarget, SegmentationSample

Picture = NDArray[np.uint8]
Boxes = NDArray[np.float32]

MEAN_COLOUR = (124, 116, 104)
"""What fills the outside of a picture: the mean of ImageNet's images, RGB."""


class PreparedDetection(NamedTuple):
    """One image for a net and its objects, boxes in pixels of that image."""

    image: Tensor  # float32 (3, S, S)
    target: DetectionTarget


class PreparedMask(NamedTuple):
    """One image for a net and its class mask."""

    image: Tensor  # float32 (3, H, W)
    mask: Tensor  # int64 (H, W)
    image_id: str


class DetectionTransform(ABC):
    """What prepares detection samples; the base of all presets, by which a configuration knows them."""

    @abstractmethod
    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The prepared sample: a function of both arguments alone."""


class SegmentationTransform(ABC):
    """What prepares segmentation samples; the base of all presets, by which a configuration knows them."""

    @abstractmethod
    def __call__(self, sample: SegmentationSample, seed: int, /) -> PreparedMask:
        """The prepared sample: a function of both arguments alone."""


def image_tensor(image: Picture) -> Tensor:
    """An RGB picture (H, W, 3) of bytes as float32 (3, H, W), 0 to 1.

    numpy divides, not torch: for one image torch's threads cost more than they save, up to 200 times on a busy machine.
    """
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)) / np.float32(255))


def stretch(image: Picture, height: int, width: int) -> Picture:
    """The picture at another size, aspect not kept: area means where it shrinks, linear where it grows."""
    shrinks = height * width < image.shape[0] * image.shape[1]
    return resize(image, height, width, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def restore_boxes(boxes: Tensor, image_size: tuple[int, int], original_size: tuple[int, int]) -> Tensor:
    """Boxes (N, 4) of a stretched image in pixels of its file; sizes are (height, width).

    >>> restore_boxes(torch.tensor([[10.0, 10.0, 20.0, 20.0]]), (100, 100), (50, 200))
    tensor([[20.,  5., 40., 10.]])
    """
    y_scale, x_scale = (o / i for o, i in zip(original_size, image_size, strict=True))
    return boxes * boxes.new_tensor([x_scale, y_scale, x_scale, y_scale])


def resize(image: Picture, height: int, width: int, interpolation: int) -> Picture:
    """The picture at another size."""
    if image.shape[:2] == (height, width):
        return image
    resized: Picture = np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)
    return resized


def prepare(sample: DetectionSample, image: Picture, boxes: Boxes, kept: NDArray[np.int64]) -> PreparedDetection:
    """Image and objects as tensors: `boxes[i]` is that of the sample's object `kept[i]`."""
    target: DetectionTarget = {
        "image_id": sample["image_id"],
        "boxes": torch.from_numpy(boxes.astype(np.float32).reshape(-1, 4)),
        "labels": torch.from_numpy(sample["labels"][kept]),
        "difficult": torch.from_numpy(sample["difficult"][kept]),
        "original_size": (sample["image"].shape[0], sample["image"].shape[1]),
    }
    return PreparedDetection(image_tensor(image), target)


def flip_boxes(boxes: Boxes, width: int) -> Boxes:
    """Boxes of the picture mirrored left to right."""
    flipped = boxes.copy()
    flipped[:, [0, 2]] = width - boxes[:, [2, 0]]
    return flipped


def all_objects(sample: DetectionSample) -> NDArray[np.int64]:
    """Positions (N,) of a sample's objects."""
    return np.arange(len(sample["labels"]))


def prepare_mask(sample: SegmentationSample, image: Picture, mask: NDArray[np.uint8]) -> PreparedMask:
    """Image and mask as tensors."""
    classes = torch.from_numpy(np.ascontiguousarray(mask)).to(torch.int64)
    return PreparedMask(image_tensor(image), classes, sample["image_id"])
