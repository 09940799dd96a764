"""The training augmentation of SSD (Liu et al. 2016). Letters: T trials; N boxes of an image; S side of the result."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_cv.contracts import DetectionSample
from lightning_cv.transforms.colour import distort_colours
from lightning_cv.transforms.common import (
    MEAN_COLOUR,
    Boxes,
    DetectionTransform,
    Moved,
    Picture,
    PreparedDetection,
    masks_of,
    mirror,
    prepare,
    resize,
)
from lightning_cv.transforms.masks import Lookup, placed


class Window(NamedTuple):
    """A rectangle in pixels of the picture, which may reach outside it."""

    x1: float
    y1: float
    x2: float
    y2: float


def zoom_out(height: int, width: int, max_zoom: float, rng: np.random.Generator) -> Window:
    """A canvas 1 to `max_zoom` times as wide and high as the picture, which lies anywhere in it. SSD, section 3.6."""
    zoom = rng.uniform(1.0, max_zoom)
    left, top = rng.uniform(0, width * (zoom - 1)), rng.uniform(0, height * (zoom - 1))
    return Window(-left, -top, width * zoom - left, height * zoom - top)


_MIN_OVERLAPS = (None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # None: the whole picture; 0: any crop
_TRIALS = 50


def iou_crop(boxes: Boxes, canvas: Window, rng: np.random.Generator) -> Window:
    """A part of the canvas that has an overlap (IoU) of at least a drawn minimum with one of the boxes.

    Liu et al. 2016, SSD, section 2.2 and its code: the minimum is one of 0.1, 0.3, 0.5, 0.7, 0.9, or none, or the
    whole canvas stays; sides 0.3 to 1 of the canvas, their ratio 0.5 to 2 relative to it; 50 trials, then another
    minimum is drawn. Differs from the code: a crop holds the centre of at least one box, without which no object stays
    and the image would teach nothing.
    """
    if len(boxes) == 0:
        return canvas
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    while (least := _MIN_OVERLAPS[rng.integers(len(_MIN_OVERLAPS))]) is not None:
        crops = _trial_crops(canvas, rng)  # (T, 4)
        inside = ((centres >= crops[:, None, :2]) & (centres <= crops[:, None, 2:])).all(axis=-1)  # (T, N)
        shared = np.minimum(boxes[:, 2:], crops[:, None, 2:]) - np.maximum(boxes[:, :2], crops[:, None, :2])
        overlap = np.prod(np.maximum(shared, 0), axis=-1)  # (T, N)
        union = np.prod(crops[:, 2:] - crops[:, :2], axis=1)[:, None] + areas - overlap
        good = np.flatnonzero(((overlap >= least * union) & inside).any(axis=1))
        if len(good):
            return Window(*crops[good[0]].tolist())
    return canvas


def _trial_crops(canvas: Window, rng: np.random.Generator) -> NDArray[np.float64]:
    """Crops (T, 4) of random size, shape and place in the canvas."""
    scale = rng.uniform(0.3, 1.0, _TRIALS)
    root = np.sqrt(rng.uniform(np.maximum(0.5, scale**2), np.minimum(2.0, 1 / scale**2)))
    sides = np.stack([scale * root, scale / root], axis=-1)  # (T, 2) of 1
    corner = rng.uniform(0, 1, (_TRIALS, 2)) * (1 - sides)
    extent = np.array([canvas.x2 - canvas.x1, canvas.y2 - canvas.y1])
    origin = np.array([canvas.x1, canvas.y1])
    return np.concatenate([origin + corner * extent, origin + (corner + sides) * extent], axis=1)


class SSDTrain(DetectionTransform):
    """The augmentation of SSD: colours, zoom-out onto a mean-coloured canvas, IoU crop, stretch to S x S, mirror.

    Liu et al. 2016 and their code. A box stays if its centre is in the crop, and is then clipped. Differs: zoom and
    crop choose one window, of which only the part inside the picture is resized, so that no canvas of up to 16 times
    the picture's size is ever made; a box that is left with less than one pixel a side is dropped.

    Args:
        size: S.
        max_zoom: the largest zoom-out; 1 turns it off.
        zoom_probability: how often the picture is zoomed out.
        colour: strength of the colour changes, 0 turns them off.
        hue: of them the largest turn of the hue in degrees. The released code states 18, which it adds to OpenCV's
            bytes of two degrees each: 36 here. 18 degrees are common in later code.
    """

    def __init__(
        self,
        size: int,
        max_zoom: float = 4.0,
        zoom_probability: float = 0.5,
        colour: float = 1.0,
        hue: float = 18.0,
    ) -> None:
        if max_zoom < 1:
            raise ValueError(f"SSDTrain.max_zoom must be at least 1, got {max_zoom}")
        if not 0 <= hue <= 180:
            raise ValueError(f"SSDTrain.hue is 0 to 180 degrees, got {hue}")
        self.size, self.max_zoom, self.zoom_probability = size, max_zoom, zoom_probability
        self.colour, self.hue = colour, hue

    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The augmented sample."""
        rng = np.random.default_rng(seed)
        height, width = sample["image"].shape[:2]
        window = Window(0.0, 0.0, float(width), float(height))
        if rng.random() < self.zoom_probability:
            window = zoom_out(height, width, self.max_zoom, rng)
        window = iou_crop(sample["boxes"], window, rng)
        image, cuts = _look_through(sample["image"], window, self.size, rng, self.colour, self.hue)
        kept, boxes = _boxes_in(sample["boxes"], window, cuts, self.size)
        lookup = Lookup(*(placed(*cut.source, *cut.target, self.size) for cut in reversed(cuts)))
        objects = Moved(boxes, kept, masks_of(sample, kept, lookup))
        if rng.random() < 0.5:
            image, objects = mirror(image, objects)
        return prepare(sample, image, objects)


