"""Losses of anchor-based detectors. Letters: N images, A anchors, K classes beside background 0.

Everything is float32, also under autocast.
"""

import math
from abc import abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

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


class ClassLoss(nn.Module):
    """Sum over anchors of a distance between logits (N, A, outputs) and labels int64 (N, A), a scalar.

    The caller divides by what it counts. A kind of loss goes with a number of outputs, with scores, and with the bias
    that the last layer starts from.
    """

    initial_bias: float = 0.0

    @abstractmethod
    def outputs(self, num_classes: int) -> int:
        """Logits of an anchor."""

    @abstractmethod
    def scores(self, logits: Tensor) -> Tensor:
        """Scores (..., K), 0 to 1, of logits (..., outputs); column k is label k + 1."""

    @abstractmethod
    def forward(self, logits: Tensor, labels: Tensor, /) -> Tensor:
        """The sum; it depends on every logit, if only by a factor of 0."""


class MinedCrossEntropy(ClassLoss):
    """Softmax cross entropy over K + 1 outputs, background first, of all positives and the hardest negatives.

    Liu et al. 2016, section 2.2 and equation 3.

    Args:
        negative_ratio: negatives to a positive, see `mine_hard_negatives`.
        min_negatives: least number of negatives an image; at 0, as in the paper's code, an image without objects
            teaches nothing.
    """

    def __init__(self, negative_ratio: float = 3.0, min_negatives: int = 0) -> None:
        super().__init__()
        if negative_ratio < 0 or min_negatives < 0:
            raise ValueError(
                f"MinedCrossEntropy: negative_ratio and min_negatives are at least 0, got {negative_ratio} and "
                f"{min_negatives}"
            )
        self.negative_ratio, self.min_negatives = negative_ratio, min_negatives

    def outputs(self, num_classes: int) -> int:
        """K + 1."""
        return num_classes + 1

    def scores(self, logits: Tensor) -> Tensor:
        """Softmax without the background."""
        return logits.float().softmax(dim=-1)[..., 1:]

    def forward(self, logits: Tensor, labels: Tensor, /) -> Tensor:
        """Sum over positives and mined negatives."""
        positives = labels > 0  # (N, A)
        entropy = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)  # (N, A)
        counted = positives | mine_hard_negatives(entropy, positives, self.negative_ratio, self.min_negatives)
        return (entropy * counted).sum()


class SigmoidFocal(ClassLoss):
    """Focal loss of K independent outputs, over all anchors: -alpha_t (1 - p_t)^gamma log p_t.

    Lin et al. 2017b, "Focal loss for dense object detection", equation 5 and section 4.1. Differs from RetinaNet when
    used in `SSD`: an anchor that answers for no object is background, there is no band of ignored overlaps.

    Args:
        alpha: weight of the true class, 1 - alpha of the others.
        gamma: how fast a well-classified anchor stops counting.
        prior: every score before training, which sets the last layer's bias, so that the many background anchors do
            not swamp the first steps.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, prior: float = 0.01) -> None:
        super().__init__()
        if not (0 <= alpha <= 1 and gamma >= 0 and 0 < prior < 1):
            raise ValueError(
                f"SigmoidFocal: alpha from 0 to 1, gamma at least 0 and prior between 0 and 1, got {alpha}, {gamma} "
                f"and {prior}"
            )
        self.alpha, self.gamma = alpha, gamma
        self.initial_bias = -math.log((1 - prior) / prior)

    def outputs(self, num_classes: int) -> int:
        """K."""
        return num_classes

    def scores(self, logits: Tensor) -> Tensor:
        """Sigmoid."""
        return logits.float().sigmoid()

    def forward(self, logits: Tensor, labels: Tensor, /) -> Tensor:
        """Sum over all anchors and classes."""
        wanted = F.one_hot(labels, logits.shape[-1] + 1)[..., 1:].to(logits)  # (N, A, K)
        loss: Tensor = sigmoid_focal_loss(logits, wanted, self.alpha, self.gamma, reduction="sum")
        return loss


def ssd_losses(
    logits: Tensor,
    deltas: Tensor,
    targets: AnchorTargets,
    class_loss: ClassLoss | None = None,
    box_loss: BoxLoss | None = None,
) -> dict[str, Tensor]:
    """Scalars `class` and `box`, each divided by the batch's number of positive anchors (at least 1).

    Liu et al. 2016, equations 1 to 3: by default softmax cross entropy over positives and mined negatives, and smooth
    L1 (beta 1) summed over the four deltas of the positives.

    Args:
        logits: (N, A, outputs of `class_loss`).
        deltas: (N, A, 4); here and in the targets, boxes in pixels where `box_loss` compares those.
        targets: what each anchor should say.
        class_loss: None is `MinedCrossEntropy()`.
        box_loss: None is `SmoothL1Loss()`.
    """
    class_loss = MinedCrossEntropy() if class_loss is None else class_loss
    box_loss = SmoothL1Loss() if box_loss is None else box_loss
    with torch.autocast(logits.device.type, enabled=False):
        logits, deltas = logits.float(), deltas.float()
        positives = targets.labels > 0  # (N, A)
        distance = box_loss(deltas[positives], targets.deltas[positives])
        normaliser = positives.sum().clamp(min=1)
        # both terms touch every prediction, so that a batch without objects leaves no parameter without a gradient
        return {
            "class": class_loss(logits, targets.labels) / normaliser,
            "box": (distance + 0 * deltas.sum()) / normaliser,
        }
