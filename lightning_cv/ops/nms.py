"""From scored boxes to detections. Letters: A candidate boxes, K classes, D detections."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from lightning_cv.contracts import Detections


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
