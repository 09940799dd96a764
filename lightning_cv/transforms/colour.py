"""Changes of colour: they leave every pixel in its place."""

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_cv.transforms.common import Picture


def channel_gains(image: Picture, jitter: float, rng: np.random.Generator) -> Picture:
    """The picture with each channel times its own factor, 1 ± `jitter`."""
    if jitter == 0:
        return image
    gains = rng.uniform(1 - jitter, 1 + jitter, 3)
    table = np.clip(np.arange(256)[:, None] * gains, 0, 255).astype(np.uint8)  # (256, 3)
    return np.asarray(cv2.LUT(image, table[None]), np.uint8)


def distort_colours(
    image: Picture, rng: np.random.Generator, strength: float = 1.0, hue_range: float = 18.0
) -> Picture:
    """Brightness ± 32, contrast and saturation x 0.5 to 1.5, hue ± `hue_range` degrees, each every second time.

    Liu et al. 2016, SSD, after Howard 2013. `strength` scales the ranges. As in their code contrast comes first or
    last by chance. Differs: brightness is added after contrast instead of before, and the hue is a circle.
    """
    tone = _tone_table(rng, strength)
    contrast_first = rng.random() < 0.5
    if contrast_first and tone is not None:
        image = np.asarray(cv2.LUT(image, tone), np.uint8)
    saturation = rng.uniform(1 - 0.5 * strength, 1 + 0.5 * strength) if rng.random() < 0.5 else 1.0
    most = hue_range / 2  # OpenCV counts hue in steps of 2 degrees
    hue = rng.uniform(-most, most) * strength if rng.random() < 0.5 else 0.0
    if saturation != 1.0 or hue != 0.0:
        steps = np.arange(256)
        table = np.stack([(steps + round(hue)) % 180, np.clip(steps * saturation, 0, 255), steps], axis=-1)
        hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table.astype(np.uint8)[None])
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
    if not contrast_first and tone is not None:
        image = np.asarray(cv2.LUT(image, tone), np.uint8)
    return image


def _tone_table(rng: np.random.Generator, strength: float) -> NDArray[np.uint8] | None:
    """Brightness and contrast as one table (256,) of byte to byte; None where neither changes."""
    added = rng.uniform(-32, 32) * strength if rng.random() < 0.5 else 0.0
    factor = rng.uniform(1 - 0.5 * strength, 1 + 0.5 * strength) if rng.random() < 0.5 else 1.0
    if added == 0.0 and factor == 1.0:
        return None
    table: NDArray[np.uint8] = np.clip(np.arange(256) * factor + added, 0, 255).astype(np.uint8)
    return table
