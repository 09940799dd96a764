"""Presets for autoencoders: a square from the middle of the picture at one size, mirrored in training.

Letters: H, W the file's size; S the side of a prepared image; C 3, or 1 for grey.
"""

from typing import NamedTuple, TypedDict

import cv2
import numpy as np
from torch import Tensor

from lightning_cv.ops.counters import mix
from lightning_cv.transforms.common import Picture, image_tensor, stretch


class ImageSample(TypedDict):
    """A picture and its class, as a data set reads them."""

    image_id: str
    image: Picture  # (H, W, 3) RGB
    label: int


class PreparedImage(NamedTuple):
    """One image for a net."""

    image: Tensor  # float32 (C, S, S)
    image_id: str
    label: int


def middle_square(image: Picture, size: int, crop: int | None = None) -> Picture:
    """The square (S, S, 3) in the middle of a picture, means of areas where it shrinks, linear where it grows.

    Args:
        image: (H, W, 3).
        size: S.
        crop: side of the square that is cut out, at most the picture's shorter side; None for that side.
    """
    height, width = image.shape[:2]
    side = min(height, width, crop or height)
    top, left = (height - side) // 2, (width - side) // 2
    return stretch(image[top : top + side, left : left + side], size, size)


class AutoencoderEval:
    """The square in the middle of the picture, `size` x `size`.

    Args:
        size: S.
        crop: see `middle_square`.
        grey: one channel of grey values instead of RGB.
    """

    def __init__(self, size: int, crop: int | None = None, grey: bool = False) -> None:
        if size < 1 or (crop is not None and crop < 1):
            raise ValueError(f"{type(self).__name__}: size and crop must be at least 1, got {size} and {crop}")
        self.size, self.crop, self.grey = size, crop, grey

    def square(self, image: Picture) -> Picture:
        """The square (S, S, C) of bytes: what is worth keeping in memory, for another preset without `crop`."""
        square = middle_square(image, self.size, self.crop)
        if self.grey and square.shape[2] == 3:
            return np.asarray(cv2.cvtColor(square, cv2.COLOR_RGB2GRAY), np.uint8)[..., None]
        return square

    def image(self, image: Picture) -> Tensor:
        """The tensor (C, S, S) of one picture (H, W, 3)."""
        return image_tensor(self.square(image))

    def __call__(self, sample: ImageSample, seed: int, /) -> PreparedImage:
        """The prepared sample; the seed is not used."""
        return PreparedImage(self.image(sample["image"]), sample["image_id"], sample["label"])


class AutoencoderTrain(AutoencoderEval):
    """As `AutoencoderEval`, mirrored left to right every second time.

    Args:
        size, crop, grey: as for `AutoencoderEval`.
        flip: False leaves every picture as it is.
    """

    def __init__(self, size: int, crop: int | None = None, flip: bool = True, grey: bool = False) -> None:
        super().__init__(size, crop, grey)
        self.flip = flip

    def __call__(self, sample: ImageSample, seed: int, /) -> PreparedImage:
        """The prepared sample: a function of both arguments alone."""
        square = self.square(sample["image"])
        if self.flip and mix(seed) % 2:  # one bit: a generator would cost more than all the rest
            square = square[:, ::-1]
        return PreparedImage(image_tensor(square), sample["image_id"], sample["label"])
