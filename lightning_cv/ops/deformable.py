"""Attention that reads a few places of each map. Letters: N images; L maps of H, W cells; Q queries; M heads; P places
a map; D channels of a head."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def deformable_attention(values: Tensor, sizes: Sequence[tuple[int, int]], places: Tensor, weights: Tensor) -> Tensor:
    """What each query reads off the maps, (N, Q, M * D): a weighted sum of bilinear samples.

    Zhu et al. 2021, "Deformable DETR", equation 3. A place is a share of the map's sides, the middle of the first cell
    of W lying at 0.5 / W; beyond the map all is 0.

    Args:
        values: (N, S, M, D), the cells of all maps, row by row, one map after the other; S is their number.
        sizes: H, W of each map.
        places: (N, Q, M, L, P, 2) as x, y, 0 to 1 within the maps.
        weights: (N, Q, M, L, P).
    """
    images, _, heads, channels = values.shape
    queries, points = places.shape[1], places.shape[4]
    grids = places.transpose(1, 2).flatten(0, 1) * 2 - 1  # (N * M, Q, L, P, 2)
    read = []
    for level, (part, (height, width)) in enumerate(
        zip(torch.split(values, [h * w for h, w in sizes], dim=1), sizes, strict=True)
    ):
        x = part.permute(0, 2, 3, 1).reshape(images * heads, channels, height, width)
        read.append(F.grid_sample(x, grids[:, :, level], align_corners=False))  # (N * M, D, Q, P)
    shares = weights.transpose(1, 2).reshape(images * heads, 1, queries, len(sizes) * points)
    summed = (torch.cat(read, dim=3) * shares).sum(dim=3)  # (N * M, D, Q)
    return summed.view(images, heads * channels, queries).transpose(1, 2)


def cell_centres(sizes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """The middles of the cells of all maps, (S, 2) as x, y from 0 to 1.

    >>> cell_centres([(1, 2)], torch.device("cpu"))
    tensor([[0.2500, 0.5000],
            [0.7500, 0.5000]])
    """
    centres = []
    for height, width in sizes:
        ys = (torch.arange(height, device=device) + 0.5) / height
        xs = (torch.arange(width, device=device) + 0.5) / width
        centres.append(torch.cartesian_prod(ys, xs).view(-1, 2).flip(-1))
    return torch.cat(centres)


def sine_positions(sizes: Sequence[tuple[int, int]], channels: int, device: torch.device) -> Tensor:
    """Codes of the cells' places, (S, channels): half of them for y, half for x, sines and cosines in turn.

    Carion et al. 2020, "DETR", section 3.2 and its code with "normalize": the middles of the cells as shares of the
    map, times 2 pi, at wavelengths that rise to 10,000 times that.

    Args:
        sizes: H, W of each map.
        channels: a multiple of 4.
        device: where.
    """
    if channels % 4:
        raise ValueError(f"sine_positions: channels must be a multiple of 4, got {channels}")
    half = channels // 2
    wavelengths = 10_000 ** (2 * torch.div(torch.arange(half, device=device), 2, rounding_mode="floor") / half)
    angles = cell_centres(sizes, device)[:, :, None] * (2 * torch.pi) / wavelengths  # (S, 2, half)
    waves = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(2)  # (S, 2, half)
    return waves.flip(1).flatten(1)  # y before x
