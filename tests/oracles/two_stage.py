"""Slow loop versions of what two-stage detectors do, written from the papers alone."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def rpn_match_loop(overlaps: Floats, positive: float, negative: float) -> list[int]:
    """Anchor by anchor: -1 background, -2 ignored, otherwise the object it overlaps most."""
    objects, anchors = overlaps.shape
    match = []
    for a in range(anchors):
        column = [float(overlaps[g, a]) for g in range(objects)]
        best = max(column, default=0.0)
        forced = any(column[g] > 0 and column[g] == max(overlaps[g]) for g in range(objects))
        if forced or (best > 0 and best >= positive):
            match.append(column.index(best))
        else:
            match.append(-1 if best < negative else -2)
    return match


def region_match_loop(overlaps: Floats, positive: float, low: float, high: float) -> list[int]:
    objects, regions = overlaps.shape
    match = []
    for a in range(regions):
        column = [float(overlaps[g, a]) for g in range(objects)]
        best = max(column, default=0.0)
        if objects and best >= positive:
            match.append(column.index(best))
        else:
            match.append(-1 if low <= best < high else -2)
    return match


def rounded(value: float) -> int:
    """Halves away from zero, as C's `round`."""
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def roi_pool_loop(x: Floats, box: list[float], stride: float, size: int) -> Floats:
    """Fast R-CNN's pooling of one region of a map (C, H, W), in the form of its Caffe layer."""
    channels, height, width = x.shape
    x1, y1, x2, y2 = (rounded(value / stride) for value in box)
    cell_h, cell_w = max(y2 - y1 + 1, 1) / size, max(x2 - x1 + 1, 1) / size
    out = np.zeros((channels, size, size))
    for i in range(size):
        for j in range(size):
            top, bottom = math.floor(i * cell_h) + y1, math.ceil((i + 1) * cell_h) + y1
            left, right = math.floor(j * cell_w) + x1, math.ceil((j + 1) * cell_w) + x1
            top, bottom = max(top, 0), min(bottom, height)
            left, right = max(left, 0), min(right, width)
            if top < bottom and left < right:
                out[:, i, j] = x[:, top:bottom, left:right].max(axis=(1, 2))
    return out


def bilinear(x: Floats, row: float, column: float) -> Floats:
    """Values (C,) between the cells of a map (C, H, W): at its border those of the border, beyond one cell 0."""
    height, width = x.shape[1:]
    if not (-1 <= row <= height and -1 <= column <= width):
        return np.zeros(x.shape[0])
    row, column = min(max(row, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0)
    y, z = int(row), int(column)
    below, right = min(y + 1, height - 1), min(z + 1, width - 1)
    dy, dx = row - y, column - z
    top = x[:, y, z] * (1 - dx) + x[:, y, right] * dx
    bottom = x[:, below, z] * (1 - dx) + x[:, below, right] * dx
    return np.asarray(top * (1 - dy) + bottom * dy)


def roi_align_loop(x: Floats, box: list[float], stride: float, size: int, sampling: int, aligned: bool) -> Floats:
    """Mask R-CNN's RoIAlign of one region of a map (C, H, W)."""
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (value / stride - shift for value in box)
    height, width = y2 - y1, x2 - x1
    if not aligned:
        height, width = max(height, 1.0), max(width, 1.0)
    cell_h, cell_w = height / size, width / size
    out = np.zeros((x.shape[0], size, size))
    for i in range(size):
        for j in range(size):
            values = [
                bilinear(x, y1 + (i + (a + 0.5) / sampling) * cell_h, x1 + (j + (b + 0.5) / sampling) * cell_w)
                for a in range(sampling)
                for b in range(sampling)
            ]
            out[:, i, j] = np.mean(values, axis=0)
    return out


def paste_loop(square: Floats, box: list[float], height: int, width: int) -> Floats:
    """Probability of each pixel: that of the square at the pixel's middle, with zeros around the square."""
    side = len(square)
    padded = np.zeros((side + 4, side + 4))
    padded[2:-2, 2:-2] = square
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            row = (y + 0.5 - box[1]) / (box[3] - box[1]) * side - 0.5
            column = (x + 0.5 - box[0]) / (box[2] - box[0]) * side - 0.5
            if -2 < row < side + 1 and -2 < column < side + 1:
                out[y, x] = bilinear(padded[None], row + 2, column + 2)[0]
    return out


def whole_pixel_paste_loop(square: Floats, box: list[float], height: int, width: int) -> Floats:
    """Probability of each pixel: the square with a border of zeros, stretched over its enlarged, whole-pixel box."""
    side = len(square)
    padded = np.zeros((side + 2, side + 2))
    padded[1:-1, 1:-1] = square
    half_w, half_h = (box[2] - box[0]) / 2 * (side + 2) / side, (box[3] - box[1]) / 2 * (side + 2) / side
    cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    x1, y1, x2, y2 = (math.trunc(v) for v in (cx - half_w, cy - half_h, cx + half_w, cy + half_h))
    out = np.zeros((height, width))
    for y in range(max(y1, 0), min(y2 + 1, height)):
        for x in range(max(x1, 0), min(x2 + 1, width)):
            row = (y - y1 + 0.5) * (side + 2) / max(y2 - y1 + 1, 1) - 0.5
            column = (x - x1 + 0.5) * (side + 2) / max(x2 - x1 + 1, 1) - 0.5
            out[y, x] = bilinear(padded[None], max(row, 0.0), max(column, 0.0))[0]
    return out


def rpn_anchors_loop(cells: tuple[int, int], stride: int, sizes: list[float], ratios: list[float]) -> list[Any]:
    """Cell by cell, size by size, ratio by ratio, around the cells' middles."""
    boxes = []
    for i in range(cells[0]):
        for j in range(cells[1]):
            for size in sizes:
                for ratio in ratios:
                    w, h = size * math.sqrt(ratio), size / math.sqrt(ratio)
                    cx, cy = (j + 0.5) * stride, (i + 0.5) * stride
                    boxes.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    return boxes
