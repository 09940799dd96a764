"""How far proposed masks are from true ones, and what it would cost to take one for the other.

Letters: Q proposals and G true segments of an image; P pairs; h, w cells of a mask. Everything is float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou

EPSILON = 1e-6


def squared_dice(masks: Tensor, true: Tensor) -> Tensor:
    """Distance (P,), 0 to 1, of masks (P, h, w), at least 0, from true ones: 1 - 2 sum pt / (sum p^2 + sum t^2).

    Milletari et al. 2016, "V-Net", equation 2.

    >>> squared_dice(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1.0, 0.0]]]))
    tensor([0.3333])
    """
    p, t = masks.flatten(1), true.flatten(1)
    return 1 - 2 * (p * t).sum(1) / (p.square().sum(1) + t.square().sum(1) + 2 * EPSILON)


def dice_cost(masks: Tensor, true: Tensor) -> Tensor:
    """`squared_dice` of every pair, (Q, G), of masks (Q, h, w) and (G, h, w)."""
    p, t = masks.flatten(1), true.flatten(1)
    return 1 - 2 * (p @ t.T) / (p.square().sum(1)[:, None] + t.square().sum(1) + 2 * EPSILON)


def focal_cost(logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """What it would change of the focal loss to call each proposal an object's class, (Q, G).

    Zhu et al. 2021, "Deformable DETR", as in their code. Lower is better, below 0 where the class is likely.

    Args:
        logits: (Q, K).
        labels: int64 (G,), 0 to K - 1.
        alpha, gamma: of the focal loss (Lin et al. 2017b).
    """
    p = logits.float().sigmoid()[:, labels]  # (Q, G)
    wanted = alpha * (1 - p) ** gamma * -(p + 1e-8).log()
    unwanted = (1 - alpha) * p**gamma * -(1 - p + 1e-8).log()
    return wanted - unwanted


def box_costs(boxes: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """L1 distance and negative GIoU of every pair, both (Q, G), of boxes as x, y, width, height from 0 to 1.

    Args:
        boxes: (Q, 4), x and y of the middle.
        true: (G, 4), likewise.
    """
    return torch.cdist(boxes, true, p=1), -generalized_box_iou(corners(boxes), corners(true))


def corners(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) as x1, y1, x2, y2 of boxes as middle and size.

    >>> corners(torch.tensor([2.0, 3.0, 2.0, 4.0]))
    tensor([1., 1., 3., 5.])
    """
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([middle - half, middle + half], dim=-1)


def middle_and_size(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes (..., 4), x1, y1, x2, y2 in pixels, as middle and size, shares of the image.

    >>> middle_and_size(torch.tensor([0.0, 0.0, 5.0, 10.0]), 20, 10)
    tensor([0.2500, 0.2500, 0.5000, 0.5000])
    """
    shares = boxes / boxes.new_tensor([width, height] * 2)
    return torch.cat([(shares[..., :2] + shares[..., 2:]) / 2, shares[..., 2:] - shares[..., :2]], dim=-1)


def resized_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (P, h, w) at another size, float32, bilinear.

    Args:
        masks: any type.
        size: height and width.
    """
    if len(masks) == 0:
        return torch.zeros(0, *size, device=masks.device)
    return F.interpolate(masks[None].float(), size=size, mode="bilinear", align_corners=False)[0]
