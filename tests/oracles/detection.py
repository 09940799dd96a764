"""Slow loop versions of the detection ops, written from the papers alone."""

import math

import numpy as np
from numpy.typing import NDArray


def iou_of(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    overlap = width * height
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def bipartite_loop(overlaps: NDArray[np.float64]) -> list[int]:
    """The best pair of a free object and a free anchor, again and again, while one overlaps."""
    objects, anchors = overlaps.shape
    match = [-1] * anchors
    free = set(range(objects))
    while free:
        best = (0.0, -1, -1)
        for g in free:
            for a in range(anchors):
                if match[a] == -1 and overlaps[g, a] > best[0]:
                    best = (float(overlaps[g, a]), g, a)
        if best[1] == -1:
            break
        match[best[2]] = best[1]
        free.remove(best[1])
    return match


def ssd_loop(overlaps: NDArray[np.float64], threshold: float) -> list[int]:
    match = bipartite_loop(overlaps)
    for a in range(overlaps.shape[1]):
        if match[a] != -1 or overlaps.shape[0] == 0:
            continue
        g = max(range(overlaps.shape[0]), key=lambda g: overlaps[g, a])
        if overlaps[g, a] >= threshold:
            match[a] = g
    return match


def mining_loop(losses: list[list[float]], positive: list[list[bool]], ratio: int, minimum: int) -> list[list[bool]]:
    chosen = []
    for row, marks in zip(losses, positive, strict=True):
        background = sorted((a for a in range(len(row)) if not marks[a]), key=lambda a: -row[a])
        wanted = max(ratio * sum(marks), minimum)
        chosen.append([a in background[:wanted] for a in range(len(row))])
    return chosen


def ssd_losses_loop(
    logits: list[list[list[float]]],
    deltas: list[list[list[float]]],
    labels: list[list[int]],
    wanted: list[list[list[float]]],
    ratio: int,
) -> tuple[float, float]:
    """Class and box loss, anchor by anchor."""
    entropies = []
    for image, truth in zip(logits, labels, strict=True):
        entropies.append(
            [math.log(sum(math.exp(v) for v in row)) - row[t] for row, t in zip(image, truth, strict=True)]
        )
    positive = [[t > 0 for t in truth] for truth in labels]
    chosen = mining_loop(entropies, positive, ratio, 0)
    classes = boxes = 0.0
    for n, truth in enumerate(labels):
        for a, label in enumerate(truth):
            if label > 0 or chosen[n][a]:
                classes += entropies[n][a]
            if label > 0:
                for value, aim in zip(deltas[n][a], wanted[n][a], strict=True):
                    miss = abs(value - aim)
                    boxes += 0.5 * miss**2 if miss < 1 else miss - 0.5
    count = max(1, sum(sum(marks) for marks in positive))
    return classes / count, boxes / count


def decode_one(deltas: list[float], anchor: list[float], scale: list[float]) -> list[float]:
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    cx = (anchor[0] + anchor[2]) / 2 + deltas[0] * scale[0] * width
    cy = (anchor[1] + anchor[3]) / 2 + deltas[1] * scale[1] * height
    w = width * math.exp(deltas[2] * scale[2])
    h = height * math.exp(deltas[3] * scale[3])
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


def nms_loop(
    boxes: list[list[float]], scores: list[list[float]], threshold: float, overlap: float, before: int, after: int
) -> list[tuple[float, int, int]]:
    """Kept (score, label, candidate), best first: each class thinned by itself."""
    kept = []
    for k in range(len(scores[0]) if scores else 0):
        ranked = sorted((a for a in range(len(boxes)) if scores[a][k] > threshold), key=lambda a: -scores[a][k])
        mine: list[int] = []
        for a in ranked[:before]:
            if all(iou_of(boxes[a], boxes[b]) <= overlap for b in mine):
                mine.append(a)
        kept += [(scores[a][k], k + 1, a) for a in mine]
    return sorted(kept, reverse=True)[:after]


def focal_loop(logits: list[list[list[float]]], labels: list[list[int]], alpha: float, gamma: float) -> float:
    """Sum over anchors and classes of -alpha_t (1 - p_t)^gamma log p_t; output k belongs to label k + 1."""
    total = 0.0
    for image, truth in zip(logits, labels, strict=True):
        for row, label in zip(image, truth, strict=True):
            for k, logit in enumerate(row):
                p = 1 / (1 + math.exp(-logit))
                p_t, weight = (p, alpha) if label == k + 1 else (1 - p, 1 - alpha)
                total -= weight * (1 - p_t) ** gamma * math.log(p_t)
    return total


def default_boxes_loop(
    cells: list[int], sizes: list[float], ratios: list[list[float]], steps: list[float]
) -> list[list[float]]:
    """SSD's boxes map by map, cell by cell: small square, large square, wide and high for each ratio."""
    boxes = []
    for k, count in enumerate(cells):
        shapes = [(sizes[k], sizes[k]), (math.sqrt(sizes[k] * sizes[k + 1]),) * 2]
        for ratio in ratios[k]:
            root = math.sqrt(ratio)
            shapes += [(sizes[k] * root, sizes[k] / root), (sizes[k] / root, sizes[k] * root)]
        for i in range(count):
            for j in range(count):
                cx, cy = (j + 0.5) * steps[k], (i + 0.5) * steps[k]
                boxes += [[cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2] for w, h in shapes]
    return boxes


def agnostic_nms_loop(boxes: list[list[float]], scores: list[float], overlap: float) -> list[int]:
    kept: list[int] = []
    for a in sorted(range(len(boxes)), key=lambda a: -scores[a]):
        if all(iou_of(boxes[a], boxes[b]) <= overlap for b in kept):
            kept.append(a)
    return kept


def suppressor_loop(boxes: list[list[float]], scores: list[float], labels: list[int], overlap: float) -> list[int]:
    """For each box the first kept box of its class that overlaps it too much, -1 where it stays."""
    by = [-1] * len(boxes)
    kept: list[int] = []
    for a in sorted(range(len(boxes)), key=lambda a: -scores[a]):
        by[a] = next((b for b in kept if labels[a] == labels[b] and iou_of(boxes[a], boxes[b]) > overlap), -1)
        if by[a] == -1:
            kept.append(a)
    return by


def soft_nms_loop(
    boxes: list[list[float]], scores: list[float], labels: list[int], gaussian: bool, parameter: float, least: float
) -> list[tuple[float, int]]:
    """Score and number of each box that is left, best first: each class by itself, as in figure 2 of the paper."""
    found = []
    for label in sorted(set(labels)):
        left = {a: scores[a] for a in range(len(boxes)) if labels[a] == label and scores[a] > least}
        while left:
            best = max(left, key=lambda a: left[a])
            if left[best] > least:
                found.append((left[best], best))
            del left[best]
            for a in left:
                share = iou_of(boxes[a], boxes[best])
                if gaussian:
                    left[a] *= math.exp(-(share**2) / parameter)
                elif share > parameter:
                    left[a] *= 1 - share
    return sorted(found, reverse=True)
