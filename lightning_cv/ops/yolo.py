"""The objects of a batch for YOLO, and the region loss of YOLOv2.

Letters: N images; H, W cells of the map; A anchors a cell; K classes; P objects of the whole batch. Lengths are in
cells, as anchors are given. Outputs of the net are (N, H, W, A, 5 + K): centre x, y in the cell before the sigmoid, log
of width and height over the anchor's, objectness before the sigmoid, class logits. Everything is float32.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_cv.contracts import DetectionTarget
from lightning_cv.ops.boxes import from_centre_form, iou, to_centre_form
from lightning_cv.ops.kmeans import shape_iou

NOBODY = -1
"""The owner of a predictor that answers for no object."""

_MAX_LOG_SIZE = math.log(1000 / 16)
"""A decoded side is at most 62.5 times its anchor's: exp of an untrained output must not overflow."""


class Objects(NamedTuple):
    """The objects of a batch in a row: image int64 (P,), boxes float32 (P, 4) in pixels, labels int64 (P,), 1 to K."""

    image: Tensor
    boxes: Tensor
    labels: Tensor


def batch_objects(
    targets: list[DetectionTarget], height: int, width: int, min_side: float, train_on_difficult: bool
) -> Objects:
    """The objects that count, image by image, each image's in the order of its target; crowds are none.

    Args:
        targets: one an image.
        height, width: of the images in pixels.
        min_side: an object counts if both its sides are at least this share of the image's.
        train_on_difficult: whether VOC's difficult objects count.
    """
    images, boxes, labels = [], [], []
    for number, target in enumerate(targets):
        sides = (target["boxes"][:, 2:] - target["boxes"][:, :2]) / target["boxes"].new_tensor([width, height])
        wanted = (sides >= min_side).all(dim=1) & (sides > 0).all(dim=1)
        if not train_on_difficult:
            wanted = wanted & ~target["difficult"]
        if "crowd" in target:
            wanted = wanted & ~target["crowd"]
        boxes.append(target["boxes"][wanted].float())
        labels.append(target["labels"][wanted])
        images.append(torch.full_like(labels[-1], number))
    return Objects(torch.cat(images), torch.cat(boxes), torch.cat(labels))


class RegionWeights(NamedTuple):
    """Factors of the region loss, as the released `yolov2-tiny-voc.cfg` has them."""

    coordinates: float = 1.0
    object: float = 5.0
    no_object: float = 1.0
    classes: float = 1.0


