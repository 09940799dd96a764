"""Losses of masks: modules of (logits, masks) with a scalar value. Letters: N images; K logits a pixel; C classes.

The shapes state the problem, so that net, loss and prediction cannot disagree:

- classes: logits (N, K, H, W), K at least 2, softmax; masks int64 (N, H, W), 0 to K - 1 and VOID.
- binary: logits (N, 1, H, W), sigmoid; masks (N, H, W) of 0, 1 and VOID.
- labels, of which a pixel may have several: logits (N, K, H, W), a sigmoid each; masks (N, K, H, W), bool or of 0, 1
  and VOID, so that a pixel may be void for one label and count for another.

Void pixels are nowhere in value or gradient; where all are void the value is 0, and so is every gradient. Everything is
float32, also under autocast, or float64 where the logits are. Sums go over the batch, not image by image.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.contracts import VOID


@runtime_checkable
class SegmentationLoss(Protocol):
    """What a net for masks is trained to lessen: those below, or any module of another library with this verb."""

    def forward(self, logits: Tensor, masks: Tensor, /) -> Tensor:
        """Scalar of logits (N, K, H, W) and masks (N, H, W)."""
        ...


def predict_masks(logits: Tensor) -> Tensor:
    """Class masks int64 (N, H, W) of logits (N, K, H, W): the best of K classes; of one logit, 1 where it is above 0.

    >>> predict_masks(torch.tensor([[[[0.3, -0.3]]]])).tolist()
    [[[1, 0]]]
    """
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)


class _MaskLoss(nn.Module):
    """Checks the shapes and brings the logits to full precision; `value` is the loss."""

    def forward(self, logits: Tensor, masks: Tensor, /) -> Tensor:
        """Scalar of logits (N, K, H, W) and masks (N, H, W), or (N, K, H, W) for labels."""
        if logits.ndim != 4 or masks.shape not in (logits.shape, logits.shape[:1] + logits.shape[2:]):
            raise ValueError(
                f"{type(self).__name__}: need logits (N, K, H, W) and masks (N, H, W), or (N, K, H, W) for labels, got "
                f"{tuple(logits.shape)} and {tuple(masks.shape)}"
            )
        # nothing below is an operation that autocast takes to half precision
        return self.value(logits if logits.dtype == torch.float64 else logits.float(), masks.long())

    @abstractmethod
    def value(self, logits: Tensor, masks: Tensor) -> Tensor:
        """The loss, of checked shapes and float32 or float64 logits."""


class CrossEntropyLoss(_MaskLoss):
    """Mean cross-entropy of the pixels that count, in nats.

    Binary is the case of two classes whose first has a logit of 0, and so is each of several labels. Differs from
    `torch.nn.CrossEntropyLoss`, whose mean is not a number where all is void.

    Args:
        class_weights: of a pixel by its true class, C numbers (off and on for binary and labels); the mean is weighted.
        label_smoothing: share of the truth that is spread evenly over the C classes (Szegedy et al. 2016, section 7).
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"CrossEntropyLoss: label_smoothing must be 0 or more and below 1, got {label_smoothing}")
        self.label_smoothing = label_smoothing
        # not in checkpoints, which are of the net: the weights are a setting
        self.register_buffer("class_weights", _by_class(class_weights, "class_weights"), persistent=False)

    def value(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Weighted sum by the sum of weights."""
        logits, masks = _as_classes(logits, masks)
        weights = _matching(self.class_weights, logits)
        return _share(self.total(logits, masks, weights), _pixel_weights(weights, masks).sum())

    def total(self, logits: Tensor, masks: Tensor, weights: Tensor | None) -> Tensor:
        """Sum over all pixels that count, of logits and masks as classes."""
        return F.cross_entropy(
            logits, masks, weights, ignore_index=VOID, reduction="sum", label_smoothing=self.label_smoothing
        )


class SummedCrossEntropyLoss(CrossEntropyLoss):
    """Cross-entropy summed over an image's pixels that count, mean over the images; arguments as `CrossEntropyLoss`.

    Shelhamer et al. 2017, section 4.3 ("unnormalized softmax loss"), whose learning rates of 1e-10 and momentum of 0.99
    go with it.
    """

    def value(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Weighted sum by the number of images."""
        images = len(logits)
        logits, masks = _as_classes(logits, masks)
        return self.total(logits, masks, _matching(self.class_weights, logits)) / images


class FocalLoss(_MaskLoss):
    """Mean of alpha_t (1 - p_t)^gamma * -log p_t over the pixels that count, p_t the probability of the truth.

    Lin et al. 2017, equation 5, for two classes; with more, p_t is the softmax's. Differs from the paper, which divides
    by the number of anchors at objects: the mean is that of cross-entropy, which it equals at gamma 0 without alpha.
    Differs from `torchvision.ops.sigmoid_focal_loss`, whose gradient is not a number for gamma below 1 (the paper
    tries 0.1 to 5) at pixels that are right beyond float32.

    Args:
        gamma: how much less easy pixels count, at least 0.
        alpha: weight of a pixel by its true class, C numbers; for binary and labels one number stands for
            (1 - alpha, alpha), the paper's 0.25. The mean is not weighted, as in the paper.
    """

    alpha: Tensor | None

    def __init__(self, gamma: float = 2.0, alpha: float | Sequence[float] | None = None) -> None:
        super().__init__()
        if not gamma >= 0:
            raise ValueError(f"FocalLoss: gamma must be at least 0, got {gamma}")
        self.gamma = gamma
        if isinstance(alpha, int | float):
            alpha = (1 - alpha, alpha)
        self.register_buffer("alpha", _by_class(alpha, "alpha"), persistent=False)

    def value(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Sum by the number of pixels."""
        logits, masks = _as_classes(logits, masks)
        entropy = F.cross_entropy(logits, masks, ignore_index=VOID, reduction="none")  # (N, H, W), 0 where void
        doubt = -torch.expm1(-entropy)  # 1 - p_t, exact near 0
        doubt = doubt.clamp(min=1e-12)  # the slope of doubt**gamma at 0 is infinite for gamma below 1
        terms = _pixel_weights(_matching(self.alpha, logits), masks) * doubt**self.gamma * entropy
        return _share(terms.sum(), (masks != VOID).sum())


class TverskyLoss(_MaskLoss):
    """1 - TP / (TP + alpha FP + beta FN) from probabilities, mean over the classes (or labels) in the truth.

    Salehi et al. 2017, "Tversky loss function for image segmentation", section 2.2. A class without a true pixel in the
    batch has no overlap to speak of and is left out, as it is of the mean IoU; a batch without any gives 0.

    Args:
        alpha: weight of false positives, at least 0.
        beta: weight of false negatives, above 0; the paper's best are 0.3 and 0.7.
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7) -> None:
        super().__init__()
        if not (alpha >= 0 and beta > 0):
            raise ValueError(
                f"{type(self).__name__}: alpha must be at least 0 and beta above 0, got {alpha} and {beta}"
            )
        self.alpha, self.beta = alpha, beta

    def value(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Mean over the classes in the truth."""
        truth, counted = _truth(logits, masks)
        probabilities = _probabilities(logits, masks) * counted  # (N, K, H, W)
        hits, found, wanted = (x.sum(dim=(0, 2, 3)) for x in (probabilities * truth, probabilities, truth))  # (K,)
        present = wanted > 0
        score = hits / (hits + self.alpha * (found - hits) + self.beta * (wanted - hits) + ~present)
        return _share(((1 - score) * present).sum(), present.sum())


class DiceLoss(TverskyLoss):
    """1 - 2 |A B| / (|A| + |B|) from probabilities: `TverskyLoss` at 1/2 and 1/2.

    Milletari et al. 2016, section 3. Differs from the paper: sizes are sums of probabilities, not of their squares.
    """

    def __init__(self) -> None:
        super().__init__(0.5, 0.5)


class JaccardLoss(TverskyLoss):
    """1 - |A B| / |A or B| from probabilities, the soft IoU loss: `TverskyLoss` at 1 and 1.

    Rahman and Wang 2016, "Optimizing intersection-over-union in deep neural networks for image segmentation".
    """

    def __init__(self) -> None:
        super().__init__(1.0, 1.0)


class LovaszLoss(_MaskLoss):
    """The Lovász extension of 1 - IoU, mean over classes: equal to it at masks, convex between them.

    Classes: Lovász-Softmax over those in the truth (Berman et al. 2018, equations 8, 9 and 11). Binary and labels: the
    Lovász hinge (the same with pixel errors max(0, 1 - logit * sign); Yu and Blaschko 2015), where a label that is
    nowhere on costs its worst pixel. Differs from the paper: never image by image.
    """

    def value(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Errors from worst to best, each times what it adds to the Jaccard loss."""
        truth, counted = _truth(logits, masks)
        if _is_softmax(logits, masks):
            errors = (truth.to(logits) - logits.softmax(dim=1)).abs()  # (N, K, H, W)
            kept = truth
        else:
            errors = F.relu(1 - logits * (2 * truth.to(logits) - 1))
            kept = counted
        rows = kept.transpose(0, 1).flatten(1).any(dim=1)  # (K,)
        # void pixels come last with error 0, where they add nothing
        errors = (errors * counted).transpose(0, 1).flatten(1)[rows]  # (K', N*H*W)
        errors, order = errors.sort(dim=1, descending=True)
        steps = jaccard_steps(truth.transpose(0, 1).flatten(1)[rows].gather(1, order))
        return _share((errors * steps.to(errors)).sum(), rows.sum())


class SumOfLosses(nn.Module):
    """Weighted sum of losses of the same logits and masks, such as cross-entropy and Dice.

    Args:
        losses: each a `SegmentationLoss`.
        weights: one for each loss; 1 where None.
    """

    def __init__(self, losses: Sequence[SegmentationLoss], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.weights = [1.0] * len(losses) if weights is None else list(weights)
        if not losses or len(self.weights) != len(losses):
            raise ValueError(f"SumOfLosses: {len(self.weights)} weights for {len(losses)} losses")
        self.losses = nn.ModuleList(cast(Sequence[nn.Module], losses))

    def forward(self, logits: Tensor, masks: Tensor, /) -> Tensor:
        """Scalar of logits (N, K, H, W) and masks (N, H, W)."""
        terms = [weight * loss(logits, masks) for weight, loss in zip(self.weights, self.losses, strict=True)]
        return torch.stack(terms).sum()


def jaccard_steps(truth: Tensor) -> Tensor:
    """What each pixel adds to 1 - IoU when pixels turn wrong in this order, (K, P) of truth bool (K, P).

    Berman et al. 2018, algorithm 1. Differs from it: each step is a quotient, not a difference of neighbours, which in
    float32 is mostly rounding from millions of pixels.

    >>> jaccard_steps(torch.tensor([[True, False, True]])).tolist()
    [[0.5, 0.1666666716337204, 0.3333333432674408]]
    """
    wanted = truth.sum(dim=1, keepdim=True)
    left = wanted - truth.cumsum(dim=1)  # true pixels that are still right
    union = (wanted + (~truth).cumsum(dim=1)).float()
    invented = left / (union * (union - 1).clamp(min=1))
    return torch.where(truth | (union == 1), 1 / union, invented)  # a union of 1 by an invented pixel: IoU falls to 0


def _is_softmax(logits: Tensor, masks: Tensor) -> bool:
    return masks.ndim == 3 and logits.shape[1] > 1


def _as_classes(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (M, C, H, W) and masks (M, H, W) of the same problem: sigmoid(x) is the softmax of 0 and x."""
    if _is_softmax(logits, masks):
        return logits, masks
    logits = F.pad(logits.flatten(0, 1)[:, None], (0, 0, 0, 0, 1, 0))  # (N*K, 2, H, W)
    return logits, masks.reshape(-1, *masks.shape[-2:])


def _probabilities(logits: Tensor, masks: Tensor) -> Tensor:
    return logits.softmax(dim=1) if _is_softmax(logits, masks) else logits.sigmoid()


class _Truth(NamedTuple):
    truth: Tensor  # bool (N, K, H, W)
    counted: Tensor  # bool (N, K, H, W), or (N, 1, H, W) for masks (N, H, W)


def _truth(logits: Tensor, masks: Tensor) -> _Truth:
    softmax = _is_softmax(logits, masks)
    masks = masks if masks.ndim == 4 else masks[:, None]
    on = torch.arange(logits.shape[1], device=masks.device).view(-1, 1, 1) if softmax else 1
    return _Truth(masks == on, masks != VOID)


def _by_class(weights: Sequence[float] | None, name: str) -> Tensor | None:
    if weights is None:
        return None
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ValueError(f"{name} must be finite and at least 0, one of them more, got {list(weights)}")
    return torch.tensor(weights, dtype=torch.float32)


def _matching(weights: Tensor | None, logits: Tensor) -> Tensor | None:
    if weights is not None and len(weights) != logits.shape[1]:
        raise ValueError(f"{len(weights)} class weights for {logits.shape[1]} classes")
    return None if weights is None else weights.to(logits)


def _pixel_weights(weights: Tensor | None, masks: Tensor) -> Tensor:
    """Weight of each pixel by its class, 0 where void, of the shape of the masks (M, H, W)."""
    counted = masks != VOID
    return counted if weights is None else weights[masks.masked_fill(~counted, 0)] * counted


def _share(total: Tensor, amount: Tensor) -> Tensor:
    """The total by the amount; the total itself, which is 0, of nothing."""
    return total / (amount + (amount == 0))
