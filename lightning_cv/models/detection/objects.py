"""What a two-stage net learns from of one image."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_cv.contracts import DetectionTarget


class Objects(NamedTuple):
    """The objects of an image that count, G of them, and how much of the padded image is picture."""

    image_id: str
    boxes: Tensor  # (G, 4)
    labels: Tensor  # int64 (G,), 1 to K
    masks: Tensor | None  # bool (G, H, W)
    size: tuple[int, int]  # height and width


def objects_of(target: DetectionTarget, images: Tensor, train_on_difficult: bool) -> Objects:
    """The objects of one target. A crowd is a region of many objects and counts for none.

    Args:
        target: of an image of `images`.
        images: the batch (N, 3, H, W).
        train_on_difficult: whether VOC's difficult objects count.
    """
    wanted = torch.ones_like(target["difficult"]) if train_on_difficult else ~target["difficult"]
    if "crowd" in target:
        wanted = wanted & ~target["crowd"]
    return Objects(
        target["image_id"],
        target["boxes"][wanted],
        target["labels"][wanted],
        target["masks"][wanted] if "masks" in target else None,
        target.get("shown", (images.shape[-2], images.shape[-1])),
    )


def whole_sizes(images: Tensor) -> list[tuple[int, int]]:
    """Height and width of each of the images (N, 3, H, W), where no target says how much of it is padding."""
    return [(images.shape[-2], images.shape[-1])] * len(images)
