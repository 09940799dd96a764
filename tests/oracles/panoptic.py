"""Panoptic quality in one process as panopticapi computes it: sorted unique pairs of ids, dictionaries and loops.

Also drawn divisions of images to try it on.
"""

from collections import Counter, defaultdict

import numpy as np

PAIR = 1 << 24  # ids have 24 bits


def count_image(true_pixels, true_segments, pixels, segments, tallies):
    """Add one image to `tallies` [category] = [tp, fp, fn, iou]. Segments: {id: (category, crowd)}; 0 is void."""
    areas = dict(zip(*(part.tolist() for part in np.unique(pixels, return_counts=True)), strict=True))
    for number in areas:
        if number != 0 and number not in segments:
            raise KeyError(f"pixels of {number}, which is not listed")
    if set(segments) - set(areas):
        raise KeyError(f"no pixels of {set(segments) - set(areas)}")
    pairs, sizes = np.unique(true_pixels.astype(np.uint64) * PAIR + pixels.astype(np.uint64), return_counts=True)
    shared = {divmod(int(pair), PAIR): int(size) for pair, size in zip(pairs, sizes, strict=True)}
    true_areas = Counter()
    for (true, _), size in shared.items():
        true_areas[true] += size

    matched_true, matched = set(), set()
    for (true, guess), overlap in shared.items():
        if true not in true_segments or guess not in segments:
            continue
        category, crowd = true_segments[true]
        if crowd or category != segments[guess][0]:
            continue
        union = true_areas[true] + areas[guess] - overlap - shared.get((0, guess), 0)
        if overlap / union > 0.5:
            tallies[category][0] += 1
            tallies[category][3] += overlap / union
            matched_true.add(true)
            matched.add(guess)

    crowd_of = {}
    for true, (category, crowd) in true_segments.items():
        if true in matched_true:
            continue
        if crowd:
            crowd_of[category] = true
        else:
            tallies[category][2] += 1
    for guess, (category, _) in segments.items():
        if guess in matched:
            continue
        pardoned = shared.get((0, guess), 0) + shared.get((crowd_of.get(category, -1), guess), 0)
        if pardoned / areas[guess] <= 0.5:
            tallies[category][1] += 1


def averages(tallies, categories):
    """(PQ, SQ, RQ, number) over the given categories, those without a count left out."""
    rows = []
    for category in categories:
        tp, fp, fn, iou = tallies[category]
        if tp + fp + fn > 0:
            weight = tp + fp / 2 + fn / 2
            rows.append((iou / weight, iou / tp if tp else 0.0, tp / weight))
    return (*(sum(column) / len(rows) for column in zip(*rows, strict=True)), len(rows))


def new_tallies():
    return defaultdict(lambda: [0, 0, 0, 0.0])


def draw_image(rng, height, width, classes, regions, patches=0):
    """A division of an image into rectangles painted over one another, and a guess at it.

    Returns true pixels and segments, guessed pixels and segments. A quarter of the true regions is void or crowd; the
    guess moves edges, changes labels, leaves regions void and invents some. `patches` makes edges ragged.
    """
    true_pixels, pixels = np.zeros((height, width), np.int64), np.zeros((height, width), np.int64)
    true_segments, segments = {}, {}
    ids = rng.choice(PAIR - 1, 2 * regions, replace=False) + 1
    for number in range(regions):
        top, left = rng.integers(0, height - 2), rng.integers(0, width - 2)
        bottom, right = top + rng.integers(2, height // 2 + 2), left + rng.integers(2, width // 2 + 2)
        category, kind = int(rng.integers(classes)), rng.random()
        paint(true_pixels, top, left, bottom, right, 0 if kind < 0.1 else ids[number])
        true_segments[int(ids[number])] = (category, bool(0.1 < kind < 0.25))
        if rng.random() < 0.2:
            category = int(rng.integers(classes))
        shift = rng.integers(-1 - height // 40, 2 + height // 40, 4)
        edges = np.array([top, left, bottom, right]) + shift
        chosen = rng.random()
        paint(pixels, *edges.clip(0), 0 if chosen < 0.1 else ids[regions + number])
        segments[int(ids[regions + number])] = (category, False)
    for _ in range(patches):
        row, column = rng.integers(0, height), rng.integers(0, width)
        paint(pixels, row, column, row + rng.integers(1, 6), column + rng.integers(1, 6), rng.choice(ids[regions:]))
    kept = set(np.unique(pixels).tolist())
    true_kept = set(np.unique(true_pixels).tolist())
    return (
        true_pixels,
        {number: entry for number, entry in true_segments.items() if number in true_kept},
        pixels,
        {number: entry for number, entry in segments.items() if number in kept},
    )


def paint(pixels, top, left, bottom, right, value):
    pixels[top:bottom, left:right] = value
