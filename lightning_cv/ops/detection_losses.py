"""Losses of anchor-based detectors. Letters: N images, A anchors, K classes beside background 0.

Everything is float32, also under autocast.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_cv.ops.box_losses import BoxLoss, SmoothL1Loss


class AnchorTargets(NamedTuple):
    """What each anchor should say: labels int64 (N, A), 0 for background; deltas (N, A, 4), any value at background."""

    labels: Tensor
    deltas: Tensor


def mine_hard_negatives(losses: Tensor, positives: Tensor, ratio: float = 3.0, minimum: int = 0) -> Tensor:
    """The background anchors that count, bool (N, A): in each image those of highest loss, `ratio` to a positive.

    Liu et al. 2016, section 2.2, "hard negative mining". In the original an image without objects counts no anchor
    and gives no gradient; `minimum` is the least number of negatives an image, 0 as there.
    """
    ranked = losses.detach().masked_fill(positives, -torch.inf)
    rank = ranked.argsort(dim=1, descending=True).argsort(dim=1)  # (N, A): 0 is the hardest
    wanted = (positives.sum(dim=1, keepdim=True) * ratio).clamp(min=minimum)  # (N, 1)
    return (rank < wanted) & ~positives


def ssd_losses(
    logits: Tensor,
    deltas: Tensor,
    targets: AnchorTargets,
    negative_ratio: float = 3.0,
    min_negatives: int = 0,
    box_loss: BoxLoss | None = None,
) -> dict[str, Tensor]:
    """Scalars `class` and `box`, each divided by the batch's number of positive anchors (at least 1).

    Liu et al. 2016, equations 1 to 3: softmax cross entropy over positives and mined negatives; smooth L1 (beta 1)
    summed over the four deltas of the positives, or another loss of their boxes.

    Args:
        logits: (N, A, K + 1), background first.
        deltas: (N, A, 4); here and in the targets, boxes in pixels where `box_loss` compares those.
        targets: what each anchor should say.
        negative_ratio: negatives to a positive, see `mine_hard_negatives`.
        min_negatives: least number of negatives an image.
        box_loss: None is `SmoothL1Loss()`.
    """
    box_loss = SmoothL1Loss() if box_loss is None else box_loss
    with torch.autocast(logits.device.type, enabled=False):
        logits, deltas = logits.float(), deltas.float()
        positives = targets.labels > 0  # (N, A)
        entropy = F.cross_entropy(logits.flatten(0, 1), targets.labels.flatten(), reduction="none")
        entropy = entropy.view_as(targets.labels)  # (N, A)
        counted = positives | mine_hard_negatives(entropy, positives, negative_ratio, min_negatives)
        distance = box_loss(deltas[positives], targets.deltas[positives])
        normaliser = positives.sum().clamp(min=1)
        # both terms touch every prediction, so that a batch without objects leaves no parameter without a gradient
        return {
            "class": (entropy * counted).sum() / normaliser,
            "box": (distance + 0 * deltas.sum()) / normaliser,
        }
