"""Selective search's grouping: neighbouring regions of a picture merge, the most alike first, until one is left.

Uijlings et al. 2013, "Selective search for object recognition", sections 3.1 to 3.3.
Letters: H, W the picture; R initial regions; M = 2R - 1 regions of the hierarchy; E pairs of neighbours; B bins of a
histogram; N boxes. Boxes are x1, y1, x2, y2 in whole pixels, far edge exclusive.
"""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Alike(NamedTuple):
    """What counts for the likeness of two regions, each with weight 1 (equation 6: the a's)."""

    colour: bool
    texture: bool
    size: bool  # small regions merge first
    fill: bool  # regions that fit into each other merge first


class Regions(NamedTuple):
    """The initial regions. Histograms are counts of pixels: those of a union are the exact sums."""

    sizes: Ints  # (R,) pixels
    boxes: Ints  # (R, 4)
    colour: Floats  # (R, B), all channels beside each other
    texture: Floats  # (R, B)
    colour_channels: int
    texture_channels: int
    neighbours: Ints  # (E, 2), the smaller number first


def measure_regions(
    labels: Ints, colour: Ints, texture: Ints, colour_bins: int = 25, texture_bins: int = 10
) -> Regions:
    """Sizes, boxes, histograms and neighbours of regions.

    Args:
        labels: (H, W), the region of each pixel, 0 to R - 1, none without a pixel.
        colour: (C, H, W), the bin of each pixel in each channel.
        texture: (T, H, W), likewise.
        colour_bins, texture_bins: of a channel; 25 and 10 in the paper.
    """
    count = int(labels.max()) + 1
    sizes = np.bincount(labels.ravel(), minlength=count)
    if not sizes.all():
        raise ValueError(f"measure_regions: region {int((sizes == 0).argmax())} of {count} has no pixel")
    return Regions(
        sizes=sizes,
        boxes=_boxes(labels, count),
        colour=_histograms(labels, colour, colour_bins, count),
        texture=_histograms(labels, texture, texture_bins, count),
        colour_channels=len(colour),
        texture_channels=len(texture),
        neighbours=neighbours(labels),
    )


