"""Features of regions, read off a map. Letters: N images, R regions of all images, C channels, S cells a side.

Regions are (R, 5): the image's index in the batch, then x1, y1, x2, y2 in pixels of the image. Everything is float32.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align, roi_pool


def with_image_index(boxes: Sequence[Tensor]) -> Tensor:
    """Regions (R, 5) of the boxes (R_i, 4) of each image, in their order.

    >>> with_image_index([torch.zeros(0, 4), torch.tensor([[1.0, 2, 3, 4]])])
    tensor([[1., 1., 2., 3., 4.]])
    """
    index = torch.cat([box.new_full((len(box), 1), number) for number, box in enumerate(boxes)])
    return torch.cat([index, torch.cat(list(boxes))], dim=1).float()


def pool_regions(x: Tensor, regions: Tensor, stride: float, size: int) -> Tensor:
    """The largest value in each of S x S cells of each region, (R, C, S, S), edges rounded to cells of the map.

    Girshick 2015, "Fast R-CNN", section 2.1.

    Args:
        x: map (N, C, H, W).
        regions: (R, 5).
        stride: pixels of the image a cell of the map.
        size: S.
    """
    with torch.autocast(x.device.type, enabled=False):
        pooled: Tensor = roi_pool(x.float(), regions, size, 1 / stride)
    return pooled


def align_regions(
    x: Tensor, regions: Tensor, stride: float, size: int, sampling: int = 2, aligned: bool = False
) -> Tensor:
    """The mean of bilinear samples in each of S x S cells of each region, (R, C, S, S), nothing rounded.

    He et al. 2017, "Mask R-CNN", section 3, "RoIAlign".

    Args:
        x: map (N, C, H, W).
        regions: (R, 5).
        stride: pixels of the image a cell of the map.
        size: S.
        sampling: samples a side of a cell; 0 takes one for each cell of the map that it spans.
        aligned: a value of the map lies at its cell's middle, as in Detectron2; otherwise at its corner, as in the
            first release and in torchvision, which moves everything by half a cell.
    """
    samples = sampling if sampling > 0 else -1
    with torch.autocast(x.device.type, enabled=False):
        if torch.is_deterministic_algorithms_warn_only_enabled():
            # a wish for determinism, not a demand: torchvision would go on in Python, with many times the memory
            pooled: Tensor = torch.ops.torchvision.roi_align(
                x.float(), regions, 1 / stride, size, size, samples, aligned
            )
        else:
            pooled = roi_align(x.float(), regions, size, 1 / stride, samples, aligned)
    return pooled


def pyramid_level(
    boxes: Tensor, strides: Sequence[float], canonical_size: float = 224.0, canonical_stride: float = 16.0
) -> Tensor:
    """Which map of a pyramid each box is read off, int64 (R,): position in `strides`.

    Lin et al. 2017, "Feature pyramid networks", equation 1: a box of 224 x 224 pixels belongs to stride 16, one of
    twice the side to the next coarser map; smaller and larger ones to the finest and the coarsest.

    >>> pyramid_level(torch.tensor([[0.0, 0, 224, 224], [0, 0, 111, 112], [0, 0, 9, 9]]), [4, 8, 16, 32]).tolist()
    [2, 0, 0]
    """
    exact = [math.log2(stride / strides[0]) for stride in strides]
    if exact != list(range(len(strides))):
        raise ValueError(f"pyramid_level: each stride must be twice the one before, got {list(strides)}")
    sides = (boxes[:, 2:] - boxes[:, :2]).float().prod(dim=1).sqrt()  # (R,)
    level = torch.floor(math.log2(canonical_stride) + torch.log2(sides / canonical_size) + 1e-6)
    return (level - math.log2(strides[0])).clamp(0, len(strides) - 1).long()
