"""R-CNN's crop: a region warped to a square with some of its surroundings."""

import cv2
import numpy as np

from lightning_cv.transforms.common import MEAN_COLOUR, Picture, resize


def warp_region(
    image: Picture,
    box: tuple[float, float, float, float],
    size: int = 227,
    context: int = 16,
    fill: tuple[int, int, int] = MEAN_COLOUR,
) -> Picture:
    """The box (x1, y1, x2, y2) of a picture (H, W, 3) as a square of `size`, aspect not kept.

    Girshick et al. 2014, section 2.1 and appendix A, with the rounding of their released `rcnn_im_crop`: exactly
    `context` pixels of surroundings on each side of the warped region; what lies outside the picture is `fill`.
    Bilinear without anti-aliasing, as there.

    Args:
        image: RGB.
        box: far edge excluded; may reach outside the picture, but must overlap it.
        size: of the square.
        context: pixels of surroundings in the result, on each side.
        fill: colour outside the picture.
    """
    if not 0 <= 2 * context < size:
        raise ValueError(f"warp_region: twice the context must be less than the size, got {context} and {size}")
    (first_x, last_x), (start_x, end_x) = _span(box[0], box[2], image.shape[1], size, context)
    (first_y, last_y), (start_y, end_y) = _span(box[1], box[3], image.shape[0], size, context)
    window = np.ascontiguousarray(image[first_y:last_y, first_x:last_x])
    warped = np.full((size, size, 3), fill, np.uint8)
    warped[start_y:end_y, start_x:end_x] = resize(window, end_y - start_y, end_x - start_x, cv2.INTER_LINEAR)
    return warped


def _span(low: float, high: float, extent: int, size: int, context: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Along one axis: pixels of the picture that are shown, and those of the square that show them.

    The released code counts pixels from 1 and includes the far one, which makes its window one pixel longer than the
    enlarged box.
    """
    half = (high - low) / 2 * size / (size - 2 * context)
    middle = (low + high) / 2
    first, last = _round(middle - half), _round(middle + half) + 1
    if low < extent:  # rounding must not move a box off the far edge that it overlaps by less than half a pixel
        first = min(first, extent - 1)
    shown_first, shown_last = max(first, 0), min(last, extent)
    if shown_first >= shown_last:
        raise ValueError(f"warp_region: the region {low} to {high} lies outside the picture of {extent} pixels")
    length = last - first  # divides at the end: a rounded factor made 113.5 pixels 113 and left a gap at the far edge
    start = min(_round((shown_first - first) * size / length), size - 1)
    end = min(start + max(1, _round((shown_last - shown_first) * size / length)), size)
    return (shown_first, shown_last), (start, end)


def _round(value: float) -> int:
    """To the nearest whole number, halves away from zero."""
    return int(np.floor(abs(value) + 0.5) * np.sign(value))
