"""Selective search: where objects may be, from the picture alone. Letters: H, W the picture; C channels; N boxes.

Uijlings et al. 2013, "Selective search for object recognition". Many hierarchical groupings (`ops.regions`) of one
picture: each of several colour spaces, sizes of the initial regions and measures of likeness gives its own boxes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

from lightning_cv.ops.regions import Alike, Ints, by_priority, group_regions, measure_regions

Colour = Literal["hsv", "lab", "rgi", "hue", "intensity"]
Planes = NDArray[np.float32]

COLOURS: tuple[Colour, ...] = ("hsv", "lab", "rgi", "hue", "intensity")
SCALES = (50, 100, 150, 300)
LIKENESS = (
    Alike(colour=True, texture=True, size=True, fill=True),
    Alike(colour=False, texture=True, size=True, fill=True),
    Alike(colour=False, texture=False, size=False, fill=True),
    Alike(colour=False, texture=False, size=True, fill=False),
)
"""Table 5 of the paper and the released code: "quality" is all of them, "fast" the first two of each."""

COLOUR_BINS, TEXTURE_BINS, DIRECTIONS = 25, 10, 8

METHOD = "selective search"
VERSION = 1
"""To be raised when the same settings come to give other boxes: kept ones are then stale."""


@dataclass(frozen=True)
class SelectiveSearch:
    """Settings; called with a picture it gives boxes.

    Args:
        mode: "fast" groups a picture in 8 ways, about 2,000 boxes of a VOC picture; "quality" in 80, about 10,000.
        width: pictures are searched at this width, as in R-CNN; 0 leaves them as they are.
        min_side: boxes with a shorter side, in pixels at that width, are left out; 20 in R-CNN.
        sigma: of the smoothing before the initial regions are found.
        most: boxes of a picture; 0 for all.
        seed: of the order in which boxes come.
    """

    mode: Literal["fast", "quality"] = "fast"
    width: int = 500
    min_side: int = 20
    sigma: float = 0.8
    most: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("fast", "quality"):
            raise ValueError(f"selective search: mode is fast or quality, got {self.mode!r}")
        if min(self.width, self.min_side, self.most) < 0 or self.sigma < 0:
            raise ValueError(f"selective search: width, min_side, sigma and most are not negative, got {self.settings}")

    @property
    def settings(self) -> dict[str, Any]:  # Any: words and numbers
        """What a cache is keyed by."""
        return {"method": METHOD, "version": VERSION, **asdict(self)}

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Boxes (N, 4) in pixels of an RGB picture (H, W, 3), likely objects first."""
        height, width = image.shape[:2]
        shown = image
        if self.width:
            new_height = max(1, round(height * self.width / width))
            shrinks = self.width < width
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            shown = np.asarray(cv2.resize(image, (self.width, new_height), interpolation=method), np.uint8)
        used = 2 if self.mode == "fast" else len(LIKENESS)
        hierarchies = []
        for colour in COLOURS if self.mode == "quality" else COLOURS[:2]:
            hierarchies += _hierarchies(colour_planes(shown, colour), SCALES[:used], LIKENESS[:used], self.sigma)
        boxes = by_priority(hierarchies, torch.Generator().manual_seed(self.seed))
        boxes = boxes[np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) >= self.min_side]
        scale = np.array([width / shown.shape[1], height / shown.shape[0]] * 2)
        found: NDArray[np.float32] = (
            (boxes[: self.most or None] * scale).clip(0, [width, height] * 2).astype(np.float32)
        )
        return found


def search_of_settings(settings: Mapping[str, Any]) -> SelectiveSearch:  # Any: words and numbers
    """The search whose `SelectiveSearch.settings` these are.

    Raises:
        ValueError: they are of another method, or of a version that found other boxes.
    """
    known = {name: value for name, value in settings.items() if name not in ("method", "version")}
    if settings.get("method") != METHOD:
        raise ValueError(f"its boxes were found by {settings.get('method')!r}, not by {METHOD}")
    if settings.get("version") != VERSION:
        raise ValueError(
            f"its boxes were found by version {settings.get('version')} of {METHOD}, this is version {VERSION}"
        )
    try:
        return SelectiveSearch(**known)
    except TypeError as error:
        raise ValueError(f"no settings of {METHOD} ({error})") from None


def _hierarchies(planes: Planes, scales: tuple[int, ...], ways: tuple[Alike, ...], sigma: float) -> list[Ints]:
    """Boxes of one colour space: for each size of the initial regions, each way to group them."""
    colour, texture = in_bins(planes, COLOUR_BINS), in_bins(edges(planes), TEXTURE_BINS)
    found = []
    for scale in scales:
        labels = np.asarray(felzenszwalb(planes.transpose(1, 2, 0), scale=scale, sigma=sigma, min_size=scale), np.int64)
        regions = measure_regions(labels, colour, texture, COLOUR_BINS, TEXTURE_BINS)
        found += [group_regions(regions, alike) for alike in ways]
    return found


def colour_planes(image: NDArray[np.uint8], colour: Colour) -> Planes:
    """An RGB picture (H, W, 3) in another colour space, (C, H, W), 0 to 1."""
    rgb = image.astype(np.float32) / 255
    if colour == "lab":
        lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)
        return np.stack([lab[..., 0] / 100, (lab[..., 1] + 128) / 255, (lab[..., 2] + 128) / 255])
    grey: Planes = rgb.mean(axis=2)
    if colour == "intensity":
        return grey[None]
    if colour == "rgi":
        total = np.maximum(rgb.sum(axis=2), 1e-6)
        return np.stack([rgb[..., 0] / total, rgb[..., 1] / total, grey])
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    hue = np.asarray(hsv[..., 0] / 360, np.float32)
    return hue[None] if colour == "hue" else np.stack([hue, hsv[..., 1], hsv[..., 2]])


def edges(planes: Planes) -> Planes:
    """How much each channel rises in each of 8 directions, (C * 8, H, W), 0 to 1: derivatives of a Gaussian of sigma 1.

    Section 3.2 of the paper. Eight directions around the circle; a fall is the rise in the opposite one.
    """
    offsets = np.arange(-3, 4, dtype=np.float32)
    bell = np.exp(-(offsets**2) / 2)
    bell /= bell.sum()
    slope = (offsets * bell).astype(np.float32)  # its answer to a ramp of 1 a pixel is 1, to a unit step about 0.4
    angles = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    found = []
    for plane in planes:
        across, down = cv2.sepFilter2D(plane, -1, slope, bell), cv2.sepFilter2D(plane, -1, bell, slope)
        found += [np.float32(np.cos(angle)) * across + np.float32(np.sin(angle)) * down for angle in angles]
    rises: Planes = np.maximum(np.stack(found), 0) / np.float32(slope.clip(0).sum())
    return rises


def in_bins(planes: Planes, bins: int) -> Ints:
    """The bin, 0 to `bins` - 1, of each value from 0 to 1."""
    return np.clip((planes * bins).astype(np.int64), 0, bins - 1)
