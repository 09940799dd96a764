"""Boxes as pairs of corners: pooling, targets, losses and the way back to boxes.

Letters: N images, K classes, H, W cells of the map, G objects of all images together, T corners kept of an image,
P pairs of them. A leading 2 is the corner: 0 top left, 1 bottom right. Losses are float32, also under autocast.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Edge = Literal["top", "left", "bottom", "right"]


class CornerMaps(NamedTuple):
    """What a net says of every cell: heat logits (2, N, K, H, W), tags (2, N, H, W), offsets (2, N, 2, H, W) x first.

    A tag is a number that the two corners of an object share; an offset leads from the cell's own corner to the box's,
    in cells.
    """

    heat: Tensor
    tags: Tensor
    offsets: Tensor


class CornerTargets(NamedTuple):
    """What the maps should say.

    heat (2, N, K, H, W) is 1 at corners and falls off around them; image (G,), cells (2, G, 2) as x, y, and offsets
    (2, G, 2) belong to the objects.
    """

    heat: Tensor
    image: Tensor
    cells: Tensor
    offsets: Tensor


class CornerPairs(NamedTuple):
    """Pairs of corners, best first: boxes (N, P, 4) in cells, scores (N, P), 0 for no pair, labels (N, P) from 1."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def pool_towards(x: Tensor, edge: Edge) -> Tensor:
    """The maximum from the far side up to each cell of (..., H, W), same shape: at `edge` it is that of the line.

    Law and Deng 2018, "CornerNet", equations 6 and 7.

    >>> pool_towards(torch.tensor([[2, 1, 3, 0, 2]]), "left")
    tensor([[3, 3, 3, 2, 2]])
    """
    dim = -2 if edge in ("top", "bottom") else -1
    if edge in ("bottom", "right"):
        return _running_max(x, dim)
    return _running_max(x.flip(dim), dim).flip(dim)


def _running_max(x: Tensor, dim: int) -> Tensor:
    if not torch.compiler.is_exporting():
        return x.cummax(dim).values
    length, reach = x.shape[dim], 1  # ONNX has no cummax; slower, and the same
    while reach < length:
        later = torch.maximum(x.narrow(dim, reach, length - reach), x.narrow(dim, 0, length - reach))
        x = torch.cat([x.narrow(dim, 0, reach), later], dim)
        reach *= 2
    return x


def corner_radius(height: float, width: float, min_overlap: float = 0.3) -> float:
    """By how many cells both corners of a box of these sides may move and still overlap it by `min_overlap`.

    Law and Deng 2018, section 3.2: the smallest of three cases, each a quadratic equation; the two corners move the
    same way, inwards, or outwards. The paper states an overlap of 0.7 in its first version and 0.3 later. Until 2019
    the released code divided the roots by 2 rather than by twice the leading coefficient and took the larger root of
    the first two cases, which gives other radii; this is the corrected form.

    >>> round(corner_radius(10, 10, 0.25), 3)  # inwards: a box of 5 x 5 is a quarter of it
    2.5
    """
    total, area = height + width, height * width
    shared = area * (1 - min_overlap) / (1 + min_overlap)
    same_way = (total - math.sqrt(total**2 - 4 * shared)) / 2
    inwards = (total - math.sqrt(total**2 - 4 * (1 - min_overlap) * area)) / 4
    outwards = (math.sqrt(total**2 + 4 * (1 / min_overlap - 1) * area) - total) / 4
    return min(same_way, inwards, outwards)


def corner_targets(
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    num_classes: int,
    height: int,
    width: int,
    stride: int = 4,
    min_overlap: float = 0.3,
) -> CornerTargets:
    """Targets of boxes (G_n, 4) in pixels with labels (G_n,), one of each an image, on maps of `height` x `width`.

    Law and Deng 2018, section 3.2: around a corner an unnormalised Gaussian within the whole part of `corner_radius`,
    whose deviation is a sixth of the diameter (released code; the paper says a third of the radius); of two, the
    larger counts. A corner on the map's far edge belongs to the last cell.
    """
    corners = torch.cat(list(boxes)).float().view(-1, 2, 2).transpose(0, 1) / stride  # (2, G, 2)
    image = torch.repeat_interleave(
        torch.arange(len(boxes), device=corners.device),
        torch.tensor([len(one) for one in boxes], device=corners.device),
    )
    limit = corners.new_tensor([width - 1, height - 1])
    cells = torch.minimum(corners.floor().clamp(min=0), limit)  # (2, G, 2)
    sides = (corners[1] - corners[0]).ceil().clamp(min=1)  # (G, 2)
    radii = [float(int(corner_radius(h, w, min_overlap))) for w, h in sides.tolist()]
    radius = corners.new_tensor(radii)[:, None]  # (G, 1)
    deviation = (2 * radius + 1) / 6
    heat = corners.new_zeros(2, len(boxes) * num_classes, height, width)
    plane = image * num_classes + torch.cat(list(labels)) - 1  # (G,)
    for corner in range(2):
        falls = []
        for axis, length in ((1, height), (0, width)):
            away = torch.arange(length, device=corners.device) - cells[corner, :, axis, None]  # (G, length)
            falls.append((-away.square() / (2 * deviation.square())).exp() * (away.abs() <= radius))
        peaks = falls[0][:, :, None] * falls[1][:, None, :]  # (G, H, W)
        heat[corner].scatter_reduce_(0, plane[:, None, None].expand_as(peaks), peaks, "amax")
    return CornerTargets(heat.view(2, len(boxes), num_classes, height, width), image, cells.long(), corners - cells)