def neighbours(labels: Ints) -> Ints:
    """Pairs of regions that share a pixel's edge, (E, 2), the smaller number first, in rising order.

    >>> neighbours(np.array([[0, 0, 1], [2, 2, 1]])).tolist()
    [[0, 1], [0, 2], [1, 2]]
    """
    count = int(labels.max()) + 1
    sides = ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:]))
    found = []
    for one, other in sides:
        border = one != other
        a, b = one[border], other[border]
        found.append(np.unique(np.minimum(a, b) * count + np.maximum(a, b)))
    pairs = np.unique(np.concatenate(found))
    return np.stack([pairs // count, pairs % count], axis=1)


def _boxes(labels: Ints, count: int) -> Ints:
    height, width = labels.shape
    ys, xs = (np.broadcast_to(axis, labels.shape).ravel() for axis in (np.arange(height)[:, None], np.arange(width)))
    low, high = np.full((2, count), max(height, width)), np.full((2, count), -1)
    for axis, values in enumerate((xs, ys)):
        np.minimum.at(low[axis], labels.ravel(), values)
        np.maximum.at(high[axis], labels.ravel(), values)
    return np.concatenate([low, high + 1]).T.astype(np.int64)


def _histograms(labels: Ints, channels: Ints, bins: int, count: int) -> Floats:
    """Pixels of each region in each bin, (R, channels * bins)."""
    first = labels.ravel() * bins
    counts = [np.bincount(first + channel.ravel(), minlength=count * bins).reshape(count, bins) for channel in channels]
    return np.concatenate(counts, axis=1).astype(np.float64)


def group_regions(regions: Regions, alike: Alike) -> Ints:
    """Boxes of all regions of the hierarchy, (M, 4): the initial ones, then each union in the order of merging.

    The paper's algorithm 1. Of equally alike pairs the one with the smallest numbers merges first; a union's number is
    its place in the result. Regions that touch nothing stay alone.
    """
    count = len(regions.sizes)
    histograms, shares = _room(regions, alike)
    sizes, boxes = np.zeros(2 * count - 1), np.zeros((2 * count - 1, 4))
    sizes[:count], boxes[:count] = regions.sizes, regions.boxes
    whole = float(regions.sizes.sum())

    def likeness(one: int, others: Ints) -> Floats:
        total: Floats = np.minimum(shares[others], shares[one]).sum(axis=1)
        together = sizes[others] + sizes[one]
        if alike.size:
            total += 1 - together / whole
        if alike.fill:
            low, high = np.minimum(boxes[others, :2], boxes[one, :2]), np.maximum(boxes[others, 2:], boxes[one, 2:])
            total += 1 - ((high - low).prod(axis=1) - together) / whole
        return total

    touching: list[set[int]] = [set() for _ in range(2 * count - 1)]
    for one, other in regions.neighbours.tolist():
        touching[one].add(other)
        touching[other].add(one)
    queue = []
    for one in range(count):
        later = np.array([other for other in sorted(touching[one]) if other > one], np.int64)
        queue += [
            (-value, one, other) for value, other in zip(likeness(one, later).tolist(), later.tolist(), strict=True)
        ]
    heapq.heapify(queue)
    gone = [False] * (2 * count - 1)
    new = count
    while queue:
        _, one, other = heapq.heappop(queue)
        if gone[one] or gone[other]:
            continue
        gone[one] = gone[other] = True
        sizes[new] = sizes[one] + sizes[other]
        boxes[new, :2] = np.minimum(boxes[one, :2], boxes[other, :2])
        boxes[new, 2:] = np.maximum(boxes[one, 2:], boxes[other, 2:])
        histograms[new] = histograms[one] + histograms[other]
        shares[new] = histograms[new] / sizes[new]
        near = (touching[one] | touching[other]) - {one, other}
        touching[new] = near
        for region in near:
            touching[region] -= {one, other}
            touching[region].add(new)
        ordered = sorted(near)
        for value, region in zip(likeness(new, np.array(ordered, np.int64)).tolist(), ordered, strict=True):
            heapq.heappush(queue, (-value, region, new))
        new += 1
    return boxes[:new].astype(np.int64)


def _room(regions: Regions, alike: Alike) -> tuple[Floats, Floats]:
    """Weighted counts of the histograms that count, with rows for the unions, and these as shares of a region's pixels.

    A histogram of C channels adds up to 1 over all of them (the paper's L1 norm).
    """
    parts = []
    if alike.colour:
        parts.append(regions.colour / regions.colour_channels)
    if alike.texture:
        parts.append(regions.texture / regions.texture_channels)
    count = len(regions.sizes)
    counts = np.concatenate(parts, axis=1) if parts else np.zeros((count, 0))
    histograms, shares = np.zeros((2, 2 * count - 1, counts.shape[1]))
    histograms[:count], shares[:count] = counts, counts / regions.sizes[:, None]
    return histograms, shares


def by_priority(hierarchies: Sequence[Ints], generator: torch.Generator) -> Ints:
    """The different boxes of several hierarchies (M, 4), likely objects first, (N, 4).

    Section 3.3: a region counts by its place from the top of its hierarchy, 1 for the whole picture, times a random
    number from 0 to 1, so that large regions do not always lead; of equal boxes the first stays.
    """
    if not hierarchies:
        return np.zeros((0, 4), np.int64)
    places = np.concatenate([np.arange(len(boxes), 0, -1) for boxes in hierarchies])
    chance = torch.rand(len(places), generator=generator, dtype=torch.float64).numpy()
    order = np.argsort(places * chance, kind="stable")
    boxes = np.concatenate(hierarchies)[order]
    _, first = np.unique(boxes, axis=0, return_index=True)
    return boxes[np.sort(first)]