class Cut(NamedTuple):
    """Along one axis: the pixels of the picture that are shown, first and past the last, and those that show them."""

    source: tuple[int, int]
    target: tuple[int, int]

    @property
    def scale(self) -> float:
        """New pixels to an old one."""
        return (self.target[1] - self.target[0]) / (self.source[1] - self.source[0])

    @property
    def shift(self) -> float:
        """New place of the picture's edge."""
        return self.target[0] - self.scale * self.source[0]


def _boxes_in(boxes: Boxes, window: Window, cuts: tuple[Cut, Cut], size: int) -> tuple[NDArray[np.int64], Boxes]:
    """Positions of the boxes whose centre the window holds, and those boxes in the window's image, clipped to it."""
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    kept = np.flatnonzero((x >= window.x1) & (x <= window.x2) & (y >= window.y1) & (y <= window.y2))
    scale, shift = np.array([cut.scale for cut in cuts] * 2), np.array([cut.shift for cut in cuts] * 2)
    moved = np.clip(boxes[kept] * scale + shift, 0, size).astype(np.float32)
    large = (moved[:, 2:] - moved[:, :2] >= 1).all(axis=1)
    return kept[large], moved[large]


_INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)


def _look_through(
    image: Picture, window: Window, size: int, rng: np.random.Generator, colour: float, hue: float
) -> tuple[Picture, tuple[Cut, Cut]]:
    """What the window shows, (S, S, 3), and the cuts along x and y.

    The part of the picture in the window is cut at whole pixels on both sides; boxes follow this cut, so that they
    stay exact.
    """
    x = _cut(window.x1, window.x2, image.shape[1], size)
    y = _cut(window.y1, window.y2, image.shape[0], size)
    part = np.ascontiguousarray(image[slice(*y.source), slice(*x.source)])
    interpolation = _INTERPOLATIONS[rng.integers(len(_INTERPOLATIONS))]
    part = resize(part, y.target[1] - y.target[0], x.target[1] - x.target[0], interpolation)
    if colour > 0:
        part = distort_colours(part, rng, colour, hue)
    if part.shape[:2] == (size, size):
        return part, (x, y)
    canvas = np.empty((size, size, 3), np.uint8)
    canvas[:] = MEAN_COLOUR
    canvas[slice(*y.target), slice(*x.target)] = part
    return canvas, (x, y)


def _cut(low: float, high: float, extent: int, size: int) -> Cut:
    """What the window low..high shows of `extent` pixels in an image of `size`."""
    first = min(max(0, math.floor(low + 0.5)), extent - 1)
    last = max(min(extent, math.floor(high + 0.5)), first + 1)
    zoom = size / (high - low)
    start = min(max(0, math.floor((first - low) * zoom + 0.5)), size - 1)
    end = max(min(size, math.floor((last - low) * zoom + 0.5)), start + 1)
    return Cut((first, last), (start, end))
