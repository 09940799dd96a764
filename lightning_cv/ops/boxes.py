"""Box forms, overlaps and the deltas that a net predicts.

Letters: N boxes, M other boxes. Boxes are x1, y1, x2, y2 in pixels; centre form (cx, cy, w, h) lives inside these
functions only. Everything is float32: in half precision an area overflows from 256 px a side, and so does exp.
"""

import math

import torch
from torch import Tensor
from torchvision.ops import box_iou

DELTA_SCALE = (0.1, 0.1, 0.2, 0.2)
"""Standard deviation that the four deltas are brought to 1 by (SSD's "variances", Liu et al. 2016, released code)."""

PLAIN_SCALE = (1.0, 1.0, 1.0, 1.0)
"""Deltas as they are, such as those of region proposals."""

_MAX_LOG_SIZE = math.log(1000 / 16)
"""A decoded side is at most 62.5 times its anchor's: exp of an untrained output must not overflow."""


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every pair, (N, M), 0 to 1.

    >>> iou(torch.tensor([[0, 0, 2, 2]]), torch.tensor([[0, 0, 2, 2], [1, 0, 3, 2]]))
    tensor([[1.0000, 0.3333]])
    """
    with torch.autocast(boxes.device.type, enabled=False):
        overlaps: Tensor = box_iou(boxes.float(), others.float())
    return overlaps  # (N, M)


def to_centre_form(boxes: Tensor) -> Tensor:
    """Boxes as cx, cy, w, h, same shape (..., 4)."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def from_centre_form(boxes: Tensor) -> Tensor:
    """Boxes cx, cy, w, h as x1, y1, x2, y2, same shape (..., 4)."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def encode_deltas(boxes: Tensor, anchors: Tensor, scale: tuple[float, float, float, float] = DELTA_SCALE) -> Tensor:
    """What a net should predict at each anchor for its box, (..., 4): centre shift in anchor sizes, log of size ratio.

    Girshick et al. 2014, appendix C; divided by `scale` as in Liu et al. 2016.
    """
    box, anchor = to_centre_form(boxes.float()), to_centre_form(anchors.float())
    shift = (box[..., :2] - anchor[..., :2]) / anchor[..., 2:]
    growth = torch.log(box[..., 2:] / anchor[..., 2:])
    return torch.cat([shift, growth], dim=-1) / anchor.new_tensor(scale)


def decode_deltas(deltas: Tensor, anchors: Tensor, scale: tuple[float, float, float, float] = DELTA_SCALE) -> Tensor:
    """Boxes (..., 4) in pixels of deltas (..., 4) at anchors (..., 4): `encode_deltas` undone.

    Differs from the source: a side grows at most 62.5 times, so that an untrained net gives finite boxes.
    """
    with torch.autocast(deltas.device.type, enabled=False):
        anchor = to_centre_form(anchors.float())
        scaled = deltas.float() * anchor.new_tensor(scale)
        centre = anchor[..., :2] + scaled[..., :2] * anchor[..., 2:]
        size = anchor[..., 2:] * torch.exp(scaled[..., 2:].clamp(max=_MAX_LOG_SIZE))
        return from_centre_form(torch.cat([centre, size], dim=-1))


def mirror_boxes(boxes: Tensor, width: int) -> Tensor:
    """Boxes (..., 4) of an image of that width, on its mirror image."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((width - x2, y1, width - x1, y2), dim=-1)


def clip_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes (..., 4) cut to the image; one that lies outside keeps no area."""
    limit = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limit)
