"""Presets of the two-stage detectors: the picture keeps its aspect, its shorter side gets a given length."""

import numpy as np
from torch import Tensor

from lightning_cv.contracts import DetectionSample, Placement
from lightning_cv.transforms.common import (
    DetectionTransform,
    Picture,
    PreparedDetection,
    image_tensor,
    mirror,
    prepare,
    stretch,
    stretch_objects,
)
from lightning_cv.transforms.detection import EvalTransform


def shorter_side_size(height: int, width: int, shorter: int, longer: int) -> tuple[int, int]:
    """Height and width with the shorter side at `shorter`, or less where the longer would pass `longer`.

    Girshick 2015, Fast R-CNN, section 3.2: 600 and 1000.

    >>> shorter_side_size(375, 500, 600, 1000), shorter_side_size(200, 500, 600, 1000)
    ((600, 800), (400, 1000))
    """
    scale = min(shorter / min(height, width), longer / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


class ShorterSideEval(EvalTransform):
    """The whole picture with its shorter side at `shorter` pixels and its longer at most at `longer`."""

    def __init__(self, shorter: int = 600, longer: int = 1000) -> None:
        _check(self, shorter, longer)
        self.shorter, self.longer = shorter, longer

    def image(self, image: Picture) -> Tensor:
        """The tensor (3, h, w) of one RGB picture (H, W, 3)."""
        return image_tensor(stretch(image, *self._size(image)))

    def placement(self, height: int, width: int) -> Placement:
        """Both sides by about the same factor: each is rounded to whole pixels."""
        new_height, new_width = shorter_side_size(height, width, self.shorter, self.longer)
        return Placement(new_width / width, new_height / height)

    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The resized sample; the seed is not used."""
        height, width = self._size(sample["image"])
        objects, placement = stretch_objects(sample, height, width)
        return prepare(sample, stretch(sample["image"], height, width), objects, placement)

    def _size(self, image: Picture) -> tuple[int, int]:
        return shorter_side_size(image.shape[0], image.shape[1], self.shorter, self.longer)


class ShorterSideTrain(DetectionTransform):
    """As `ShorterSideEval`, mirrored left to right every second time. Every object stays.

    Ren et al. 2015, Faster R-CNN, section 3.3: one scale. More than one makes each picture take one of them by chance,
    as in Girshick 2015, section 5.2. Images of a batch may differ in size: they are padded.

    Args:
        shorter: lengths of the shorter side, one of which is drawn.
        longer: no side becomes longer.
    """

    def __init__(self, shorter: list[int] | None = None, longer: int = 1000) -> None:
        self.shorter = shorter if shorter is not None else [600]
        for length in self.shorter or [0]:
            _check(self, length, longer)
        self.longer = longer

    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The resized sample, mirrored or not."""
        rng = np.random.default_rng(seed)
        old_height, old_width = sample["image"].shape[:2]
        shorter = self.shorter[rng.integers(len(self.shorter))]
        height, width = shorter_side_size(old_height, old_width, shorter, self.longer)
        image = stretch(sample["image"], height, width)
        objects, _ = stretch_objects(sample, height, width)
        if rng.random() < 0.5:
            image, objects = mirror(image, objects)
        return prepare(sample, image, objects)


def _check(preset: DetectionTransform, shorter: int, longer: int) -> None:
    if not 1 <= shorter <= longer:
        raise ValueError(f"{type(preset).__name__}: shorter must be 1 to longer, got {shorter} and {longer}")
