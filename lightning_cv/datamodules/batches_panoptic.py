"""Prepared panoptic samples to batches. Letters: N images of a batch; H, W the size they share."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_cv.contracts import PanopticBatch, PanopticTarget
from lightning_cv.transforms import MEAN_COLOUR
from lightning_cv.transforms.panoptic import PreparedPanoptic

MULTIPLE = 32
"""Both sides of a batch are multiples of it, so that each level of a pyramid of features halves the one before."""


def pad_images(images: list[Tensor]) -> Tensor:
    """Images (N, 3, H, W), each at the upper left of its place, the rest of the mean colour; H, W multiples of 32."""
    height, width = (-(-max(image.shape[axis] for image in images) // MULTIPLE) * MULTIPLE for axis in (1, 2))
    colour = torch.tensor(MEAN_COLOUR).view(3, 1, 1) / 255
    batch = colour.expand(len(images), 3, height, width).contiguous()
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch


def collate_panoptic(samples: list[PreparedPanoptic]) -> PanopticBatch:
    """A batch of the largest height and width among its images, up to a multiple of 32; the rest is void."""
    images = pad_images([sample.image for sample in samples])
    height, width = images.shape[2:]
    return {"images": images, "targets": [_padded(sample.target, height, width) for sample in samples]}


def _padded(target: PanopticTarget, height: int, width: int) -> PanopticTarget:
    rows, columns = target["segments"].shape
    padded = target.copy()
    padded["segments"] = pad(target["segments"], (0, width - columns, 0, height - rows))
    return padded
