"""Features of regions, read off a map. Letters: N images, R regions of all images, C channels, S cells a side.

Regions are (R, 5): the image's index in the batch, then x1, y1, x2, y2 in pixels of the image. Everything is float32.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
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

    He et al. 2017, "Mask R-CNN", section 3, "RoIAlign". On a CPU, where there is a number of samples, it is
    `align_on_levels`, whose gradient takes a tenth of the time of torchvision's; elsewhere it is torchvision's.

    Args:
        x: map (N, C, H, W).
        regions: (R, 5).
        stride: pixels of the image a cell of the map.
        size: S.
        sampling: samples a side of a cell; 0 takes one for each cell of the map that it spans.
        aligned: a value of the map lies at its cell's middle, as in Detectron2; otherwise at its corner, as in the
            first release and in torchvision, which moves everything by half a cell.
    """
    if x.device.type == "cpu" and sampling > 0:
        return align_on_levels([x], [stride], regions, regions.new_zeros(len(regions)).long(), size, sampling, aligned)
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


def align_on_levels(
    maps: Sequence[Tensor],
    strides: Sequence[float],
    regions: Tensor,
    level: Tensor,
    size: int,
    sampling: int = 2,
    aligned: bool = False,
) -> Tensor:
    """`align_regions` of several maps at once, (R, C, S, S), as a sum of weighted rows of all maps.

    Args:
        maps: (N, C, H_l, W_l).
        strides: of each map.
        regions: (R, 5).
        level: int64 (R,), the map that each region is read off.
        size, sampling, aligned: see `align_regions`; there is at least one sample.
    """
    with torch.autocast(maps[0].device.type, enabled=False):
        table = torch.cat([x.float().permute(0, 2, 3, 1).flatten(0, 2) for x in maps])  # (T, C), a row a cell
        images = len(maps[0])
        sides = torch.tensor([x.shape[-2:] for x in maps], device=level.device)  # (L, 2)
        begins = images * sides.prod(dim=1).cumsum(0) - images * sides.prod(dim=1)
        scale = torch.tensor([1 / stride for stride in strides], device=level.device)[level][:, None]
        height, width = sides[level].unbind(dim=1)
        shift = 0.5 if aligned else 0.0
        first = regions[:, 1:3] * scale - shift
        lengths = regions[:, 3:] * scale - shift - first
        if not aligned:
            lengths = lengths.clamp(min=1)
        steps = (torch.arange(size * sampling, device=level.device) + 0.5) / (size * sampling)
        places = first[:, :, None] + lengths[:, :, None] * steps  # (R, 2, S * sampling): x, y
        (columns, across), (rows, down) = _neighbours(places[:, 0], width), _neighbours(places[:, 1], height)
        near = 2 * sampling
        rows = (
            begins[level][:, None] + (regions[:, 0].long() * height)[:, None] * width[:, None] + rows * width[:, None]
        )
        index = rows.view(-1, size, 1, near, 1) + columns.view(-1, 1, size, 1, near)  # (R, S, S, near, near)
        weight = down.view(-1, size, 1, near, 1) * across.view(-1, 1, size, 1, near) / sampling**2
        cells: Tensor = _WeightedRows.apply(table, index.flatten(3).flatten(0, 2), weight.flatten(3).flatten(0, 2))
    return cells.view(-1, size, size, table.shape[1]).permute(0, 3, 1, 2)


def _neighbours(places: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Both cells that each place (R, P) lies between, and their weights: (R, 2 P), of `cells` (R,) in a row."""
    last = (cells - 1)[:, None]
    inside = (places >= -1) & (places <= cells[:, None])
    places = places.clamp(min=0)
    low = torch.minimum(places.long(), last)
    share = torch.where(low == last, 0.0, places - low)
    both = torch.stack([low, torch.minimum(low + 1, last)], dim=2)
    weight = torch.stack([1 - share, share], dim=2) * inside[..., None]
    return both.flatten(1), weight.flatten(1)


class _WeightedRows(torch.autograd.Function):
    """Sums (B, C) of K weighted rows each of a table (T, C): `embedding_bag`, whose gradient is one, too."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, weight: Tensor) -> Tensor:  # Any: torch's
        ctx.save_for_backward(index, weight)
        ctx.rows = len(table)
        return F.embedding_bag(index, table, per_sample_weights=weight, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # Any: torch's
        index, weight = ctx.saved_tensors
        order = index.flatten().argsort(stable=True)  # each row of the table, all sums that it is part of
        counts = torch.bincount(index.flatten(), minlength=ctx.rows)
        bags, begins = order // index.shape[1], counts.cumsum(0) - counts
        shares = weight.flatten()[order]
        grown = F.embedding_bag(bags, gradient.contiguous(), begins, per_sample_weights=shares, mode="sum")
        return grown, None, None


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
