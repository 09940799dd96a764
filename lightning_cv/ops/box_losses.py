"""Losses of predicted boxes, one true box each: modules of (predicted, true), both (P, 4). Letters: P pairs.

The value is the sum over the pairs, a scalar, which the caller divides by what it counts; no pair gives 0 with a
gradient. `of_deltas` says what is compared: deltas to anchors, or boxes x1, y1, x2, y2 in pixels. Everything is
float32, also under autocast, or float64 where the predicted are.

Boxes in pixels whose far edge is less than 0.01 px beyond the near one, or before it, count as 0.01 px wide: without an
area the shape term of CIoU is 0 / 0, and GIoU takes a box with its edges swapped for a perfect one.
"""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

_MIN_SIDE = 0.01
"""Pixels: large enough that it is not lost in the rounding of coordinates up to 100 000."""


class BoxLoss(nn.Module):
    """Sum over pairs of a distance between predicted and true boxes.

    Args:
        weight: factor on the value, the alpha of Liu et al. 2016, equation 1.
    """

    of_deltas: ClassVar[bool] = False
    """Whether it compares deltas, each coordinate for itself, rather than boxes in pixels."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        if not 0 <= weight < math.inf:
            raise ValueError(f"{type(self).__name__}: weight must be finite and at least 0, got {weight}")
        self.weight = weight

    def forward(self, predicted: Tensor, true: Tensor, /) -> Tensor:
        """Scalar of predicted and true boxes or deltas (P, 4)."""
        if predicted.shape != true.shape or predicted.shape[1:] != (4,):
            raise ValueError(
                f"{type(self).__name__}: need two of shape (P, 4), got {tuple(predicted.shape)} and {tuple(true.shape)}"
            )
        predicted = predicted if predicted.dtype == torch.float64 else predicted.float()
        true = true.to(predicted)  # nothing below is an operation that autocast takes to half precision
        if not self.of_deltas:
            predicted, true = _with_area(predicted), _with_area(true)
        return self.weight * self.value(predicted, true)

    @abstractmethod
    def value(self, predicted: Tensor, true: Tensor) -> Tensor:
        """The sum, before the weight."""


class SmoothL1Loss(BoxLoss):
    """Quadratic below beta, linear above, summed over the four deltas.

    Girshick 2015, "Fast R-CNN", equation 3, where beta is 1; 0 makes it the plain absolute difference.

    Args:
        beta: where the two meet, in units of the deltas, at least 0.
        weight: factor on the value.
    """

    of_deltas = True

    def __init__(self, beta: float = 1.0, weight: float = 1.0) -> None:
        super().__init__(weight)
        if not beta >= 0:
            raise ValueError(f"SmoothL1Loss: beta must be at least 0, got {beta}")
        self.beta = beta

    def value(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Sum over pairs and deltas."""
        return F.smooth_l1_loss(predicted, true, reduction="sum", beta=self.beta)


class IoULoss(BoxLoss):
    """1 - IoU, 0 to 1 a pair. Boxes that do not touch have no gradient.

    Rezatofighi et al. 2019, equation 1. Differs from Yu et al. 2016 ("UnitBox"), who take -log IoU.
    """

    def value(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Sum over pairs."""
        near = torch.maximum(predicted[:, :2], true[:, :2])
        far = torch.minimum(predicted[:, 2:], true[:, 2:])
        common = (far - near).clamp(min=0).prod(dim=1)  # (P,)
        return (1 - common / (_area(predicted) + _area(true) - common)).sum()


class GIoULoss(BoxLoss):
    """1 - IoU + the share of the enclosing box that neither covers, 0 to 2 a pair.

    Rezatofighi et al. 2019, algorithm 1.
    """

    def value(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Sum over pairs."""
        loss: Tensor = generalized_box_iou_loss(predicted, true, reduction="sum")
        return loss


class DIoULoss(BoxLoss):
    """1 - IoU + squared distance of the centres by the squared diagonal of the enclosing box, 0 to 2 a pair.

    Zheng et al. 2020, equation 7.
    """

    def value(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Sum over pairs."""
        loss: Tensor = distance_box_iou_loss(predicted, true, reduction="sum")
        return loss


class CIoULoss(BoxLoss):
    """The DIoU loss + alpha v, v the squared difference of the diagonals' angles in units of pi / 2.

    Zheng et al. 2020, equations 8 to 11: alpha = v / (1 - IoU + v), a weight without a gradient.
    """

    def value(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Sum over pairs."""
        loss: Tensor = complete_box_iou_loss(predicted, true, reduction="sum")
        return loss


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


def _with_area(boxes: Tensor) -> Tensor:
    near, far = boxes[:, :2], boxes[:, 2:]
    return torch.cat([near, torch.maximum(far, near + _MIN_SIDE)], dim=1)
