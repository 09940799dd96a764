"""What Panoptic SegFormer learns from: which query answers for which segment, and how far it is from it.

Li et al. 2022, "Panoptic SegFormer", section 3.5, with the constants of their released code. Letters: N images; Q
queries of an image; G its things; K thing classes, T stuff classes; h, w cells of a mask; H, W of the image in pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from lightning_cv.contracts import PanopticTarget
from lightning_cv.ops.box_losses import GIoULoss
from lightning_cv.ops.mask_losses import (
    box_costs,
    corners,
    dice_cost,
    focal_cost,
    middle_and_size,
    resized_masks,
    squared_dice,
)
from lightning_cv.ops.panoptic import things_of
from lightning_cv.ops.processes import mean_over_processes


class Weights(NamedTuple):
    """Factors on the terms, and on the same terms as costs of an assignment."""

    classes: float = 2.0
    box: float = 5.0
    giou: float = 2.0
    mask: float = 2.0


class Truth(NamedTuple):
    """One image's segments. A crowd is none of them."""

    labels: Tensor  # int64 (G,), 0 to K - 1
    boxes: Tensor  # (G, 4): middle and size, shares of the image
    masks: Tensor  # bool (G, H, W)
    stuff: Tensor  # bool (T, H, W)
    present: Tensor  # bool (T,)


class Counts(NamedTuple):
    """How many segments the terms are divided by, at least 1 each."""

    things: float
    stuff: float


class Pairs(NamedTuple):
    """Queries and the things they answer for, as many of both."""

    queries: Tensor  # int64
    things: Tensor  # int64


def truth_of(target: PanopticTarget, is_thing: Tensor) -> Truth:
    """An image's segments as queries learn them; several segments of one stuff class are one."""
    things = things_of(target, is_thing)
    height, width = target["segments"].shape
    stuff = is_thing.new_zeros(len(is_thing) - int(is_thing.sum()), height, width)  # (T, H, W)
    rows = (~is_thing).cumsum(0) - 1  # (K + T,): of a stuff class its place among them
    labels = target["labels"].tolist()
    for position, label in enumerate(labels, start=1):
        if not is_thing[label] and not target["crowd"][position - 1]:
            stuff[rows[label]] |= target["segments"] == position
    boxes = middle_and_size(things["boxes"], height, width)
    return Truth(things["labels"] - 1, boxes, things["masks"], stuff, stuff.flatten(1).any(dim=1))


def assign(cost: Tensor) -> Pairs:
    """The pairs of least total cost among (Q, G), each query and thing at most once (the Hungarian algorithm).

    >>> assign(torch.tensor([[1.0, 2.0], [0.0, 5.0], [9.0, 9.0]])).queries.tolist()
    [0, 1]
    """
    # a net that diverged must come to the loss, where it is told: scipy refuses such costs
    finite = cost.detach().float().nan_to_num(1e6, 1e6, -1e6).cpu().numpy()
    queries, things = linear_sum_assignment(finite)
    return Pairs(*(torch.as_tensor(part, dtype=torch.int64, device=cost.device) for part in (queries, things)))


