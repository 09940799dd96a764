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

from lightning_cv.contracts import DetectionSample, DetectionTarget, Placement, SegmentationSample
from lightning_cv.transforms.masks import Lookup, Masks, box_masks, look_up, stretched

Picture = NDArray[np.uint8]
Boxes = NDArray[np.float32]

MEAN_COLOUR = (124, 116, 104)
"""What fills the outside of a picture: the mean of ImageNet's images, RGB."""


class PreparedDetection(NamedTuple):
    """One image for a net and its objects, boxes in pixels of that image."""

    image: Tensor  # float32 (3, S, S)
    target: DetectionTarget


class PreparedMask(NamedTuple):
    """One image for a net and its class mask, or its label planes."""

    image: Tensor  # float32 (3, H, W)
    mask: Tensor  # int64 (H, W), or (K, H, W)
    image_id: str
    original_size: tuple[int, int]  # height and width of the file


class DetectionTransform(ABC):
    """What prepares detection samples; the base of all presets, by which a configuration knows them."""

    @abstractmethod
    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The prepared sample: a function of both arguments alone."""

    def for_batch(self, number: int, seed: int) -> "DetectionTransform":
        """What prepares the batch of this number since training began, in a run with this seed: this, or one like it.

        Images of a batch share a size, so that a preset which changes sizes does it here.
        """
        return self


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


def restore_boxes(boxes: Tensor, placement: Placement) -> Tensor:
    """Boxes (N, 4) of a prepared image in pixels of its file.

    >>> restore_boxes(torch.tensor([[10.0, 10.0, 20.0, 20.0]]), Placement(0.5, 2.0, left=4.0))
    tensor([[12.,  5., 32., 10.]])
    """
    x_scale, y_scale, left, top = placement
    return (boxes - boxes.new_tensor([left, top] * 2)) / boxes.new_tensor([x_scale, y_scale] * 2)


def resize(image: Picture, height: int, width: int, interpolation: int) -> Picture:
    """The picture at another size."""
    if image.shape[:2] == (height, width):
        return image
    resized: Picture = np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)
    return resized


class Moved(NamedTuple):
    """Objects where the new picture shows them: `boxes[i]` and `masks[i]` belong to the sample's object `kept[i]`."""

    boxes: Boxes
    kept: NDArray[np.int64]
    masks: Masks | None = None
    proposals: Boxes | None = None  # (P, 4), all of the sample's


def prepare(
    sample: DetectionSample, image: Picture, objects: Moved, placement: Placement | None = None
) -> PreparedDetection:
    """Image and objects as tensors.

    With a placement, that is in evaluation, masks are given in the pixels of the file, too, for metrics. Without one,
    that is in training, a mask keeps no pixel outside of its box, as a sample that was resampled twice could have some,
    and objects with a mask of no pixels are left out.
    """
    if objects.masks is not None and placement is None:
        objects = _with_pixels(objects)
    kept = objects.kept
    target: DetectionTarget = {
        "image_id": sample["image_id"],
        "boxes": torch.from_numpy(objects.boxes.astype(np.float32).reshape(-1, 4)),
        "labels": torch.from_numpy(sample["labels"][kept]),
        "difficult": torch.from_numpy(sample["difficult"][kept]),
        "original_size": (sample["image"].shape[0], sample["image"].shape[1]),
    }
    if placement is not None:
        target["placement"] = placement
    if "crowd" in sample:
        target["crowd"] = torch.from_numpy(sample["crowd"][kept])
    if "areas" in sample:
        target["areas"] = torch.from_numpy(sample["areas"][kept])
    if "proposals" in sample:
        if objects.proposals is None:
            raise ValueError(
                f"image {sample['image_id']} has proposals, which only DetectionEval, FlipOnly, OriginalSizeEval, "
                "ShorterSideEval and ShorterSideTrain move: use these as transforms"
            )
        target["proposals"] = torch.from_numpy(objects.proposals.astype(np.float32).reshape(-1, 4))
    if objects.masks is not None:
        target["masks"] = torch.from_numpy(objects.masks.copy())  # mirrored, its strides are negative
        if placement is not None:
            target["file_masks"] = torch.from_numpy(sample["masks"][kept])
    return PreparedDetection(image_tensor(image), target)


def _with_pixels(objects: Moved) -> Moved:
    assert objects.masks is not None
    masks = objects.masks & box_masks(objects.boxes, *objects.masks.shape[1:])
    seen = masks.any(axis=(1, 2))
    return Moved(objects.boxes[seen], objects.kept[seen], masks[seen], objects.proposals)


def masks_of(sample: DetectionSample, kept: NDArray[np.int64], lookup: Lookup) -> Masks | None:
    """The masks of some of a sample's objects as a new picture shows them; None where the sample has none."""
    return look_up(sample["masks"][kept], lookup) if "masks" in sample else None


def stretch_objects(sample: DetectionSample, height: int, width: int) -> tuple[Moved, Placement]:
    """All objects in the picture stretched to a size, and where it shows the file."""
    old_height, old_width = sample["image"].shape[:2]
    placement = Placement(width / old_width, height / old_height)
    boxes = _stretched_boxes(sample["boxes"], placement, height, width)
    proposals = _stretched_boxes(sample["proposals"], placement, height, width) if "proposals" in sample else None
    kept = all_objects(sample)
    lookup = Lookup(stretched(old_height, height), stretched(old_width, width))
    return Moved(boxes, kept, masks_of(sample, kept, lookup), proposals), placement


def _stretched_boxes(boxes: Boxes, placement: Placement, height: int, width: int) -> Boxes:
    stretched_boxes = boxes * np.array([placement.x_scale, placement.y_scale] * 2, np.float32)
    return np.clip(stretched_boxes, 0, np.array([width, height] * 2, np.float32))  # rounding may pass the edge


def mirror(image: Picture, objects: Moved) -> tuple[Picture, Moved]:
    """Picture and objects left to right."""
    masks = None if objects.masks is None else objects.masks[:, :, ::-1]
    proposals = None if objects.proposals is None else flip_boxes(objects.proposals, image.shape[1])
    return image[:, ::-1], Moved(flip_boxes(objects.boxes, image.shape[1]), objects.kept, masks, proposals)


def flip_boxes(boxes: Boxes, width: int) -> Boxes:
    """Boxes of the picture mirrored left to right."""
    flipped = boxes.copy()
    flipped[:, [0, 2]] = width - boxes[:, [2, 0]]
    return flipped


def all_objects(sample: DetectionSample) -> NDArray[np.int64]:
    """Positions (N,) of a sample's objects."""
    return np.arange(len(sample["labels"]))


def prepare_mask(sample: SegmentationSample, image: Picture, mask: NDArray[np.uint8]) -> PreparedMask:
    """Image and mask, or the planes (H, W, K) of labels, as tensors."""
    planes = mask if mask.ndim == 2 else mask.transpose(2, 0, 1)
    classes = torch.from_numpy(np.ascontiguousarray(planes)).to(torch.int64)
    height, width = sample["mask"].shape[:2]
    return PreparedMask(image_tensor(image), classes, sample["image_id"], (height, width))
