"""Label planes, where a pixel may have several labels. Letters: K labels; H, W height and width in px."""

import torch
from torch import Tensor

from lightning_cv.contracts import VOID, LabelMap
from lightning_cv.viz.canvas import (
    Picture,
    below,
    beside,
    enlarge,
    magnification,
    picture,
    text_line,
)
from lightning_cv.viz.masks import overlay, tint_classes

LEGIBLE = 112


def labels_on(preds: Tensor, targets: Tensor, label_map: LabelMap) -> list[int]:
    """The labels of which planes (K, H, W) of 0, 1 and VOID have a pixel, predicted or true."""
    on = ((preds == 1) | (targets == 1)).flatten(1).any(dim=1)
    return [int(number) + label_map.first for number in on.nonzero()[:, 0]]


def plane_as_mask(plane: Tensor, label: int) -> Tensor:
    """A class mask (H, W) of one label's plane: the label where it is on, 0 where not, VOID where not counted."""
    return torch.where(plane == VOID, VOID, plane.long() * label)


def labels_below_truth(image: Tensor | Picture, preds: Tensor, targets: Tensor, label_map: LabelMap) -> Picture:
    """The image and, for each label that planes (K, H, W) have, its pixels: true above predicted, name as heading."""
    base = picture(image)
    factor = magnification(base, LEGIBLE)
    shown = enlarge(base, factor)
    columns = [below([text_line("truth above", shown.shape[1]), shown, text_line("prediction below", shown.shape[1])])]
    for label in labels_on(preds, targets, label_map):
        masks = (plane_as_mask(planes[label - label_map.first], label) for planes in (targets, preds))
        cells = [enlarge(overlay(base, mask), factor) for mask in masks]
        columns.append(below([text_line(label_map.name(label), shown.shape[1]), *cells]))
    return beside(columns)


def tint_labels(image: Picture, planes: Tensor, label_map: LabelMap) -> Picture:
    """The picture with the colours of the labels that planes (K, H, W) have, mixed where they overlap."""
    for number, plane in enumerate(planes):
        image = tint_classes(image, plane_as_mask(plane, number + label_map.first))
    return image
