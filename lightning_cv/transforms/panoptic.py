"""Presets for panoptic segmentation: picture and segments change together, what lies outside the picture is void.

A segment that no pixel of the result shows is dropped, and the others are numbered anew. Letters: N segments; H, W the
file's size; h, w that of the result; S the side of a square one.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import PanopticSample, PanopticTarget, Placement
from lightning_cv.transforms.common import MEAN_COLOUR, Picture, image_tensor, stretch
from lightning_cv.transforms.masks import stretched
from lightning_cv.transforms.two_stage import shorter_side_size

Segments = NDArray[np.int32]


class PreparedPanoptic(NamedTuple):
    """One image for a net and its segments."""

    image: Tensor  # float32 (3, h, w)
    target: PanopticTarget


class PanopticTransform(ABC):
    """What prepares panoptic samples; the base of all presets, by which a configuration knows them."""

    @abstractmethod
    def __call__(self, sample: PanopticSample, seed: int, /) -> PreparedPanoptic:
        """The prepared sample: a function of both arguments alone."""


class PanopticEval(PanopticTransform):
    """The whole picture with its shorter side at `shorter` pixels and its longer at most at `longer`."""

    def __init__(self, shorter: int = 800, longer: int = 1333) -> None:
        if not 1 <= shorter <= longer:
            raise ValueError(f"PanopticEval: shorter must be 1 to longer, got {shorter} and {longer}")
        self.shorter, self.longer = shorter, longer

    def image(self, image: Picture) -> Tensor:
        """The tensor (3, h, w) of one RGB picture (H, W, 3)."""
        return image_tensor(stretch(image, *self._size(image)))

    def placement(self, height: int, width: int) -> Placement:
        """Where that tensor shows a file of this size; both factors are about the same."""
        new_height, new_width = shorter_side_size(height, width, self.shorter, self.longer)
        return Placement(new_width / width, new_height / height)

    def __call__(self, sample: PanopticSample, seed: int, /) -> PreparedPanoptic:
        """The resized sample; the seed is not used."""
        height, width = self._size(sample["image"])
        image, segments = _resized(sample, height, width)
        return prepare_panoptic(sample, image, segments, self.placement(*sample["image"].shape[:2]))

    def _size(self, image: Picture) -> tuple[int, int]:
        return shorter_side_size(image.shape[0], image.shape[1], self.shorter, self.longer)


class PanopticTrain(PanopticTransform):
    """Random scale, random crop of S x S, mirrored left to right every second time.

    Ghiasi et al. 2021, "Simple copy-paste", section 3.2, "Scale jittering", without the pasting: the picture is made as
    large as a square of S times a random factor holds, aspect kept; what is larger than S is cut at a random place,
    what is smaller is padded right and bottom.

    Args:
        size: S.
        scale: smallest and largest factor.
    """

    def __init__(self, size: int = 640, scale: tuple[float, float] = (0.5, 2.0)) -> None:
        if size < 1 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"PanopticTrain: size at least 1, scale two factors, the smaller first: {size}, {scale}")
        self.size, self.scale = size, scale

    def __call__(self, sample: PanopticSample, seed: int, /) -> PreparedPanoptic:
        """The augmented sample."""
        rng = np.random.default_rng(seed)
        factor = rng.uniform(*self.scale) * self.size / max(sample["image"].shape[:2])
        height, width = (max(1, round(side * factor)) for side in sample["image"].shape[:2])
        image, segments = _resized(sample, height, width)
        top, left = (int(rng.integers(max(side - self.size, 0) + 1)) for side in (height, width))
        image, segments = self._cut(image[top:, left:], segments[top:, left:])
        if rng.random() < 0.5:
            image, segments = image[:, ::-1], segments[:, ::-1]
        return prepare_panoptic(sample, image, segments)

    def _cut(self, image: Picture, segments: Segments) -> tuple[Picture, Segments]:
        """The upper left S x S pixels; what is missing has the mean colour and is void."""
        canvas, numbers = np.empty((self.size, self.size, 3), np.uint8), np.zeros((self.size, self.size), np.int32)
        canvas[:] = MEAN_COLOUR
        height, width = (min(side, self.size) for side in segments.shape)
        canvas[:height, :width] = image[:height, :width]
        numbers[:height, :width] = segments[:height, :width]
        return canvas, numbers


class PanopticShorterSide(PanopticTransform):
    """Aspect kept, the shorter side at a length drawn by chance, mirrored left to right every second time.

    As in Detectron2. With `before_crop` every second picture is first brought to one of those lengths and cut, as DETR
    has it (Carion et al. 2020, section A.4): a window, each side drawn from `crop`, at a random place, is then resized.
    Differs in that pixels are resampled once: the window is cut from the file. Images of a batch may differ in size:
    they are padded.

    Args:
        shorter: lengths of the shorter side, one of which is drawn.
        longer: no side becomes longer.
        before_crop: lengths of the shorter side before the cut; none, and no picture is cut.
        crop: least and greatest side of the window, no greater than the picture's; a smaller picture is its own window.
    """

    def __init__(
        self,
        shorter: list[int] | None = None,
        longer: int = 1333,
        before_crop: list[int] | None = None,
        crop: tuple[int, int] = (384, 600),
    ) -> None:
        self.shorter, self.longer = shorter if shorter is not None else [800], longer
        self.before_crop, self.crop = before_crop or [], crop
        if not self.shorter or not all(1 <= length <= longer for length in self.shorter):
            raise ValueError(f"PanopticShorterSide: shorter are lengths from 1 to longer, got {shorter} and {longer}")
        if not (all(length >= 1 for length in self.before_crop) and 1 <= crop[0] <= crop[1]):
            raise ValueError(f"PanopticShorterSide: before_crop are lengths, crop two that rise: {before_crop}, {crop}")

    def __call__(self, sample: PanopticSample, seed: int, /) -> PreparedPanoptic:
        """The augmented sample."""
        rng = np.random.default_rng(seed)
        image, segments = sample["image"], sample["segments"]
        if self.before_crop and rng.random() < 0.5:
            length = self.before_crop[rng.integers(len(self.before_crop))]
            image, segments = _window(image, segments, length / min(segments.shape), self.crop, rng)
        length = self.shorter[rng.integers(len(self.shorter))]
        height, width = shorter_side_size(segments.shape[0], segments.shape[1], length, self.longer)
        image, segments = _stretched(image, segments, height, width)
        if rng.random() < 0.5:
            image, segments = image[:, ::-1], segments[:, ::-1]
        return prepare_panoptic(sample, image, segments)


def _window(
    image: Picture, segments: Segments, scale: float, sides: tuple[int, int], rng: np.random.Generator
) -> tuple[Picture, Segments]:
    """A window at a random place, each side drawn from the two lengths in pixels of the picture times `scale`."""
    scaled = (round(side * scale) for side in segments.shape)
    drawn = (int(rng.integers(min(sides[0], side), min(sides[1], side) + 1)) for side in scaled)
    height, width = (max(1, min(round(a / scale), b)) for a, b in zip(drawn, segments.shape, strict=True))
    top, left = (int(rng.integers(side - new + 1)) for side, new in zip(segments.shape, (height, width), strict=True))
    window = (slice(top, top + height), slice(left, left + width))
    return image[window], segments[window]


def _resized(sample: PanopticSample, height: int, width: int) -> tuple[Picture, Segments]:
    """Picture and segments at another size; a pixel takes the segment of the pixel in which its centre lies."""
    return _stretched(sample["image"], sample["segments"], height, width)


def _stretched(image: Picture, segments: Segments, height: int, width: int) -> tuple[Picture, Segments]:
    rows, columns = stretched(image.shape[0], height), stretched(image.shape[1], width)
    return stretch(image, height, width), segments[rows[:, None], columns]


def prepare_panoptic(
    sample: PanopticSample, image: Picture, segments: Segments, placement: Placement | None = None
) -> PreparedPanoptic:
    """Picture and segments (h, w) as tensors, without the segments that have no pixel left."""
    seen = np.bincount(segments.ravel(), minlength=len(sample["labels"]) + 1)[1:] > 0  # (N,)
    table = np.concatenate([np.zeros(1, np.int64), np.where(seen, np.cumsum(seen), 0)])
    target: PanopticTarget = {
        "image_id": sample["image_id"],
        "segments": torch.from_numpy(table[segments]),
        "labels": torch.from_numpy(sample["labels"][seen]),
        "is_thing": torch.from_numpy(sample["is_thing"][seen]),
        "crowd": torch.from_numpy(sample["crowd"][seen]),
        "original_size": (sample["image"].shape[0], sample["image"].shape[1]),
    }
    if placement is not None:
        target["placement"] = placement
        target["file"] = {
            "segments": torch.from_numpy(sample["segments"].astype(np.int64)),
            "labels": torch.from_numpy(sample["labels"]),
            "is_thing": torch.from_numpy(sample["is_thing"]),
            "crowd": torch.from_numpy(sample["crowd"]),
        }
    return PreparedPanoptic(image_tensor(image), target)
