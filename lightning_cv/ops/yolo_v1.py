"""The loss of YOLO v1.

Letters: N images; S cells a side; B boxes a cell; K classes; P objects of the batch; M cells that hold an object's
centre. Places and lengths are those of the net: x, y in cells from the cell's corner, roots of width and height as
shares of the image. Everything is float32.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_cv.ops.boxes import from_centre_form, to_centre_form
from lightning_cv.ops.yolo import Objects, cells_of


class GridOutputs(NamedTuple):
    """What the net says: of each cell class scores (N, S*S, K), of its boxes confidences (N, S*S, B) and boxes
    (N, S*S, B, 4) as x, y, root of the width, root of the height. All of them linear."""

    classes: Tensor
    confidences: Tensor
    boxes: Tensor


class GridWeights(NamedTuple):
    """Factors of the loss, Redmon et al. 2016, equation 3."""

    coordinates: float = 5.0
    object: float = 1.0
    no_object: float = 0.5
    classes: float = 1.0


def split_grid(outputs: Tensor, side: int, boxes: int, classes: int) -> GridOutputs:
    """The parts of outputs (N, S*S * (K + 5 * B)): first all classes, then all confidences, then all boxes.

    The released `detection_layer.c` lays them out so, cell by cell in each part.
    """
    cells = side * side
    names, sure, places = torch.split(outputs.float(), [cells * classes, cells * boxes, cells * boxes * 4], dim=1)
    return GridOutputs(names.view(-1, cells, classes), sure.view(-1, cells, boxes), places.view(-1, cells, boxes, 4))


def decode_grid(boxes: Tensor, side: int) -> Tensor:
    """Boxes (..., S*S, B, 4) of the net as x1, y1, x2, y2 in shares of the image, same shape."""
    with torch.autocast(boxes.device.type, enabled=False):
        boxes = boxes.float()
        cell = torch.arange(side * side, device=boxes.device)
        corner = torch.stack([cell % side, cell // side], dim=1)[:, None]  # (S*S, 1, 2)
        return from_centre_form(torch.cat([(boxes[..., :2] + corner) / side, boxes[..., 2:].square()], dim=-1))


def encode_grid(boxes: Tensor, side: int) -> Tensor:
    """What the net should say of boxes (P, 4) in shares of the image, each in the cell of its centre, (P, 4)."""
    row, column = cells_of(boxes * side, side, side)
    form = to_centre_form(boxes)
    return torch.cat([form[:, :2] * side - torch.stack([column, row], dim=1), form[:, 2:].sqrt()], dim=1)


def grid_owners(objects: Objects, boxes: Tensor, images: int, side: int) -> Tensor:
    """Which object each cell answers for, int64 (N * S*S,), or P for none: of those centred in it the first."""
    row, column = cells_of(boxes * side, side, side)
    place = (objects.image * side + row) * side + column
    owners = torch.full((images * side * side,), len(place), device=place.device)
    return owners.scatter_reduce(0, place, torch.arange(len(place), device=place.device), "amin")


def responsible(boxes: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Of a cell's boxes (M, B, 4) the one that answers for its object (M, 4), (M,), and its IoU, (M,).

    Redmon et al. 2016, section 2.2: that of the largest IoU; where none overlaps, as in the released code, the one
    whose centre and sizes are nearest (root mean square).
    """
    near, far = torch.maximum(boxes[..., :2], true[:, None, :2]), torch.minimum(boxes[..., 2:], true[:, None, 2:])
    common = (far - near).clamp(min=0).prod(dim=-1)  # (M, B)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1), (true[:, 2:] - true[:, :2]).prod(dim=-1)[:, None]
    overlaps = common / (areas[0] + areas[1] - common)
    distances = (to_centre_form(boxes) - to_centre_form(true)[:, None]).square().sum(dim=-1)
    best = torch.where(overlaps.amax(dim=1) > 0, overlaps.argmax(dim=1), distances.argmin(dim=1))
    return best, overlaps.gather(1, best[:, None])[:, 0]


def grid_losses(
    outputs: GridOutputs, objects: Objects, image_size: tuple[int, int], weights: GridWeights | None = None
) -> dict[str, Tensor]:
    """Scalars `box`, `object`, `no_object` and `class`, summed over cells and divided by N.

    Redmon et al. 2016, equation 3, as in the released `detection_layer.c`: half the squared errors, so that gradients
    and learning rates are darknet's; the confidence of the responsible box should be its IoU; every other box's 0.

    Args:
        outputs: of the net.
        objects: of the batch, boxes in pixels.
        image_size: height and width in pixels.
        weights: of the terms; None is the paper's.
    """
    weights = GridWeights() if weights is None else weights
    with torch.autocast(outputs.boxes.device.type, enabled=False):
        classes, confidences, boxes = (part.float() for part in outputs)
        images, cells = classes.shape[:2]
        side = round(cells**0.5)
        height, width = image_size
        true = objects.boxes / objects.boxes.new_tensor([width, height, width, height])
        owners = grid_owners(objects, true, images, side)
        taken = owners < len(true)  # (N * S*S,)
        own = owners[taken]  # (M,)
        found = decode_grid(boxes.detach(), side).flatten(0, 1)[taken]  # (M, B, 4)
        best, overlaps = responsible(found, true[own])
        at = torch.arange(len(best), device=best.device)

        said = boxes.flatten(0, 1)[taken][at, best]  # (M, 4)
        sure = confidences.flatten(0, 1)[taken][at, best]  # (M,)
        names = F.one_hot(objects.labels[own] - 1, classes.shape[2]).to(classes)  # (M, K)
        return {
            "box": weights.coordinates * 0.5 * (said - encode_grid(true, side)[own]).square().sum() / images,
            "object": weights.object * 0.5 * (sure - overlaps).square().sum() / images,
            "no_object": weights.no_object * 0.5 * (confidences.square().sum() - sure.square().sum()) / images,
            "class": weights.classes * 0.5 * (classes.flatten(0, 1)[taken] - names).square().sum() / images,
        }
