"""Scenes of overlapping coloured shapes and glyphs, drawn from a seed, with boxes, class mask and instance masks.

Letters: N objects of a scene; H = W = size in pixels; h, w a window of the scene.

A scene has 1 to 8 objects on a blotched, noisy ground; later objects cover earlier ones. Colours are independent of
the class and of the ground, so that some objects are nearly hidden, as in real pictures.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_cv.contracts import LabelMap, SegmentationSample
from lightning_cv.ops.counters import mix

DRAWN_CLASSES = (
    "disc",
    "triangle",
    "square",
    "hexagon",
    "star",
    "ring",
    "ellipse",
    "cross",
    "letter_a",
    "digit_5",
)
"""Class names in the order of their labels, 1 to 10."""

SPLITS = ("train", "val", "test")
"""Names of the splits; a scene depends on its split by the position in this tuple."""

MIN_VISIBLE_FRACTION = 0.2
"""An object of which less can be seen is left out of the scene."""

MIN_VISIBLE_PIXELS = 16
"""An object of which fewer pixels can be seen is left out of the scene."""

MOST_OBJECTS = 8
"""Of a scene, where nothing else is asked for."""

Points = NDArray[np.float64]
Pixels = NDArray[np.float32]


class DrawnScene(NamedTuple):
    """A picture and its truth. Boxes hold the pixels that can be seen, not those behind other objects."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    boxes: NDArray[np.float32]  # (N, 4)
    labels: NDArray[np.int64]  # (N,), 1 to 10
    class_mask: NDArray[np.uint8]  # (H, W), 0 is the ground
    instance_masks: NDArray[np.bool_]  # (N, H, W), disjoint
    whole_masks: NDArray[np.bool_]  # (N, H, W), with the pixels behind other objects


def scene_seed(seed: int, split: str, index: int) -> int:
    """Seed of scene `index` of a split: the same whatever else is drawn."""
    if split not in SPLITS:
        raise ValueError(f"drawn scenes have the splits {', '.join(SPLITS)}, not {split!r}")
    return mix(seed, SPLITS.index(split), index)


def draw_scene(seed: int | np.random.Generator, size: int = 128, max_objects: int = MOST_OBJECTS) -> DrawnScene:
    """One scene of `size` x `size` pixels with 1 to `max_objects` objects of radius 8 to 30 pixels in 128."""
    if size < 32:
        raise ValueError(f"a drawn scene needs at least 32 pixels a side, got {size}")
    rng = np.random.default_rng(seed)
    outlines = []
    for _ in range(int(rng.integers(1, max_objects + 1))):
        label = int(rng.integers(1, len(DRAWN_CLASSES) + 1))
        outlines.append((label, _outline(DRAWN_CLASSES[label - 1], size, rng)))
    seen = _what_is_seen(outlines)
    canvas = _ground(size, rng)
    for _, mask, _ in seen:
        x1, y1, x2, y2 = _box(mask)
        window = canvas[y1:y2, x1:x2]
        window[mask[y1:y2, x1:x2]] = _texture(y2 - y1, x2 - x1, rng)[mask[y1:y2, x1:x2]]
    grain = int(rng.integers(2, 13))
    canvas += rng.integers(-grain, grain + 1, canvas.shape, dtype=np.int8)
    class_mask = np.zeros((size, size), np.uint8)
    for label, mask, _ in seen:
        class_mask[mask] = label
    return DrawnScene(
        image=np.clip(canvas, 0, 255).astype(np.uint8),
        boxes=np.array([_box(mask) for _, mask, _ in seen], np.float32).reshape(-1, 4),
        labels=np.array([label for label, _, _ in seen], np.int64),
        class_mask=class_mask,
        instance_masks=np.stack([mask for _, mask, _ in seen]),
        whole_masks=np.stack([whole for _, _, whole in seen]),
    )


class DrawnLabels:
    """Images and label planes of a split: where each class is, also behind objects of other classes.

    Plane k is the union of the whole shapes of label k + 1, so that planes overlap. A scene is drawn each time it is
    asked for, in about 2 ms at 128 pixels; no file is written. Without its JPEG, it is that of `writers.write_voc`.

    Args:
        split: "train", "val" or "test".
        count: of scenes.
        seed: of the scenes.
        size: of a scene in pixels.
    """

    def __init__(self, split: str, count: int, seed: int = 0, size: int = 128) -> None:
        if count < 1:
            raise ValueError(f"a split of drawn scenes needs at least 1, got {count} for {split}")
        self.split, self.count, self.seed, self.size = split, count, seed, size
        self.label_map = LabelMap(DRAWN_CLASSES, first=1, dataset_ids=tuple(range(1, len(DRAWN_CLASSES) + 1)))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> SegmentationSample:
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        scene = draw_scene(scene_seed(self.seed, self.split, index), self.size)
        planes = np.zeros((*scene.class_mask.shape, len(DRAWN_CLASSES)), np.uint8)
        for label, whole in zip(scene.labels.tolist(), scene.whole_masks, strict=True):
            planes[whole, label - 1] = 1
        return {"image_id": f"{self.split}_{index:06d}", "image": scene.image, "mask": planes}


