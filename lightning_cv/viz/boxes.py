"""Boxes with class names and scores, and the truth beside them. Letters: N boxes of an image; H, W its sides in px."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from lightning_cv.contracts import Detections, DetectionTarget, LabelMap
from lightning_cv.ops.segments import painted
from lightning_cv.viz.canvas import (
    FONT_SIZE,
    Colour,
    Picture,
    below,
    beside,
    class_colour,
    enlarge,
    font,
    ink_on,
    magnification,
    picture,
    text_line,
    text_size,
)
from lightning_cv.viz.masks import tint_classes

LEGIBLE = 320
"""Shorter side in px to which small images are enlarged so that class names fit."""


class Tag(NamedTuple):
    """A box to draw, x1, y1, x2, y2 in px of the picture, and what is written on it."""

    box: tuple[float, float, float, float]
    text: str
    colour: Colour
    dashed: bool = False


def draw_tags(image: Picture, tags: list[Tag]) -> Picture:
    """The picture with boxes; their text, if any, is on the upper edge, inside the box where there is no room above.

    A box whose corners are not all finite, as a net that diverges may give, is left out; of one that leaves the picture
    no more is drawn than can be seen.
    """
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    stroke = max(2, round(min(image.shape[:2]) / 200))
    tags = [tag._replace(box=_near(tag.box, canvas.size, stroke)) for tag in tags if all(map(math.isfinite, tag.box))]
    for tag in sorted(tags, key=lambda tag: -_area(tag.box)):  # small boxes over large ones
        _outline(draw, tag, stroke)
    for tag in [tag for tag in tags[::-1] if tag.text]:  # the best score's name on top
        width, height = text_size(tag.text)
        x = max(0.0, min(tag.box[0], canvas.width - width - 6))
        y = tag.box[1] - height - 3
        y = y if y >= 0 else min(max(tag.box[1], 0.0), canvas.height - height - 4)
        draw.rectangle((x, y, x + width + 5, y + height + 3), fill=tag.colour)
        draw.text((x + 3, y + 1), tag.text, font=font(FONT_SIZE), fill=ink_on(tag.colour))
    return np.asarray(canvas)


def detections_picture(image: Tensor | Picture, detections: Detections, label_map: LabelMap) -> Picture:
    """The image, enlarged where small, with every detection's box, class name and score in percent.

    Masks, where there are some, lie over the image in the colour of their class, the best score on top.
    """
    shown = picture(image)
    if "masks" in detections:
        shown = tint_classes(shown, painted(detections["masks"], detections["labels"], detections["scores"]))
    tags = [
        Tag(_corners(box), f"{label_map.name(label)} {score:.0%}", class_colour(label))
        for box, score, label in zip(
            detections["boxes"].tolist(), detections["scores"].tolist(), detections["labels"].tolist(), strict=True
        )
    ]
    return _scaled(shown, tags)


def target_picture(image: Tensor | Picture, target: DetectionTarget, label_map: LabelMap) -> Picture:
    """The image, enlarged where small, with every object's box and class name; difficult ones are dashed."""
    tags = [
        Tag(_corners(box), label_map.name(label), class_colour(label), dashed=difficult)
        for box, label, difficult in zip(
            target["boxes"].tolist(), target["labels"].tolist(), target["difficult"].tolist(), strict=True
        )
    ]
    return _scaled(picture(image), tags)


def boxes_beside_truth(
    image: Tensor | Picture, detections: Detections, target: DetectionTarget, label_map: LabelMap
) -> Picture:
    """Truth on the left, detections on the right, each under its heading; with masks where both have them.

    Of true masks that overlap, the smallest is on top.
    """
    base = picture(image)
    if "masks" in target and "masks" in detections:
        base = tint_classes(base, painted(target["masks"], target["labels"], -target["masks"].sum((1, 2))))
    truth = target_picture(base, target, label_map)
    found = detections_picture(image, detections, label_map)
    headings = (f"truth: {len(target['boxes'])}", f"predicted: {len(detections['boxes'])}")
    halves = [
        below([text_line(heading, half.shape[1]), half], gap=0)
        for heading, half in zip(headings, (truth, found), strict=True)
    ]
    return beside(halves)


def above_score(detections: Detections, threshold: float) -> Detections:
    """The detections whose score reaches `threshold`, with their masks where they have some."""
    kept = detections["scores"] >= threshold
    above = Detections(
        boxes=detections["boxes"][kept], scores=detections["scores"][kept], labels=detections["labels"][kept]
    )
    if "masks" in detections:
        above["masks"] = detections["masks"][kept]
    return above


def _scaled(image: Picture, tags: list[Tag]) -> Picture:
    factor = magnification(image, LEGIBLE)
    return draw_tags(
        enlarge(image, factor), [tag._replace(box=_corners([value * factor for value in tag.box])) for tag in tags]
    )


def _corners(box: list[float]) -> tuple[float, float, float, float]:
    return box[0], box[1], box[2], box[3]


def _near(box: tuple[float, ...], size: tuple[int, int], margin: int) -> tuple[float, float, float, float]:
    """The box with corners no farther outside of a picture (width, height) than the margin."""
    x1, y1, x2, y2 = (min(max(value, -margin), side + margin) for value, side in zip(box, size * 2, strict=True))
    return x1, y1, x2, y2


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _outline(draw: ImageDraw.ImageDraw, tag: Tag, stroke: int) -> None:
    x1, y1, x2, y2 = tag.box
    x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)  # the far edge is exclusive
    if not tag.dashed:
        draw.rectangle((x1, y1, x2, y2), outline=tag.colour, width=stroke)
        return
    dash = 4 * stroke
    for x in np.arange(x1, x2, 2 * dash):
        for y in (y1, y2):
            draw.line((x, y, min(x + dash, x2), y), fill=tag.colour, width=stroke)
    for y in np.arange(y1, y2, 2 * dash):
        for x in (x1, x2):
            draw.line((x, y, x, min(y + dash, y2)), fill=tag.colour, width=stroke)