def candidates(cost: Tensor, rounds: int, most: int = 100) -> tuple[Pairs, Tensor]:
    """The best pairs, and the queries that `rounds` assignments in turn choose, each among those left over.

    Only these queries come to the mask decoder in training. Differs from the released code where queries run out: no
    query is chosen twice.

    Args:
        cost: (Q, G).
        rounds: at most; fewer where the queries would be more than `most`, yet at least one.
        most: see there.
    """
    left = torch.arange(len(cost), device=cost.device)
    first, chosen = assign(cost), []
    for _ in range(max(1, min(rounds, most // max(cost.shape[1], 1)))):
        pairs = assign(cost[left])
        chosen.append(left[pairs.queries])
        keep = torch.ones(len(left), dtype=torch.bool, device=cost.device)
        keep[pairs.queries] = False
        left = left[keep]
    return first, torch.cat(chosen).sort().values


@torch.no_grad()
def location_cost(logits: Tensor, boxes: Tensor, truth: Truth, weights: Weights) -> Tensor:
    """What each query (Q, K), (Q, 4) would cost as an answer for each thing, (Q, G)."""
    distance, giou = box_costs(boxes, truth.boxes)
    return weights.classes * focal_cost(logits, truth.labels) + weights.box * distance + weights.giou * giou


def location_terms(
    logits: Tensor,
    boxes: Tensor,
    truths: Sequence[Truth],
    pairs: Sequence[Pairs],
    size: tuple[int, int],
    weights: Weights,
    count: float,
) -> dict[str, Tensor]:
    """Scalars `class`, `box` and `giou` of one layer, each divided by the number of things.

    Args:
        logits: (N, Q, K).
        boxes: (N, Q, 4), middle and size.
        truths: of each image.
        pairs: of each image.
        size: H, W.
        weights: factors.
        count: of things.
    """
    wanted = torch.zeros_like(logits)
    for row, truth, (queries, things) in zip(wanted, truths, pairs, strict=True):
        row[queries, truth.labels[things]] = 1
    mine = torch.cat([row[queries] for row, (queries, _) in zip(boxes, pairs, strict=True)])  # (P, 4)
    true = torch.cat([truth.boxes[things] for truth, (_, things) in zip(truths, pairs, strict=True)])
    pixels = boxes.new_tensor([size[1], size[0]] * 2)
    touched = 0 * boxes.sum()
    return {
        "class": weights.classes * sigmoid_focal_loss(logits, wanted, 0.25, 2.0, reduction="sum") / count,
        "box": (weights.box * F.l1_loss(mine, true, reduction="sum") + touched) / count,
        "giou": (weights.giou * GIoULoss()(corners(mine) * pixels, corners(true) * pixels) + touched) / count,
    }


@torch.no_grad()
def mask_pairs(cost: Tensor, masks: Tensor, truth: Truth, weights: Weights) -> Pairs:
    """The queries of the mask decoder that answer for each thing, by their boxes, classes and last masks.

    Differs from the released code, which compares masks at the finest map's size here: it is that of `mask_term`.

    Args:
        cost: (Q, G), see `location_cost`, of these queries.
        masks: (Q, h, w).
        truth: of the image.
        weights: factors.
    """
    size = _learned_size(masks)
    return assign(cost + weights.mask * dice_cost(resized_masks(masks, size), resized_masks(truth.masks, size)))


def mask_term(masks: Sequence[Tensor], rows: Sequence[Tensor], true: Sequence[Tensor], count: float) -> Tensor:
    """The sum over layers of the masks' distances, divided by the number of segments.

    Both are compared at twice the finest map's size.

    Args:
        masks: (N, Q, h, w) of each layer.
        rows: of each image the queries that answer for a segment, int64 (P_i,).
        true: of each image their masks, bool (P_i, H, W).
        count: of the segments.
    """
    size = _learned_size(masks[0])
    wanted = torch.cat([resized_masks(part, size) for part in true])
    total = masks[0].new_zeros(())
    for layer in masks:
        mine = torch.cat([part[row] for part, row in zip(layer, rows, strict=True)])  # (P, h, w)
        # all are touched, so that a batch without things leaves no parameter without a gradient
        total = total + squared_dice(resized_masks(mine, size), wanted).sum() + 0 * layer.sum()
    return total / count


def stuff_class_term(logits: Sequence[Tensor], truths: Sequence[Truth], count: float) -> Tensor:
    """The sum over layers of the focal loss of whether each stuff class is there, by the number of those that are.

    Args:
        logits: (N, T) of each layer.
        truths: of each image.
    """
    present = torch.stack([truth.present for truth in truths]).float()  # (N, T)
    losses = [sigmoid_focal_loss(layer, present, 0.25, 2.0, reduction="sum") for layer in logits]
    total: Tensor = sum(losses, start=present.new_zeros(())) / count
    return total


def count_segments(truths: Sequence[Truth], of_all_processes: bool) -> Counts:
    """Segments of a batch; with `of_all_processes`, the mean of the training processes' batches."""
    present = torch.stack([truth.present for truth in truths])  # (N, T)
    counts = present.new_tensor([sum(len(truth.labels) for truth in truths), 0], dtype=torch.float32)
    counts[1] = present.sum()
    things, stuff = (mean_over_processes(counts) if of_all_processes else counts).clamp(min=1).tolist()
    return Counts(things, stuff)


def _learned_size(masks: Tensor) -> tuple[int, int]:
    return 2 * masks.shape[-2], 2 * masks.shape[-1]
