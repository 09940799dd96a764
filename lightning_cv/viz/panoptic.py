"""Segments over their image and beside the truth, thing by thing. Letters: N segments; H, W of the image in px."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from lightning_cv.contracts import FoundSegments, LabelMap, TrueSegments
from lightning_cv.viz.canvas import (
    INK,
    WHITE,
    Picture,
    below,
    beside,
    class_colour,
    enlarge,
    font,
    magnification,
    picture,
    text_line,
    text_size,
)

LEGIBLE = 224


def segments_picture(
    image: Tensor | Picture,
    segments: Tensor,
    labels: Tensor,
    label_map: LabelMap,
    is_thing: Sequence[bool],
    opacity: float = 0.65,
) -> Picture:
    """The image, enlarged where small, in grey under its segments (H, W) with their classes' names (N,).

    Stuff has the colour of its class, each thing one of its own; white lines part the segments; void stays clear.
    """
    base, numbers = picture(image), segments.detach().cpu().numpy()
    if base.shape[:2] != numbers.shape:
        raise ValueError(f"the segments {numbers.shape} must have the size of their image {base.shape[:2]}")
    classes = labels.tolist()
    colours = np.zeros((len(classes) + 1, 3), np.float64)
    colours[1:] = [
        class_colour(len(label_map.names) + n if is_thing[label] else label) for n, label in enumerate(classes)
    ] or np.zeros((0, 3))
    grey = base.mean(axis=2, keepdims=True)
    mixed = np.where((numbers > 0)[..., None], (1 - opacity) * grey + opacity * colours[numbers], grey)
    factor = magnification(base, LEGIBLE)
    shown, large = enlarge(mixed.round().astype(np.uint8), factor), numbers.repeat(factor, 0).repeat(factor, 1)
    shown[_edges(large)] = WHITE
    return _named(shown, large, [label_map.name(label) for label in classes])


def segments_beside_truth(
    image: Tensor | Picture, found: FoundSegments, truth: TrueSegments, label_map: LabelMap, is_thing: Sequence[bool]
) -> Picture:
    """Image, truth and prediction in a row under their headings."""
    base = picture(image)
    panels = {"image": enlarge(base, magnification(base, LEGIBLE))} | {
        heading: segments_picture(base, one["segments"], one["labels"], label_map, is_thing)
        for heading, one in (("truth", truth), ("predicted", found))
    }
    return beside([below([text_line(name, panel.shape[1]), panel], gap=0) for name, panel in panels.items()])


def _edges(numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pixels (H, W) whose right or lower neighbour is of another segment."""
    edges = np.zeros(numbers.shape, np.bool_)
    edges[:, :-1] = numbers[:, :-1] != numbers[:, 1:]
    edges[:-1] |= numbers[:-1] != numbers[1:]
    return edges


def _named(shown: Picture, numbers: NDArray[np.int64], names: Sequence[str]) -> Picture:
    """The picture with each segment's name where the segment is widest, if it has room for it."""
    canvas = Image.fromarray(shown)
    draw = ImageDraw.Draw(canvas)
    for number, name in enumerate(names, start=1):
        mask = np.pad(numbers == number, 1).astype(np.uint8)  # the picture's edge is an edge of the segment
        distance = cv2.distanceTransform(mask, cv2.DIST_L2, 3)[1:-1, 1:-1]
        row, column = np.unravel_index(int(distance.argmax()), distance.shape)
        width, height = text_size(name)
        if distance[row, column] < height / 2 or (mask > 0).sum() < width * height:
            continue
        x = min(max(int(column) - width // 2, 0), max(canvas.width - width, 0))
        y = min(max(int(row) - height // 2, 0), max(canvas.height - height, 0))
        draw.text((x, y), name, font=font(), fill=WHITE, stroke_width=2, stroke_fill=INK)
    return np.asarray(canvas)
