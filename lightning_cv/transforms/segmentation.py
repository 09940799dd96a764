"""Presets for semantic segmentation: image and class mask change together, what lies outside the picture is VOID."""

import albumentations as A
import cv2
import numpy as np
from torch import Tensor

from lightning_cv.contracts import VOID, SegmentationSample
from lightning_cv.transforms.colour import channel_gains
from lightning_cv.transforms.common import (
    MEAN_COLOUR,
    Picture,
    PreparedMask,
    SegmentationTransform,
    image_tensor,
    prepare_mask,
    resize,
    stretch,
)


def pad(image: Picture, height: int, width: int, fill: int | tuple[int, int, int]) -> Picture:
    """The picture, mask or label planes with `fill` at its right and bottom, up to the size given."""
    bottom, right = height - image.shape[0], width - image.shape[1]
    if bottom == 0 and right == 0:
        return image
    if isinstance(fill, int):  # of any number of planes, where OpenCV takes four
        edges = ((0, bottom), (0, right), (0, 0))
        return np.pad(image, edges[: image.ndim], constant_values=fill)
    return np.asarray(cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=fill), np.uint8)


class SegmentationEval(SegmentationTransform):
    """The picture at its own size, so that scores count true pixels; padded right and bottom, VOID in the mask.

    Args:
        multiple: both sides are padded up to a multiple of it.
    """

    def __init__(self, multiple: int = 32) -> None:
        if multiple < 1:
            raise ValueError(f"SegmentationEval.multiple must be at least 1, got {multiple}")
        self.multiple = multiple

    def image(self, image: Picture) -> Tensor:
        """The tensor of one RGB picture (H, W, 3), the picture in its upper left corner."""
        return image_tensor(pad(image, *self._padded(image), MEAN_COLOUR))

    def __call__(self, sample: SegmentationSample, seed: int, /) -> PreparedMask:
        """The padded sample; the seed is not used."""
        height, width = self._padded(sample["image"])
        image = pad(sample["image"], height, width, MEAN_COLOUR)
        return prepare_mask(sample, image, pad(sample["mask"], height, width, VOID))

    def _padded(self, image: Picture) -> tuple[int, int]:
        height, width = (-(-side // self.multiple) * self.multiple for side in image.shape[:2])
        return height, width


class SegmentationFlip(SegmentationTransform):
    """Mirrored left to right every second time, colour gains of 1 ± `jitter` a channel; no change of size."""

    def __init__(self, jitter: float = 0.0) -> None:
        self.jitter = jitter

    def __call__(self, sample: SegmentationSample, seed: int, /) -> PreparedMask:
        """The sample, mirrored or not."""
        rng = np.random.default_rng(seed)
        image, mask = channel_gains(sample["image"], self.jitter, rng), sample["mask"]
        if rng.random() < 0.5:
            image, mask = image[:, ::-1], mask[:, ::-1]
        return prepare_mask(sample, image, mask)


class SegmentationTrain(SegmentationTransform):
    """Random scale, pad, random crop, mirror and mild changes of colour: the usual recipe for VOC masks.

    As in Chen et al. 2017 (DeepLab v3, section 4.1): scale 0.5 to 2, crop, mirror. Runs on albumentations.

    Args:
        crop: side of the square that is cut out; a picture that is smaller after scaling is padded with VOID.
        scale: smallest and largest factor of size.
        colour: strength of brightness, contrast and saturation (1 ± it) and of hue (a tenth of it).
    """

    def __init__(self, crop: int, scale: tuple[float, float] = (0.5, 2.0), colour: float = 0.2) -> None:
        low, high = scale
        if not 0 < low <= high:
            raise ValueError(f"SegmentationTrain.scale must be two factors, the smaller first, got {scale}")
        around = (1 - colour, 1 + colour)
        self.pipeline = A.Compose(
            [
                A.RandomScale(
                    (low - 1, high - 1),
                    interpolation=cv2.INTER_LINEAR,
                    mask_interpolation=cv2.INTER_NEAREST_EXACT,  # INTER_NEAREST is up to a whole pixel off
                    p=1.0,
                ),
                A.PadIfNeeded(
                    crop, crop, position="random", border_mode=cv2.BORDER_CONSTANT, fill=MEAN_COLOUR, fill_mask=VOID
                ),
                A.RandomCrop(crop, crop),
                A.HorizontalFlip(p=0.5),
                A.ColorJitter(around, around, around, (-colour / 10, colour / 10)),
            ]
        )

    def __call__(self, sample: SegmentationSample, seed: int, /) -> PreparedMask:
        """The augmented sample."""
        self.pipeline.set_random_seed(seed)
        changed = self.pipeline(image=sample["image"], mask=sample["mask"])
        return prepare_mask(sample, changed["image"], changed["mask"])


class WindowTrain(SegmentationTransform):
    """The picture stretched to a square of `larger` pixels, a square of `size` cut out by chance, mirrored or not.

    For windows of pictures, see `datasets.windows`. Noh et al. 2015, section 4.2: 250 and 224 pixels.

    Args:
        size: side of the result.
        larger: side of what it is cut from.
        jitter: colour gains of 1 ± it a channel; the paper has none.
    """

    def __init__(self, size: int = 224, larger: int = 250, jitter: float = 0.0) -> None:
        if not 1 <= size <= larger:
            raise ValueError(f"WindowTrain: size must be 1 to larger, got {size} and {larger}")
        self.size, self.larger, self.jitter = size, larger, jitter

    def __call__(self, sample: SegmentationSample, seed: int, /) -> PreparedMask:
        """The augmented sample."""
        rng = np.random.default_rng(seed)
        image = channel_gains(stretch(sample["image"], self.larger, self.larger), self.jitter, rng)
        mask = resize(sample["mask"], self.larger, self.larger, cv2.INTER_NEAREST_EXACT)
        top, left = rng.integers(0, self.larger - self.size + 1, 2).tolist()
        place = (slice(top, top + self.size), slice(left, left + self.size))
        image, mask = image[place], mask[place]
        if rng.random() < 0.5:
            image, mask = image[:, ::-1], mask[:, ::-1]
        return prepare_mask(sample, image, mask)
