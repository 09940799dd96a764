"""Anchors: the boxes that a detector starts from, a few around each cell of each map.

Letters: H, W cells of a map; S shapes a cell. Anchors are x1, y1, x2, y2 in pixels of the image.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor


def cell_centres(height: int, width: int, stride: float) -> Tensor:
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


def grid_anchors(height: int, width: int, stride: float, shapes: Tensor) -> Tensor:
    """Every shape (S, 2) around every cell of one map, (H*W*S, 4): cells row by row, shapes innermost. Not clipped."""
    centres = cell_centres(height, width, stride).to(shapes)[:, None]  # (H*W, 1, 2)
    return torch.cat([centres - shapes / 2, centres + shapes / 2], dim=-1).view(-1, 4)  # (H*W*S, 4)


class AnchorSet(ABC):
    """The anchors of a detector: some shapes around every cell of each of its maps, in pixels."""

    @abstractmethod
    def shapes(self, strides: Sequence[float]) -> list[Tensor]:
        """Width and height of the anchors of each map, (S, 2); the maps' strides are in pixels."""

    def steps(self, strides: Sequence[float]) -> Sequence[float]:
        """Pixels from one cell's anchors to the next, a value a map."""
        return strides

    def __call__(self, sizes: Sequence[tuple[int, int]], strides: Sequence[float]) -> Tensor:
        """Anchors of maps of `sizes` (height, width) in cells, (A, 4): map by map, each as `grid_anchors` says."""
        grids = zip(sizes, self.steps(strides), self.shapes(strides), strict=True)
        return torch.cat([grid_anchors(height, width, step, shapes) for (height, width), step, shapes in grids])


class StrideAnchors(AnchorSet):
    """Anchors whose size is a multiple of their map's stride, as in RetinaNet (Lin et al. 2017b, section 4).

    Args:
        scales: anchor sizes (square root of the area) in strides of the map. Around 3 or more, several cells' anchors
            overlap an object by half, which speeds up learning.
        ratios: width by height of the anchors.
    """

    def __init__(self, scales: Sequence[float] = (2.5, 3.5), ratios: Sequence[float] = (0.5, 1.0, 2.0)) -> None:
        if min(scales, default=0) <= 0 or min(ratios, default=0) <= 0:
            raise ValueError(
                f"StrideAnchors: scales and ratios are above 0 and one of each at least, got {list(scales)} and "
                f"{list(ratios)}"
            )
        self.scales, self.ratios = tuple(scales), tuple(ratios)

    def shapes(self, strides: Sequence[float]) -> list[Tensor]:
        """Every scale at every ratio, scales outermost."""
        return [anchor_shapes([scale * stride for scale in self.scales], self.ratios) for stride in strides]


class DefaultBoxes(AnchorSet):
    """SSD's default boxes: around a cell a square, a larger square, and the first one stretched both ways.

    Liu et al. 2016, section 2.2, in the order of their code. They are not clipped, and their steps are stated, for a
    map without padding has no stride that is exact. Differs from the paper: sizes are in pixels rather than shares of
    the image, so that an image of another size has more boxes, not larger ones.

    Args:
        sizes: s_1 ... s_{m+1}, sides of the squares in pixels: those of map k have s_k and sqrt(s_k s_{k+1}).
        ratios: of each map, above 1: every r gives a box r times as wide as high and one r times as high as wide.
        steps: of each map, in pixels.
    """

    def __init__(self, sizes: Sequence[float], ratios: Sequence[Sequence[float]], steps: Sequence[float]) -> None:
        if not len(sizes) - 1 == len(ratios) == len(steps):
            raise ValueError(
                f"DefaultBoxes: m maps have m + 1 sizes, m lists of ratios and m steps, got {len(sizes)}, "
                f"{len(ratios)} and {len(steps)}"
            )
        if min([*sizes, *steps, *(ratio for row in ratios for ratio in row)]) <= 0:
            raise ValueError("DefaultBoxes: sizes, ratios and steps are above 0")
        self.sizes, self.ratios, self._steps = tuple(sizes), [tuple(row) for row in ratios], tuple(steps)

    def shapes(self, strides: Sequence[float]) -> list[Tensor]:
        """Small square, large square, then wide and high for each ratio."""
        if len(strides) != len(self.ratios):
            raise ValueError(f"DefaultBoxes: stated for {len(self.ratios)} maps, the net has {len(strides)}")
        return [
            torch.cat(
                [
                    anchor_shapes([size, math.sqrt(size * larger)], [1.0]),
                    anchor_shapes([size], [stretch for ratio in row for stretch in (ratio, 1 / ratio)]),
                ]
            )
            for size, larger, row in zip(self.sizes, self.sizes[1:], self.ratios, strict=False)
        ]

    def steps(self, strides: Sequence[float]) -> Sequence[float]:
        """As stated."""
        return self._steps


class RegionAnchors(AnchorSet):
    """Anchors of stated sizes in pixels, as of region proposal networks.

    Ren et al. 2015, section 3.1.1: 9 a cell of one map. With one size a map they are those of Lin et al. 2017, 4.1.

    Args:
        sizes: of each map, square roots of the area in pixels.
        ratios: width by height of the anchors, the same for all maps.
        centre: where in its cell an anchor is centred, in strides: 0.5 is the middle, as in the paper's code, 0 the
            upper left corner, as in torchvision and Detectron2.
        whole: bring sides to even numbers of pixels, as torchvision does.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]] = ((128, 256, 512),),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        centre: float = 0.5,
        whole: bool = False,
    ) -> None:
        if not sizes or min([*ratios, *(min(row, default=0) for row in sizes)], default=0) <= 0 or not ratios:
            raise ValueError(
                f"RegionAnchors: sizes and ratios are above 0, one of each at least for every map, got "
                f"{[list(row) for row in sizes]} and {list(ratios)}"
            )
        self.sizes, self.ratios, self.centre, self.whole = [tuple(row) for row in sizes], tuple(ratios), centre, whole

    def shapes(self, strides: Sequence[float]) -> list[Tensor]:
        """Every size at every ratio, sizes outermost."""
        if len(strides) != len(self.sizes):
            raise ValueError(f"RegionAnchors: sizes are stated for {len(self.sizes)} maps, the net has {len(strides)}")
        shapes = [anchor_shapes(row, self.ratios) for row in self.sizes]
        return [2 * (pairs / 2).round() if self.whole else pairs for pairs in shapes]

    def __call__(self, sizes: Sequence[tuple[int, int]], strides: Sequence[float]) -> Tensor:
        """Anchors of maps of `sizes` (height, width) in cells, (A, 4), about their cells' `centre`."""
        grids = zip(sizes, strides, self.shapes(strides), strict=True)
        return torch.cat(
            [
                grid_anchors(height, width, stride, shapes) - (0.5 - self.centre) * stride
                for (height, width), stride, shapes in grids
            ]
        )
