"""The first layer of a backbone: images of 0 to 1 become what its weights were trained on."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue over ImageNet, 0 to 1 (torchvision's reference training)."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation that goes with it."""


class Normalise(nn.Module):
    """(images - mean) / std by channel, same shape, in channels-last memory, which convolutions are fastest with."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"Normalise: mean and std need one value a channel, std above 0, got {mean} and {std}")
        # kept in checkpoints: a net that is restored without its pretrained weights would not know what they saw
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, H, W)."""
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Images (N, C, H, W) padded with 0 on the right and below, up to sides that are multiples of a number of pixels.

    torchvision's and Detectron2's detectors do so with normalised images, in which 0 is the mean colour: on whole cells
    of the coarsest map, each level of a pyramid is exactly half as wide as the one before.
    """
    below, right = (-side % multiple for side in images.shape[-2:])
    return F.pad(images, (0, right, 0, below)) if below or right else images
