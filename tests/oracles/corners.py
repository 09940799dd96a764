"""Slow loop versions of corner pooling, targets, losses and pairing, written from the CornerNet paper alone."""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def pool_loop(x: Array, edge: str) -> Array:
    """Each cell of (H, W) the maximum of itself and all cells away from the edge."""
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            part = {"top": x[i:, j], "left": x[i, j:], "bottom": x[: i + 1, j], "right": x[i, : j + 1]}[edge]
            out[i, j] = part.max()
    return out


def least_overlap(height: float, width: float, r: float) -> float:
    """Overlap of a box with the worst of the boxes whose corners are each moved by r along the diagonals."""
    overlaps = []
    for a in (-r, r):
        for b in (-r, r):
            x1, y1, x2, y2 = a, a, width + b, height + b
            if x2 <= x1 or y2 <= y1:
                overlaps.append(0.0)
                continue
            shared = max(0, min(width, x2) - max(0, x1)) * max(0, min(height, y2) - max(0, y1))
            overlaps.append(shared / (width * height + (x2 - x1) * (y2 - y1) - shared))
    return min(overlaps)


def heat_loop(cells: list[tuple[int, int]], radii: list[int], height: int, width: int) -> Array:
    heat = np.zeros((height, width))
    for (x, y), radius in zip(cells, radii, strict=True):
        deviation = (2 * radius + 1) / 6
        for i in range(height):
            for j in range(width):
                if abs(i - y) <= radius and abs(j - x) <= radius:
                    value = math.exp(-((i - y) ** 2 + (j - x) ** 2) / (2 * deviation**2))
                    heat[i, j] = max(heat[i, j], value)
    return heat


def focal_loop(logits: Array, heat: Array, alpha: float = 2.0, beta: float = 4.0) -> float:
    total, corners = 0.0, 0
    for z, y in zip(logits.ravel(), heat.ravel(), strict=True):
        p = 1 / (1 + math.exp(-z))
        if y == 1:
            corners += 1
            total -= (1 - p) ** alpha * math.log(p)
        else:
            total -= (1 - y) ** beta * p**alpha * math.log(1 - p)
    return total / max(1, corners)


def pull_push_loop(first: list[list[float]], second: list[list[float]]) -> tuple[float, float]:
    """Tags of the objects of each image."""
    pull = push = 0.0
    for a, b in zip(first, second, strict=True):
        n = len(a)
        means = [(a[k] + b[k]) / 2 for k in range(n)]
        for k in range(n):
            pull += ((a[k] - means[k]) ** 2 + (b[k] - means[k]) ** 2) / n
            for j in range(n):
                if j != k:
                    push += max(0.0, 1 - abs(means[k] - means[j])) / (n * (n - 1))
    return pull / len(first), push / len(first)


def smooth_l1_loop(values: Array, wanted: Array) -> float:
    total = 0.0
    for value, aim in zip(values.ravel(), wanted.ravel(), strict=True):
        miss = abs(value - aim)
        total += 0.5 * miss**2 if miss < 1 else miss - 0.5
    return total


def peaks_loop(heat: Array) -> list[tuple[float, int, int, int]]:
    """Score, class, y, x of each cell of (K, H, W) that no neighbour exceeds."""
    found = []
    classes, height, width = heat.shape
    for k in range(classes):
        for i in range(height):
            for j in range(width):
                if heat[k, i, j] >= heat[k, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2].max():
                    found.append((float(heat[k, i, j]), k, i, j))
    return sorted(found, reverse=True)


def pairs_loop(
    heat: Array, tags: Array, offsets: Array, top: int, distance: float
) -> list[tuple[float, int, tuple[float, float, float, float]]]:
    """Score, label and box of every pair of one image: heat (2, K, H, W), tags (2, H, W), offsets (2, 2, H, W)."""
    pairs = []
    for a, k, i, j in peaks_loop(heat[0])[:top]:
        for b, other, p, q in peaks_loop(heat[1])[:top]:
            x1, y1 = j + offsets[0, 0, i, j], i + offsets[0, 1, i, j]
            x2, y2 = q + offsets[1, 0, p, q], p + offsets[1, 1, p, q]
            if k == other and abs(tags[0, i, j] - tags[1, p, q]) <= distance and x2 > x1 and y2 > y1:
                pairs.append(((a + b) / 2, k + 1, (x1, y1, x2, y2)))
    return sorted(pairs, reverse=True)