class _Seen(NamedTuple):
    label: int
    visible: NDArray[np.bool_]
    whole: NDArray[np.bool_]


def _what_is_seen(objects: list[tuple[int, NDArray[np.bool_]]]) -> list[_Seen]:
    """Each object that shows enough of itself, in drawing order; the front object always stays."""
    covered = np.zeros_like(objects[0][1])
    seen: list[_Seen] = []
    for label, mask in reversed(objects):
        visible = mask & ~covered
        shown = int(np.count_nonzero(visible))
        if seen and shown < max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_FRACTION * np.count_nonzero(mask)):
            continue
        covered |= mask
        seen.append(_Seen(label, visible, mask))
    return seen[::-1]


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _outline(name: str, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Pixels (H, W) of one object at a random place, size and angle, before anything covers it."""
    radius = rng.uniform(8, 30) * size / 128
    centre = rng.uniform(0.6 * radius, size - 0.6 * radius, 2)
    angle = rng.uniform(-0.4, 0.4) if name in _STROKES else rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    lines = [
        np.round((points @ turn * radius + centre) * _SUBPIXELS).astype(np.int32)
        for points in _STROKES.get(name) or _CONTOURS[name]
    ]
    mask = np.zeros((size, size), np.uint8)
    if name in _STROKES:
        cv2.polylines(mask, lines, False, 1, thickness=max(2, round(0.4 * radius)), shift=_SHIFT)
    else:
        cv2.fillPoly(mask, lines, 1, shift=_SHIFT)  # even-odd rule: the inner circle of a ring is a hole
    return mask.astype(np.bool_)


def _ground(size: int, rng: np.random.Generator) -> Pixels:
    """The ground (H, W, 3), 0 to 255: a ramp between two colours with coarse blotches."""
    cells = int(rng.integers(3, 12))
    blotches = rng.normal(0, rng.uniform(0, 30), (cells, cells, 3)).astype(np.float32)
    blotches = np.asarray(cv2.resize(blotches, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)
    ground: Pixels = _ramp(size, size, rng) + blotches
    return ground


def _texture(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """The surface (h, w, 3) of an object, 0 to 255: plain, a ramp, stripes or coarse noise."""
    kind = int(rng.integers(4))
    if kind == 1:
        return _ramp(height, width, rng)
    surface = np.empty((height, width, 3), np.float32)
    surface[:] = rng.integers(0, 256, 3)
    if kind == 2:
        angle, period = rng.uniform(0, math.pi), rng.uniform(4, 12)
        ys, xs = np.arange(height)[:, None], np.arange(width)[None]
        stripes = np.sin((xs * math.cos(angle) + ys * math.sin(angle)) * (2 * math.pi / period)) > 0
        surface[stripes] += rng.integers(-90, 91, 3)
    elif kind == 3:
        coarse = rng.normal(0, rng.uniform(10, 40), ((height + 2) // 3, (width + 2) // 3, 3)).astype(np.float32)
        surface += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    return surface


def _ramp(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """A linear change (h, w, 3) from one random colour to another, not far from it, in a random direction."""
    start = rng.integers(0, 256, 3).astype(np.float32)
    change = rng.integers(-80, 81, 3).astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    ys = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    xs = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None]
    along = 0.5 + xs * np.float32(math.cos(angle)) + ys * np.float32(math.sin(angle))  # (h, w)
    return np.asarray(start + along[..., None] * change, np.float32)


_SHIFT = 4
_SUBPIXELS = 1 << _SHIFT


def _corners(count: int, radii: tuple[float, ...] = (1.0,), squash: float = 1.0) -> Points:
    """Points (count, 2) around the unit circle, the radii in turn, heights times `squash`."""
    angles = np.arange(count) * (2 * math.pi / count)
    radius = np.resize(np.array(radii), count)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles) * squash], axis=-1)


_ARM = 0.34
_CONTOURS: dict[str, list[Points]] = {
    "disc": [_corners(48)],
    "triangle": [_corners(3)],
    "square": [_corners(4)],
    "hexagon": [_corners(6)],
    "star": [_corners(10, radii=(1.0, 0.45))],
    "ring": [_corners(48), _corners(48, radii=(0.55,))],
    "ellipse": [_corners(48, squash=0.5)],
    "cross": [
        np.array(
            [
                *((_ARM, _ARM), (1, _ARM), (1, -_ARM), (_ARM, -_ARM), (_ARM, -1), (-_ARM, -1)),
                *((-_ARM, -_ARM), (-1, -_ARM), (-1, _ARM), (-_ARM, _ARM), (-_ARM, 1), (_ARM, 1)),
            ]
        )
    ],
}
_STROKES: dict[str, list[Points]] = {
    "letter_a": [
        np.array([(-0.75, 0.85), (0.0, -0.85), (0.75, 0.85)]),
        np.array([(-0.45, 0.3), (0.45, 0.3)]),
    ],
    "digit_5": [
        np.array(
            [(0.55, -0.8), (-0.45, -0.8), (-0.5, -0.1), (0.1, -0.2), (0.55, 0.1), (0.5, 0.6), (0.1, 0.85), (-0.55, 0.7)]
        )
    ],
}
