"""Four pictures in one. Letters: S side of the result."""

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_cv.contracts import DetectionSample
from lightning_cv.transforms.common import (
    MEAN_COLOUR,
    DetectionTransform,
    Picture,
    PreparedDetection,
    resize,
)
from lightning_cv.transforms.masks import Lookup, look_up, placed


class Mosaic(DetectionTransform):
    """Four samples around a random centre, then another preset on the whole.

    Bochkovskiy et al. 2020, YOLOv4, section 3.3. Each picture keeps its aspect, is made just large enough for its
    quarter, and shows there what lies next to the centre. An object stays if at least `min_visible` of its box is
    shown. The result is one sample under the first one's id.

    Args:
        then: prepares the combined picture.
        size: S of the combined picture, before `then`.
        probability: how often pictures are combined.
        centre: smallest and largest share of S at which the four meet.
        min_visible: share of a box that must be shown.
    """

    def __init__(
        self,
        then: DetectionTransform,
        size: int = 416,
        probability: float = 1.0,
        centre: tuple[float, float] = (0.25, 0.75),
        min_visible: float = 0.2,
    ) -> None:
        if not (0 < centre[0] <= centre[1] < 1 and 0 <= probability <= 1 and size >= 8):
            raise ValueError(f"Mosaic: centre and probability are shares, got {centre} and {probability}; size {size}")
        self.then, self.size, self.probability = then, size, probability
        self.centre, self.min_visible = centre, min_visible

    def for_batch(self, number: int, seed: int) -> "Mosaic":
        """The same over what `then` is for this batch."""
        then = self.then.for_batch(number, seed)
        return self if then is self.then else Mosaic(then, self.size, self.probability, self.centre, self.min_visible)

    def partners(self, seed: int, samples: int) -> list[int]:
        """Which three samples of `samples` join in, any of them; none where this seed combines nothing."""
        rng = np.random.default_rng([seed, 1])
        chosen: list[int] = rng.integers(samples, size=3).tolist()
        return chosen if rng.random() < self.probability else []

    def combine(self, samples: list[DetectionSample], seed: int) -> DetectionSample:
        """One sample of four: upper left, upper right, lower left, lower right. A single one stays as it is."""
        if len(samples) == 1:
            return samples[0]
        rng = np.random.default_rng([seed, 2])
        x, y = (int(v) for v in rng.uniform(*self.centre, 2) * self.size)
        canvas = np.full((self.size, self.size, 3), MEAN_COLOUR, np.uint8)
        quarters = ((0, x, 0, y), (x, self.size, 0, y), (0, x, y, self.size), (x, self.size, y, self.size))
        parts = [
            self._put(canvas, sample, quarter, number)
            for number, (sample, quarter) in enumerate(zip(samples, quarters, strict=True))
        ]
        return _joined(samples[0]["image_id"], canvas, parts)

    def _put(
        self,
        canvas: Picture,
        sample: DetectionSample,
        quarter: tuple[int, int, int, int],
        number: int,
    ) -> DetectionSample:
        """Shows a sample in its quarter of the canvas; its objects there."""
        x1, x2, y1, y2 = quarter
        height, width = sample["image"].shape[:2]
        scale = max((x2 - x1) / width, (y2 - y1) / height)
        new_width, new_height = max(x2 - x1, round(width * scale)), max(y2 - y1, round(height * scale))
        left = x2 - new_width if number % 2 == 0 else x1  # the side next to the centre is shown
        top = y2 - new_height if number < 2 else y1
        part = resize(sample["image"], new_height, new_width, cv2.INTER_LINEAR)
        canvas[y1:y2, x1:x2] = part[y1 - top : y2 - top, x1 - left : x2 - left]
        moved = sample["boxes"] * np.array([new_width / width, new_height / height] * 2) + np.array([left, top] * 2)
        boxes = np.clip(moved, [x1, y1, x1, y1], [x2, y2, x2, y2])
        kept = np.flatnonzero(self._shown(moved, boxes))
        found: DetectionSample = {
            "image_id": sample["image_id"],
            "image": sample["image"],
            "boxes": boxes[kept].astype(np.float32),
            "labels": sample["labels"][kept],
            "difficult": sample["difficult"][kept],
        }
        if "crowd" in sample:
            found["crowd"] = sample["crowd"][kept]
        if "masks" in sample:
            rows, columns = np.full(self.size, -1, np.int64), np.full(self.size, -1, np.int64)
            rows[y1:y2] = placed(0, height, 0, new_height, new_height)[y1 - top : y2 - top]
            columns[x1:x2] = placed(0, width, 0, new_width, new_width)[x1 - left : x2 - left]
            found["masks"] = look_up(sample["masks"][kept], Lookup(rows, columns))
        return found

    def _shown(self, moved: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which boxes (N, 4) are left with enough of themselves after being cut."""
        shown = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        whole = np.prod(moved[:, 2:] - moved[:, :2], axis=1)
        large = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(axis=1)
        return np.asarray(large & (shown >= self.min_visible * whole), np.bool_)

    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The (combined) sample as `then` prepares it."""
        return self.then(sample, seed)


def _joined(image_id: str, canvas: Picture, parts: list[DetectionSample]) -> DetectionSample:
    sample: DetectionSample = {
        "image_id": image_id,
        "image": canvas,
        "boxes": np.concatenate([part["boxes"] for part in parts]),
        "labels": np.concatenate([part["labels"] for part in parts]),
        "difficult": np.concatenate([part["difficult"] for part in parts]),
    }
    if all("crowd" in part for part in parts):
        sample["crowd"] = np.concatenate([part["crowd"] for part in parts])
    if all("masks" in part for part in parts):
        sample["masks"] = np.concatenate([part["masks"] for part in parts])
    return sample
