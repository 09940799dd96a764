"""Presets for detection that keep every object: the plain stretch of evaluation, and mirroring."""

from abc import abstractmethod

import numpy as np
from torch import Tensor

from lightning_cv.contracts import DetectionSample, Placement
from lightning_cv.transforms.colour import channel_gains
from lightning_cv.transforms.common import (
    DetectionTransform,
    Moved,
    Picture,
    PreparedDetection,
    all_objects,
    image_tensor,
    mirror,
    prepare,
    stretch,
    stretch_objects,
)


class EvalTransform(DetectionTransform):
    """A preset that shows the whole picture, so that what is found in it can be said in pixels of the file."""

    @abstractmethod
    def image(self, image: Picture) -> Tensor:
        """The tensor (3, h, w) of one RGB picture (H, W, 3)."""

    @abstractmethod
    def placement(self, height: int, width: int) -> Placement:
        """Where that tensor shows a file of this size."""


class DetectionEval(EvalTransform):
    """The whole picture stretched to `size` x `size`; every object stays, however small it becomes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def image(self, image: Picture) -> Tensor:
        """The tensor (3, S, S) of one RGB picture (H, W, 3)."""
        return image_tensor(stretch(image, self.size, self.size))

    def placement(self, height: int, width: int) -> Placement:
        """Both sides by their own factor."""
        return Placement(self.size / width, self.size / height)

    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The stretched sample; the seed is not used."""
        objects, placement = stretch_objects(sample, self.size, self.size)
        return prepare(sample, stretch(sample["image"], self.size, self.size), objects, placement)


class FlipOnly(DetectionTransform):
    """Mirrored left to right every second time, colour gains of 1 ± `jitter` a channel; no change of size.

    For pictures that are all of one size, such as drawn scenes. Cheap: about 0.2 ms at 128 x 128.
    """

    def __init__(self, jitter: float = 0.0) -> None:
        self.jitter = jitter

    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The sample, mirrored or not."""
        rng = np.random.default_rng(seed)
        image = channel_gains(sample["image"], self.jitter, rng)
        objects = Moved(sample["boxes"], all_objects(sample), sample.get("masks"), sample.get("proposals"))
        if rng.random() < 0.5:
            image, objects = mirror(image, objects)
        return prepare(sample, image, objects)
