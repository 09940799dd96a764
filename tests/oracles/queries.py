"""Matching of queries to segments, and their losses, one pair after the other in numbers of Python."""

import math
from itertools import permutations


def best_pairs(cost):
    """The pairs of least total cost among rows (queries) and columns (things), by trying all of them."""
    rows, columns = len(cost), len(cost[0]) if cost else 0
    if rows >= columns:
        tried = (list(zip(chosen, range(columns), strict=True)) for chosen in permutations(range(rows), columns))
    else:
        tried = (list(zip(range(rows), chosen, strict=True)) for chosen in permutations(range(columns), rows))
    return min(tried, key=lambda pairs: sum(cost[q][g] for q, g in pairs))


def focal(logit, wanted, alpha=0.25, gamma=2.0):
    p = 1 / (1 + math.exp(-logit))
    if wanted:
        return -alpha * (1 - p) ** gamma * math.log(p)
    return -(1 - alpha) * p**gamma * math.log(1 - p)


def sigmoid_cost(logit):
    return focal(logit, True) - focal(logit, False)


def l1(box, true):
    return sum(abs(a - b) for a, b in zip(box, true, strict=True))


def giou(box, true):
    """Of boxes as middle and size."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = (
        (x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (box, true)
    )
    common = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - common
    around = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
    return common / union - (around - union) / around


def dice(mask, true):
    """Distance of two masks, lists of rows."""
    p, t = [v for row in mask for v in row], [float(v) for row in true for v in row]
    both = sum(a * b for a, b in zip(p, t, strict=True))
    return 1 - 2 * both / (sum(a * a for a in p) + sum(b * b for b in t) + 2e-6)
