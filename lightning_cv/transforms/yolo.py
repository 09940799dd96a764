"""Presets of YOLO: letterbox, and the training augmentation of darknet. Letters: S side of the result."""

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import DetectionSample, Placement
from lightning_cv.ops.counters import mix
from lightning_cv.transforms.common import (
    DetectionTransform,
    Moved,
    Picture,
    PreparedDetection,
    image_tensor,
    masks_of,
    mirror,
    prepare,
    resize,
)
from lightning_cv.transforms.detection import EvalTransform
from lightning_cv.transforms.masks import Lookup, placed, windowed

GREY = 128
"""What fills the outside of a picture: darknet's 0.5."""


def letterbox_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width of the picture in a square of `size`, aspect kept.

    >>> letterbox_size(375, 500, 416)
    (312, 416)
    """
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


class LetterboxEval(EvalTransform):
    """The whole picture in the middle of a grey square, aspect kept (Redmon's darknet, `letterbox_image`)."""

    def __init__(self, size: int = 416) -> None:
        self.size = size

    def image(self, image: Picture) -> Tensor:
        """The tensor (3, S, S) of one RGB picture (H, W, 3)."""
        height, width = letterbox_size(image.shape[0], image.shape[1], self.size)
        left, top = (self.size - width) // 2, (self.size - height) // 2
        return image_tensor(_on_grey(resize(image, height, width, cv2.INTER_LINEAR), left, top, self.size))

    def placement(self, height: int, width: int) -> Placement:
        """Scale of both sides, and the grey at the left and top."""
        new_height, new_width = letterbox_size(height, width, self.size)
        left, top = (self.size - new_width) // 2, (self.size - new_height) // 2
        return Placement(new_width / width, new_height / height, left, top)

    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The sample in its square; the seed is not used."""
        placement = self.placement(*sample["image"].shape[:2])
        image, objects = _place(sample, placement, self.size, least=0)
        return prepare(sample, image, objects, placement)


class YOLOTrain(DetectionTransform):
    """Darknet's augmentation: jittered aspect, a random place in a grey square, colours, mirror; several sizes.

    Redmon and Farhadi 2017, section 2, and the released code (`load_data_detection`): the aspect becomes that of
    width ± `jitter` by height ± `jitter`, the picture is made as large as the square holds and put anywhere in it.
    Every 10 batches another size is drawn (section 2, "Multi-scale training"), the same in every process. Objects come
    in random order, for of those that want one predictor the losses take one by its place. Differs: the last batches
    are not all of the largest size.

    Args:
        size: S, where `sizes` is empty.
        sizes: sides to draw from, multiples of the net's stride, such as 320 to 608.
        every: batches between two draws of a size.
        jitter: of width and height, relative.
        zoom: smallest and largest share of the square that the picture's longer side takes; above 1 it is cut.
        hue: largest turn of the hue, 1 being the whole circle.
        saturation, exposure: largest factor; every second time its inverse.
    """

    def __init__(
        self,
        size: int = 416,
        sizes: list[int] | None = None,
        every: int = 10,
        jitter: float = 0.2,
        zoom: tuple[float, float] = (1.0, 1.0),
        hue: float = 0.1,
        saturation: float = 1.5,
        exposure: float = 1.5,
    ) -> None:
        if min([size, every, *(sizes or [])]) < 1 or not 0 <= jitter < 1 or not 0 < zoom[0] <= zoom[1]:
            raise ValueError(
                f"YOLOTrain: sizes and every must be at least 1, jitter 0 to 1, zoom two factors, got {size}, {sizes}, "
                f"{every}, {jitter}, {zoom}"
            )
        self.size, self.sizes, self.every, self.jitter, self.zoom = size, sizes or [], every, jitter, zoom
        self.hue, self.saturation, self.exposure = hue, saturation, exposure

    def for_batch(self, number: int, seed: int) -> "YOLOTrain":
        """The same with the size of this batch."""
        if not self.sizes:
            return self
        size = self.sizes[mix(seed, number // self.every, 0x512E) % len(self.sizes)]
        return YOLOTrain(
            size, None, self.every, self.jitter, self.zoom, self.hue, self.saturation, self.exposure
        )  # fmt: skip

    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The augmented sample."""
        rng = np.random.default_rng(seed)
        image, objects = _place(sample, self._random_placement(sample["image"], rng), self.size, least=1)
        image = distort_hsv(image, rng, self.hue, self.saturation, self.exposure)
        if rng.random() < 0.5:
            image, objects = mirror(image, objects)
        return prepare(sample, image, shuffled(objects, rng))

    def _random_placement(self, image: Picture, rng: np.random.Generator) -> Placement:
        height, width = image.shape[:2]
        w, h = (side * (1 + rng.uniform(-self.jitter, self.jitter)) for side in (width, height))
        scale = rng.uniform(*self.zoom) * self.size / max(w, h)
        new_width, new_height = max(1, round(w * scale)), max(1, round(h * scale))
        left, top = (self._anywhere(self.size - new, rng) for new in (new_width, new_height))
        return Placement(new_width / width, new_height / height, left, top)

    @staticmethod
    def _anywhere(room: int, rng: np.random.Generator) -> int:
        """A whole shift within the room, which is negative where the picture is larger than the square."""
        return int(rng.integers(min(room, 0), max(room, 0) + 1))


class YOLOv1Train(DetectionTransform):
    """The augmentation of YOLO v1: every edge moved by up to ± `jitter`, stretched to S x S, mirror, colours.

    Redmon et al. 2016, section 2.2, and the released code (`load_data_region`): outside of the picture its last pixels
    are repeated, and every box of which something is shown stays, cut to what is. Objects come in random order, as of
    those in one cell the loss takes the first. Differs: a box left with less than one pixel a side is dropped.

    Args:
        size: S.
        jitter: of the picture's width and height.
        hue, saturation, exposure: see `YOLOTrain`.
    """

    def __init__(
        self,
        size: int = 448,
        jitter: float = 0.2,
        hue: float = 0.1,
        saturation: float = 1.5,
        exposure: float = 1.5,
    ) -> None:
        if size < 1 or not 0 <= jitter < 0.5:
            raise ValueError(f"YOLOv1Train: size must be at least 1, jitter 0 to 0.5, got {size} and {jitter}")
        self.size, self.jitter, self.hue, self.saturation, self.exposure = size, jitter, hue, saturation, exposure

    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The augmented sample."""
        rng = np.random.default_rng(seed)
        height, width = sample["image"].shape[:2]
        (top, bottom), (left, right) = (self._moved_edges(extent, rng) for extent in (height, width))
        rows, columns = (np.clip(np.arange(*edges), 0, extent - 1) for edges, extent in (
            ((top, bottom), height), ((left, right), width)
        ))  # fmt: skip
        image = resize(sample["image"][rows[:, None], columns], self.size, self.size, cv2.INTER_LINEAR)
        scale = self.size / np.array([right - left, bottom - top] * 2)
        boxes = np.clip((sample["boxes"] - np.array([left, top] * 2)) * scale, 0, self.size).astype(np.float32)
        kept = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1))
        lookup = Lookup(
            windowed(top, bottom - top, height, self.size), windowed(left, right - left, width, self.size)
        )  # fmt: skip
        objects = Moved(boxes[kept], kept, masks_of(sample, kept, lookup))
        if rng.random() < 0.5:
            image, objects = mirror(image, objects)
        image = distort_hsv(image, rng, self.hue, self.saturation, self.exposure)
        return prepare(sample, image, shuffled(objects, rng))

    def _moved_edges(self, extent: int, rng: np.random.Generator) -> tuple[int, int]:
        most = int(extent * self.jitter)
        near, far = rng.integers(-most, most + 1, 2).tolist()
        return near, extent - far


def shuffled(objects: Moved, rng: np.random.Generator) -> Moved:
    """The objects in random order (Redmon's darknet, `randomize_boxes`)."""
    order = rng.permutation(len(objects.kept))
    masks = None if objects.masks is None else objects.masks[order]
    return objects._replace(boxes=objects.boxes[order], kept=objects.kept[order], masks=masks)


def distort_hsv(
    image: Picture, rng: np.random.Generator, hue: float, saturation: float, exposure: float
) -> Picture:  # fmt: skip
    """Hue turned by up to ± `hue` of the circle, saturation and value times up to a factor or its inverse.

    Redmon's darknet, `random_distort_image`.
    """
    turn = rng.uniform(-hue, hue) * 180  # OpenCV counts hue in steps of 2 degrees
    gains = [_factor(saturation, rng), _factor(exposure, rng)]
    steps = np.arange(256)
    table = np.stack([(steps + round(turn)) % 180, *(np.clip(steps * gain, 0, 255) for gain in gains)], axis=-1)
    hsv = cv2.LUT(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV), table.astype(np.uint8)[None])
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def _factor(largest: float, rng: np.random.Generator) -> float:
    factor = float(rng.uniform(1, largest))
    return factor if rng.random() < 0.5 else 1 / factor


def _on_grey(part: Picture, left: int, top: int, size: int) -> Picture:
    """The picture at a place, which may reach outside, of a grey square."""
    canvas = np.full((size, size, 3), GREY, np.uint8)
    height, width = part.shape[:2]
    rows, columns = slice(max(top, 0), min(top + height, size)), slice(max(left, 0), min(left + width, size))
    canvas[rows, columns] = part[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return canvas


def _place(sample: DetectionSample, placement: Placement, size: int, least: float) -> tuple[Picture, Moved]:
    """Picture and objects where a square of `size` shows them.

    An object stays if its centre is in the square and what is left of its box has `least` pixels a side.
    """
    height, width = sample["image"].shape[:2]
    x_scale, y_scale, left, top = placement
    new_height, new_width = round(height * y_scale), round(width * x_scale)
    part = resize(sample["image"], new_height, new_width, cv2.INTER_LINEAR)
    image = _on_grey(part, int(left), int(top), size)
    moved = sample["boxes"] * np.array([x_scale, y_scale] * 2) + np.array([left, top] * 2)
    centres = (moved[:, :2] + moved[:, 2:]) / 2
    boxes = np.clip(moved, 0, size).astype(np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = np.flatnonzero(((centres >= 0) & (centres <= size) & (sides >= least)).all(axis=1))
    lookup = Lookup(_lookup(height, new_height, int(top), size), _lookup(width, new_width, int(left), size))
    return image, Moved(boxes[kept], kept, masks_of(sample, kept, lookup))


def _lookup(old: int, new: int, start: int, size: int) -> NDArray[np.int64]:
    """Along one axis: old pixels of the picture stretched to `new` from `start` on, cut to the square."""
    longest = placed(0, old, 0, new, new)
    lookup = np.full(size, -1, np.int64)
    lookup[max(start, 0) : min(start + new, size)] = longest[max(-start, 0) : min(new, size - start)]
    return lookup
