"""Presets of CornerNet (Law and Deng 2018). Letters: N boxes of an image; S side of the result."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from lightning_cv.contracts import DetectionSample, Placement
from lightning_cv.transforms.common import (
    DetectionTransform,
    Moved,
    Picture,
    PreparedDetection,
    all_objects,
    image_tensor,
    masks_of,
    mirror,
    prepare,
    resize,
)
from lightning_cv.transforms.detection import EvalTransform
from lightning_cv.transforms.masks import Lookup, windowed

SCALES = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)

# principal components of ImageNet's colours (Krizhevsky et al. 2012), as CornerNet's code has them; rows are R, G, B
_DEVIATIONS = np.array([0.2141788, 0.01817699, 0.00341571])
_COMPONENTS = np.array(
    [
        [-0.56089297, 0.71832671, 0.41158938],
        [-0.58327470, 0.00994535, -0.81221408],
        [-0.58752847, -0.69563484, 0.41340352],
    ]
)


class OriginalSizeEval(EvalTransform):
    """The picture as it is: CornerNet is tested at the files' own size (Law and Deng 2018, section 4.2), R-CNN too."""

    def image(self, image: Picture) -> Tensor:
        """The tensor (3, H, W) of one RGB picture (H, W, 3)."""
        return image_tensor(image)

    def placement(self, height: int, width: int) -> Placement:
        """Pixel for pixel."""
        return Placement(1.0, 1.0)

    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The sample; the seed is not used."""
        objects = Moved(sample["boxes"], all_objects(sample), sample.get("masks"), sample.get("proposals"))
        return prepare(sample, sample["image"], objects, Placement(1.0, 1.0))


class CornerNetTrain(DetectionTransform):
    """A square window of random size around a random point, black outside the picture, as S x S; mirror; colours.

    Law and Deng 2018, section 4.1, and the released code. Every box that the window shows a pixel of stays and is cut
    to it. Differs: the result is rounded to bytes, and a box left with less than one pixel a side is dropped.

    Args:
        size: S.
        scales: sides of the window in S, one of which is drawn.
        border: the point keeps so many pixels from the picture's edges, half as many (a quarter, ...) where the
            picture is too small.
        colour: largest change of brightness, contrast and saturation, relative; they come in random order.
        lighting: deviation of the shift along the principal components of colour.
    """

    def __init__(
        self,
        size: int = 511,
        scales: Sequence[float] = SCALES,
        border: int = 128,
        colour: float = 0.4,
        lighting: float = 0.1,
    ) -> None:
        if size < 1 or border < 0 or not scales or min(scales) * size < 1 or not 0 <= colour < 1 or lighting < 0:
            raise ValueError(
                f"CornerNetTrain: size at least 1, border and lighting at least 0, colour 0 to 1 and windows of at "
                f"least a pixel are needed, got {size}, {border}, {lighting}, {colour} and scales {list(scales)}"
            )
        self.size, self.scales, self.border = size, tuple(scales), border
        self.colour, self.lighting = colour, lighting

    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The augmented sample."""
        rng = np.random.default_rng(seed)
        height, width = sample["image"].shape[:2]
        side = int(self.size * self.scales[rng.integers(len(self.scales))])
        left, top = (_around(extent, self.border, rng) - side // 2 for extent in (width, height))
        image = resize(_window(sample["image"], left, top, side), self.size, self.size, cv2.INTER_LINEAR)
        moved = (sample["boxes"] - np.array([left, top] * 2)) * (self.size / side)
        edges = (np.array([-left, -top] * 2), np.array([width - left, height - top] * 2))
        low, high = (np.clip(edge * (self.size / side), 0, self.size) for edge in edges)
        boxes = np.clip(moved, low, high).astype(np.float32)
        kept = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1))
        lookup = Lookup(*(windowed(start, side, old, self.size) for start, old in ((top, height), (left, width))))
        objects = Moved(boxes[kept], kept, masks_of(sample, kept, lookup))
        if rng.random() < 0.5:
            image, objects = mirror(image, objects)
        return prepare(sample, recolour(image, rng, self.colour, self.lighting), objects)


def recolour(image: Picture, rng: np.random.Generator, strength: float, lighting: float) -> Picture:
    """Brightness, contrast and saturation x 1 ± `strength` in random order, then a shift along the colour components.

    Law and Deng 2018, released code, after Krizhevsky et al. 2012, section 4.1.
    """
    if strength == 0 and lighting == 0:
        return image
    colours = image.astype(np.float32) / 255
    grey = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)[..., None]  # (S, S, 1)
    others = (np.float32(0), grey.mean(), grey)  # what brightness, contrast and saturation are weakened towards
    for kind in rng.permutation(3):
        share = np.float32(1 + rng.uniform(-strength, strength))
        colours = share * colours + (1 - share) * others[kind]
    colours = colours + (_COMPONENTS @ (_DEVIATIONS * rng.normal(0, lighting, 3))).astype(np.float32)
    return np.asarray((colours * 255).round().clip(0, 255), np.uint8)


def _around(extent: int, border: int, rng: np.random.Generator) -> int:
    """A point of an axis, away from its ends by the border or its largest halving that leaves room."""
    while extent <= 2 * border:
        border //= 2
    return int(rng.integers(border, extent - border))


def _window(image: Picture, left: int, top: int, side: int) -> Picture:
    """A square of the picture, black where it reaches outside."""
    height, width = image.shape[:2]
    window = np.zeros((side, side, 3), np.uint8)
    y1, y2, x1, x2 = max(top, 0), min(top + side, height), max(left, 0), min(left + side, width)
    window[y1 - top : y2 - top, x1 - left : x2 - left] = image[y1:y2, x1:x2]
    return window
