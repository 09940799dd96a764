"""Anchors: the boxes that a detector starts from, a few around each cell of each map.

Letters: H, W cells of a map; S shapes a cell. Anchors are x1, y1, x2, y2 in pixels of the image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def cell_centres(height: int, width: int, stride: int) -> Tensor:
    """Pixel position of each cell's centre, (H*W, 2) as (x, y), row by row."""
    ys = (torch.arange(height) + 0.5) * stride
    xs = (torch.arange(width) + 0.5) * stride
    return torch.cartesian_prod(ys, xs).flip(-1)  # (H*W, 2)


def anchor_shapes(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Width and height of every size at every ratio, (S, 2), sizes outermost.

    A size is the square root of the area, a ratio is width by height.

    >>> anchor_shapes([8], [1, 4])
    tensor([[ 8.,  8.],
            [16.,  4.]])
    """
    area_root = torch.tensor(sizes, dtype=torch.float32)
    stretch = torch.tensor(ratios, dtype=torch.float32).sqrt()
    widths = area_root[:, None] * stretch
    heights = area_root[:, None] / stretch
    return torch.stack([widths.flatten(), heights.flatten()], dim=-1)  # (S, 2)


def grid_anchors(height: int, width: int, stride: int, shapes: Tensor) -> Tensor:
    """Every shape (S, 2) around every cell of one map, (H*W*S, 4): cells row by row, shapes innermost. Not clipped."""
    centres = cell_centres(height, width, stride).to(shapes)[:, None]  # (H*W, 1, 2)
    return torch.cat([centres - shapes / 2, centres + shapes / 2], dim=-1).view(-1, 4)  # (H*W*S, 4)