def corner_focal_loss(logits: Tensor, heat: Tensor, alpha: float = 2.0, beta: float = 4.0) -> Tensor:
    """Scalar: focal loss of heat maps of any one shape, divided by the number of corners (at least 1).

    Law and Deng 2018, equation 1: a corner is where `heat` is 1; elsewhere the loss is weakened by (1 - heat)^beta.
    Differs from the released code: log-sigmoid instead of a probability clamped to 1e-4.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float()
        chance, corner = logits.sigmoid(), heat == 1
        missed = (1 - chance) ** alpha * F.logsigmoid(logits)
        false = (1 - heat) ** beta * chance**alpha * F.logsigmoid(-logits)
        return -torch.where(corner, missed, false).sum() / corner.sum().clamp(min=1)


def pull_and_push(tags: Tensor, image: Tensor, images: int, margin: float = 1.0) -> tuple[Tensor, Tensor]:
    """Scalars: how far the two tags of an object are apart, and how near those of different objects of an image.

    Law and Deng 2018, equations 4 and 5 (Newell et al. 2017, "Associative embedding"), tags of both corners (2, G);
    averaged over the `images` of the batch. Differs from the released code, which adds up the images of each device.
    """
    with torch.autocast(tags.device.type, enabled=False):
        tags = tags.float()
        mean = tags.mean(dim=0)  # (G,)
        together = image[:, None] == image[None, :]  # (G, G)
        count = together.sum(dim=1)  # (G,): objects of the object's image
        pull = ((tags - mean).square().sum(dim=0) / count).sum() / images
        others = together & ~torch.eye(len(image), dtype=torch.bool, device=image.device)
        near = F.relu(margin - (mean[:, None] - mean[None, :]).abs()) / (count * (count - 1)).clamp(min=1)
        return pull, (near * others).sum() / images


def corner_losses(maps: CornerMaps, targets: CornerTargets, embedding_weight: float = 0.1) -> dict[str, Tensor]:
    """Scalars `heat`, `pull`, `push` and `offset`, weighted: their sum is the loss of one set of maps.

    Law and Deng 2018, equation 8: 0.1 for pull and push, 1 for the offsets (smooth L1, beta 1, summed over x and y,
    divided by the number of objects). Heat and offsets of the two kinds of corner are added.
    """
    images = maps.heat.shape[1]
    x, y = targets.cells.unbind(-1)  # (2, G) each
    corner = torch.arange(2, device=x.device)[:, None].expand_as(x)
    at = targets.image.expand_as(x)
    heat = sum(corner_focal_loss(maps.heat[c], targets.heat[c]) for c in range(2))
    tags = maps.tags[corner, at, y, x]  # (2, G)
    pull, push = pull_and_push(tags, targets.image, images)
    offsets = maps.offsets.permute(0, 1, 3, 4, 2)[corner, at, y, x].float()  # (2, G, 2)
    away = F.smooth_l1_loss(offsets, targets.offsets, reduction="sum") / max(1, len(targets.image))
    # touched, so that a batch without objects leaves no parameter without a gradient
    nothing = 0 * (maps.tags.float().sum() + maps.offsets.float().sum())
    assert isinstance(heat, Tensor)
    return {
        "heat": heat,
        "pull": embedding_weight * pull,
        "push": embedding_weight * push,
        "offset": away + nothing,
    }


def peaks_only(heat: Tensor) -> Tensor:
    """Heat (N, K, H, W) with 0 wherever one of the eight neighbours is higher."""
    return heat * (F.max_pool2d(heat, 3, 1, 1) == heat)


def pair_corners(maps: CornerMaps, top: int = 100, tag_distance: float = 0.5, pairs: int = 1000) -> CornerPairs:
    """The best pairs of a top-left and a bottom-right corner of each image.

    Law and Deng 2018, section 3.1 and "Testing details": the `top` peaks of each kind; a pair needs one class, tags at
    most `tag_distance` apart, and a right and lower second corner; its score is the mean of the two.
    """
    scores, labels, places, tags = [], [], [], []
    for corner in range(2):
        heat = peaks_only(maps.heat[corner].float().sigmoid())
        height, width = heat.shape[-2:]
        best, index = heat.flatten(1).topk(min(top, heat[0].numel()))  # (N, T)
        cell = index % (height * width)
        place = torch.stack([cell % width, cell // width], dim=-1)  # (N, T, 2)
        offset = maps.offsets[corner].float().flatten(2).transpose(1, 2)  # (N, H*W, 2)
        scores.append(best)
        labels.append(index // (height * width) + 1)
        places.append(place + offset.gather(1, cell[..., None].expand(-1, -1, 2)))
        tags.append(maps.tags[corner].float().flatten(1).gather(1, cell))
    first, second = (places[0][:, :, None], places[1][:, None, :])
    fits = (labels[0][:, :, None] == labels[1][:, None, :]) & (second > first).all(dim=-1)  # (N, T, T)
    fits &= (tags[0][:, :, None] - tags[1][:, None, :]).abs() <= tag_distance
    fits &= (scores[0][:, :, None] > 0) & (scores[1][:, None, :] > 0)  # a map may have fewer peaks than `top`
    mean = (scores[0][:, :, None] + scores[1][:, None, :]) / 2 * fits
    shape = (*fits.shape, 2)
    boxes = torch.cat([first.expand(shape), second.expand(shape)], dim=-1).flatten(1, 2)  # (N, T*T, 4)
    best, index = mean.flatten(1).topk(min(pairs, mean[0].numel()))  # (N, P)
    return CornerPairs(
        boxes=boxes.gather(1, index[..., None].expand(-1, -1, 4)),
        scores=best,
        labels=labels[0].gather(1, index // labels[1].shape[1]),
    )
