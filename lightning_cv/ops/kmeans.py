"""Anchors found in the data: k-means of box shapes with the distance 1 - IoU.

Redmon and Farhadi 2017, "YOLO9000", section 2, "Dimension clusters". Letters: N shapes; K anchors.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class KMeansAnchors(NamedTuple):
    """Anchors (K, 2) as width and height, by growing area, and the mean IoU of every shape with its best anchor."""

    anchors: Tensor
    mean_iou: float


def shape_iou(shapes: Tensor, anchors: Tensor) -> Tensor:
    """Intersection over union (N, K) of boxes of the given widths and heights that share their centre.

    >>> shape_iou(torch.tensor([[2.0, 4.0]]), torch.tensor([[4.0, 2.0], [2.0, 2.0]]))
    tensor([[0.3333, 0.5000]])
    """
    overlap = torch.minimum(shapes[:, None], anchors).prod(dim=-1)  # (N, K)
    return overlap / (shapes.prod(dim=-1)[:, None] + anchors.prod(dim=-1) - overlap)


def kmeans_anchors(
    shapes: Tensor, k: int, generator: torch.Generator, restarts: int = 10, rounds: int = 300
) -> KMeansAnchors:
    """The best anchors of several starts.

    Differs from the source: starts are drawn as in k-means++ (Arthur and Vassilvitskii 2007), and an anchor moves to
    its shapes' mean or median only if their IoU grows, so that no round makes the anchors worse.

    Args:
        shapes: widths and heights, (N, 2), above 0, in any unit.
        k: number of anchors.
        generator: draws the starts.
        restarts: number of starts.
        rounds: at most, of each.

    >>> found = kmeans_anchors(torch.tensor([[3.0, 3.0], [8.0, 2.0], [3.0, 3.0]]), 2, torch.Generator().manual_seed(0))
    >>> found.anchors.tolist(), found.mean_iou
    ([[3.0, 3.0], [8.0, 2.0]], 1.0)
    """
    if shapes.ndim != 2 or shapes.shape[1] != 2:
        raise ValueError(f"shapes are widths and heights, (N, 2), got {tuple(shapes.shape)}")
    if not bool((shapes.isfinite() & (shapes > 0)).all()):
        raise ValueError("shapes need widths and heights above 0")
    if not 1 <= k <= len(shapes) or restarts < 1:
        raise ValueError(f"{k} anchors cannot be found in {len(shapes)} shapes with {restarts} restarts")
    exact = shapes.double()  # so that a round's gain is not lost in rounding
    found: list[KMeansAnchors] = []
    for _ in range(restarts):
        *_, last = improving_anchors(exact, start_anchors(exact, k, generator), rounds)
        found.append(last)
    best = max(found, key=lambda one: one.mean_iou)
    by_area = best.anchors.prod(dim=-1).argsort()
    return KMeansAnchors(best.anchors[by_area].to(shapes.dtype), best.mean_iou)


def start_anchors(shapes: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """K of the shapes (K, 2), each drawn with the square of its distance to the nearest before it as weight."""
    chosen = [int(torch.randint(len(shapes), (1,), generator=generator))]
    while len(chosen) < k:
        distance = 1 - shape_iou(shapes, shapes[chosen]).amax(dim=1)  # (N,)
        weight = distance.clamp(min=0).square()
        weight = weight if bool(weight.sum() > 0) else torch.ones_like(weight)  # fewer different shapes than anchors
        chosen.append(int(torch.multinomial(weight, 1, generator=generator)))
    return shapes[chosen]


def improving_anchors(shapes: Tensor, anchors: Tensor, rounds: int) -> Iterator[KMeansAnchors]:
    """The anchors given and those after every round, until none moves; the mean IoU never falls."""
    overlaps, nearest = shape_iou(shapes, anchors).max(dim=1)  # (N,) both
    yield KMeansAnchors(anchors, float(overlaps.mean()))
    for _ in range(rounds):
        moved = torch.stack([_better(shapes[nearest == row], anchor) for row, anchor in enumerate(anchors)])
        if torch.equal(moved, anchors):
            return
        anchors = moved
        overlaps, nearest = shape_iou(shapes, anchors).max(dim=1)
        yield KMeansAnchors(anchors, float(overlaps.mean()))


def _better(members: Tensor, anchor: Tensor) -> Tensor:
    """The anchor, its members' mean or their median, (2,): the first of those with the largest mean IoU."""
    if not len(members):
        return anchor
    candidates = torch.stack([anchor, members.mean(dim=0), members.median(dim=0).values])  # (3, 2)
    return candidates[shape_iou(members, candidates).mean(dim=0).argmax()]
