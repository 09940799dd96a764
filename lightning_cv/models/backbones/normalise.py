"""The first layer of a backbone: images of 0 to 1 become what its weights were trained on."""

from collections.abc import Sequence

import torch
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
