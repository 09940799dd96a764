"""From scored boxes to detections. Letters: A candidate boxes, K classes, D detections."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from lightning_cv.contracts import Candidates, Detections
from lightning_cv.ops.boxes import iou

KEPT = -1
"""In `suppressors`: nobody's, the box stays."""

Decay = Callable[[Tensor], Tensor]
"""The factor on a score by the overlap with a better box, 0 to 1."""


def class_wise_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    score_threshold: float,
    iou_threshold: float,
    top_before: int,
    top_after: int,
) -> Detections:
    """Detections of one image, best score first: each class thinned by itself, then the best of all classes.

    Liu et al. 2016, section 3.1 (their values: 0.01, 0.45, 400, 200). Two boxes that overlap by exactly
    `iou_threshold` both stay.

    Args:
        boxes: (A, 4), one box for all classes, or (A, K, 4), one a class.
        scores: (A, K), column k is label k + 1.
        score_threshold: a score must exceed it.
        iou_threshold: a box that overlaps a better one of its class by more goes.
        top_before: candidates kept of each class before thinning.
        top_after: detections kept of the image.
    """
    boxes, scores = boxes.float(), scores.float()
    count, classes = scores.shape
    if boxes.dim() == 2:
        boxes = boxes[:, None].expand(count, classes, 4)
    values, rows = scores.topk(min(top_before, count), dim=0)  # (T, K)
    columns = torch.arange(classes, device=scores.device).expand_as(rows)
    good = values > score_threshold
    values, rows, columns = values[good], rows[good], columns[good]  # (C,) each
    candidates = boxes[rows, columns]  # (C, 4)
    keep = batched_nms(candidates, values, columns, iou_threshold)[:top_after]  # (D,), best first
    return {"boxes": candidates[keep], "scores": values[keep], "labels": columns[keep] + 1}


def class_wise_nms_of_batch(
    candidates: Candidates, *, score_threshold: float, iou_threshold: float, top_before: int, top_after: int
) -> list[Detections]:
    """`class_wise_nms` of every image of a batch."""
    return [
        class_wise_nms(
            boxes,
            scores,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            top_before=top_before,
            top_after=top_after,
        )
        for boxes, scores in zip(*candidates, strict=True)
    ]


def class_agnostic_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Detections:
    """Detections of one image, best score first: a box goes where it overlaps a better one of whatever class by more.

    Greedy, from the best score down: as in Girshick et al. 2014, section 2.2, but not class by class.

    Args:
        boxes, scores, labels: (A, 4), (A,) and (A,).
        iou_threshold: two boxes that overlap by exactly as much both stay.
    """
    keep = nms(boxes.float(), scores.float(), iou_threshold)  # (D,), best first
    return {"boxes": boxes[keep].float(), "scores": scores[keep].float(), "labels": labels[keep]}


def suppressors(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Which box removes each box (A, 4) in greedy NMS of its class: its number, or `KEPT`, int64 (A,).

    For looking at: of several boxes that would remove one, the best counts, which is the one that does it.
    """
    order = scores.argsort(descending=True, stable=True)
    rank = order.argsort()
    clash = (iou(boxes, boxes) > iou_threshold) & (labels[:, None] == labels[None, :]) & (rank[:, None] < rank[None, :])
    by = torch.full_like(labels, KEPT)
    for best in order.tolist():
        if by[best] == KEPT:
            by[clash[best] & (by == KEPT)] = best
    return by


def linear_decay(iou_threshold: float) -> Decay:
    """1 - overlap above the threshold, otherwise 1 (Bodla et al. 2017, "Soft-NMS", section 3)."""
    return lambda overlaps: torch.where(overlaps > iou_threshold, 1 - overlaps, 1.0)


def gaussian_decay(sigma: float = 0.5) -> Decay:
    """exp(-overlap^2 / sigma), without a threshold (Bodla et al. 2017, section 3)."""
    if not sigma > 0:
        raise ValueError(f"gaussian_decay: sigma must be positive, got {sigma}")
    return lambda overlaps: torch.exp(-overlaps.square() / sigma)


def soft_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, decay: Decay, *, score_threshold: float = 0.001, top_after: int = 100
) -> Detections:
    """Detections of one image, best score first: a box loses score, not its place, to the better ones of its class.

    Bodla et al. 2017, figure 2. The best remaining box of all classes is taken and the others of its class are
    weakened, which equals thinning each class by itself and then taking the best.

    Args:
        boxes, scores, labels: (A, 4), (A,) and (A,).
        decay: `linear_decay` or `gaussian_decay`.
        score_threshold: a score must exceed it, also a weakened one.
        top_after: detections kept of the image.
    """
    good = scores > score_threshold
    boxes, scores, labels = boxes[good].float(), scores[good].float(), labels[good]
    factors = torch.where(labels[:, None] == labels[None, :], decay(iou(boxes, boxes)), 1.0)  # (A, A)
    taken, rows, values = torch.zeros_like(labels, dtype=torch.bool), [], []
    for _ in range(min(top_after, len(scores))):
        value, row = scores.masked_fill(taken, -1.0).max(dim=0)
        rows.append(row)
        values.append(value)
        scores, taken[row] = scores * factors[row], True
    if not rows:
        return {"boxes": boxes, "scores": scores, "labels": labels}
    chosen, kept = torch.stack(rows), torch.stack(values)  # (D,), (D,)
    chosen, kept = chosen[kept > score_threshold], kept[kept > score_threshold]
    return {"boxes": boxes[chosen], "scores": kept, "labels": labels[chosen]}