def cells_of(boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Row and column (P,) of the cell that holds the centre of each box (P, 4) in cells; on the far edge, the last."""
    centre = to_centre_form(boxes)[:, :2].floor().long()  # (P, 2)
    return centre[:, 1].clamp(0, height - 1), centre[:, 0].clamp(0, width - 1)


def best_anchor(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The anchor (A, 2) of largest IoU with each box (P, 4), (P,), were their centres the same; the first of equals."""
    return shape_iou(boxes[:, 2:] - boxes[:, :2], anchors).argmax(dim=1)


def decode_region(outputs: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (N, H, W, A, 4) as x1, y1, x2, y2 in cells.

    Redmon and Farhadi 2017, section 2, "Direct location prediction". Differs from the source: a side grows at most 62.5
    times, so that an untrained net gives finite boxes.
    """
    with torch.autocast(outputs.device.type, enabled=False):
        outputs = outputs.float()
        centre = outputs[..., :2].sigmoid() + _corners(outputs)
        size = anchors * outputs[..., 2:4].clamp(max=_MAX_LOG_SIZE).exp()
        return from_centre_form(torch.cat([centre, size], dim=-1))


def encode_region(boxes: Tensor, row: Tensor, column: Tensor, anchors: Tensor) -> Tensor:
    """What the predictors of cells (P,) with anchors (P, 2) should say of boxes (P, 4) in cells, (P, 4).

    The place of the centre in the cell, 0 to 1, which the sigmoid of the output is to reach; log of the sizes' ratio.
    """
    form = to_centre_form(boxes)
    return torch.cat([form[:, :2] - torch.stack([column, row], dim=1), (form[:, 2:] / anchors).log()], dim=1)


def region_owners(objects: Objects, boxes: Tensor, anchors: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Which object each predictor answers for, int64 (N * H * W * A,): its position among the P, or -1.

    An object goes to the cell of its centre and there to the anchor of its shape. Where two want the same predictor the
    later one gets it and the earlier one nothing, as in darknet.

    Args:
        objects: of the batch.
        boxes: theirs in cells, (P, 4).
        anchors: (A, 2).
        shape: N, H and W.
    """
    images, height, width = shape
    row, column = cells_of(boxes, height, width)
    place = ((objects.image * height + row) * width + column) * len(anchors) + best_anchor(boxes, anchors)  # (P,)
    owners = torch.full((images * height * width * len(anchors),), NOBODY, device=place.device)
    return owners.scatter_reduce(0, place, torch.arange(len(place), device=place.device), "amax")


def region_losses(
    outputs: Tensor,
    objects: Objects,
    anchors: Tensor,
    stride: int,
    pull: Tensor | float = 0.0,
    weights: RegionWeights | None = None,
    ignore_above: float = 0.6,
) -> dict[str, Tensor]:
    """Scalars `box`, `object`, `no_object`, `class` and `prior`, summed over predictors and divided by N.

    Redmon and Farhadi 2017, section 2, as in the released `region_layer.c`. A predictor that answers for an object:
    half the squared error of the sigmoids of x and y and of the log sizes, times 2 minus the object's share of the
    image; of the objectness to the IoU that its box has; cross entropy of its classes. Any other: half the squared
    objectness, unless its box overlaps an object by more than `ignore_above`; and half the squared distance to its
    anchor in the middle of the cell, times `pull`.

    The halves make the gradients those that darknet adds up, so that its learning rates hold. Differs from the source:
    it looks at 30 objects an image at most.

    Args:
        outputs: (N, H, W, A, 5 + K).
        objects: of the batch.
        anchors: (A, 2) in cells.
        stride: pixels of a cell.
        pull: weight of the anchors as targets, 0.01 while training begins.
        weights: of the terms; None is darknet's.
        ignore_above: overlap with an object from which on being sure is no fault.
    """
    weights = RegionWeights() if weights is None else weights
    with torch.autocast(outputs.device.type, enabled=False):
        outputs = outputs.float()
        images, height, width = outputs.shape[:3]
        boxes = objects.boxes / stride
        owners = region_owners(objects, boxes, anchors, (images, height, width))
        taken = owners != NOBODY  # (N * H * W * A,)
        own = owners[taken]  # (M,) objects that got a predictor
        rows = outputs.flatten(0, 3)  # (N * H * W * A, 5 + K)
        found = decode_region(outputs.detach(), anchors)  # (N, H, W, A, 4)
        objectness = rows[:, 4].sigmoid()

        row, column = cells_of(boxes, height, width)
        said = torch.cat([rows[:, :2].sigmoid(), rows[:, 2:4]], dim=1)  # (N * H * W * A, 4)
        wanted = encode_region(boxes, row, column, anchors[best_anchor(boxes, anchors)])[own]
        share = (boxes[own, 2:] - boxes[own, :2]).prod(dim=1) / (height * width)
        misses = (said[taken] - wanted).square().sum(dim=1)
        overlaps = _pair_iou(found.flatten(0, 3)[taken], boxes[own])
        background = ~taken & (_best_overlaps(found, objects.image, boxes) <= ignore_above)
        middle = said.new_tensor([0.5, 0.5, 0.0, 0.0])
        return {
            "box": weights.coordinates * 0.5 * ((2 - share) * misses).sum() / images,
            "object": weights.object * 0.5 * (objectness[taken] - overlaps).square().sum() / images,
            "no_object": weights.no_object * 0.5 * objectness[background].square().sum() / images,
            "class": weights.classes
            * F.cross_entropy(rows[taken, 5:], objects.labels[own] - 1, reduction="sum")
            / images,
            "prior": pull * 0.5 * (said[~taken] - middle).square().sum() / images,
        }


def _corners(outputs: Tensor) -> Tensor:
    """Upper left corner (H, W, 1, 2) of each cell as x, y."""
    ys = torch.arange(outputs.shape[1], device=outputs.device)
    xs = torch.arange(outputs.shape[2], device=outputs.device)
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)[:, :, None]


def _pair_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (M, 4) and others (M, 4), (M,)."""
    near, far = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    common = (far - near).clamp(min=0).prod(dim=1)
    areas = [(each[:, 2:] - each[:, :2]).prod(dim=1) for each in (boxes, others)]
    return common / (areas[0] + areas[1] - common)


def _best_overlaps(found: Tensor, image: Tensor, boxes: Tensor) -> Tensor:
    """Largest IoU of each predicted box (N, H, W, A, 4) with an object of its image, (N * H * W * A,)."""
    best = []
    for number, mine in enumerate(found.flatten(1, 3)):  # (H * W * A, 4)
        theirs = boxes[image == number]
        best.append(iou(mine, theirs).amax(dim=1) if len(theirs) else mine.new_zeros(len(mine)))
    return torch.cat(best)
