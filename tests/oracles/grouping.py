"""Hierarchical grouping from its definition: at each step the likeness of all pairs is worked out from pixels."""

import numpy as np


def grouped(labels, colour, texture, colour_bins, texture_bins, alike):
    """Boxes of the initial regions, then of each union in the order of merging, as lists."""
    masks = {number: labels == number for number in range(labels.max() + 1)}
    boxes, new = [box_of(mask) for mask in masks.values()], len(masks)
    while True:
        pairs = [(a, b) for a in masks for b in masks if a < b and touch(masks[a], masks[b])]
        if not pairs:
            return boxes
        one, other = min(
            pairs,
            key=lambda pair: (
                -likeness(masks[pair[0]], masks[pair[1]], colour, texture, colour_bins, texture_bins, alike),
                pair,
            ),
        )
        masks[new] = masks.pop(one) | masks.pop(other)
        boxes.append(box_of(masks[new]))
        new += 1


def box_of(mask):
    ys, xs = np.nonzero(mask)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def touch(one, other):
    return bool(
        (one[:, 1:] & other[:, :-1]).any()
        or (one[:, :-1] & other[:, 1:]).any()
        or (one[1:] & other[:-1]).any()
        or (one[:-1] & other[1:]).any()
    )


def histogram(mask, channels, bins):
    counts = [[(channel[mask] == value).sum() for value in range(bins)] for channel in channels]
    return np.array(counts, np.float64).ravel() / (len(channels) * mask.sum())


def likeness(one, other, colour, texture, colour_bins, texture_bins, alike):
    total, together = 0.0, one.sum() + other.sum()
    for used, channels, bins in ((alike.colour, colour, colour_bins), (alike.texture, texture, texture_bins)):
        if used:
            total += np.minimum(histogram(one, channels, bins), histogram(other, channels, bins)).sum()
    if alike.size:
        total += 1 - together / one.size
    if alike.fill:
        x1, y1, x2, y2 = box_of(one | other)
        total += 1 - ((x2 - x1) * (y2 - y1) - together) / one.size
    return round(total, 9)  # equally alike pairs must tie, whatever the order of the sums
