"""Pixels that the other drawings share: pictures are uint8 arrays (H, W, 3) RGB. Letters: H, W sides in px."""

import colorsys
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
INK: Colour = (32, 33, 36)
FONT_SIZE = 14
GAP = 6


@lru_cache(maxsize=8)
def font(size: int = FONT_SIZE) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, so that no font file is needed."""
    return ImageFont.load_default(size)


def picture(image: Tensor | NDArray[np.floating] | Picture) -> Picture:
    """(H, W, 3) uint8 of an image tensor (1 or 3, H, W) in 0 to 1; uint8 pictures (H, W, 3) stay as they are."""
    array = image.detach().float().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        return array
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        raise ValueError(f"an image is (1, H, W) or (3, H, W), or a uint8 picture (H, W, 3); got shape {array.shape}")
    scaled = (np.nan_to_num(array).clip(0, 1) * 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(scaled, (3, *scaled.shape[1:])).transpose(1, 2, 0))  # (H, W, 3)


def magnification(image: Picture, wanted: int) -> int:
    """Whole number by which to enlarge so that the shorter side has at least about `wanted` px."""
    return max(1, round(wanted / int(min(image.shape[:2]))))


def enlarge(image: Picture, factor: int) -> Picture:
    """Every pixel repeated `factor` times in both directions."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def class_colour(label: int) -> Colour:
    """A colour of full strength for a class number; neighbouring numbers are far apart in hue."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.61803398875 % 1.0, 0.80 if label % 2 else 0.60, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def ink_on(background: Colour) -> Colour:
    """Black or white, whichever reads better on a colour."""
    luma = 0.299 * background[0] + 0.587 * background[1] + 0.114 * background[2]
    return INK if luma > 140 else WHITE


def text_size(text: str, size: int = FONT_SIZE) -> tuple[int, int]:
    """Width and height in px that a line of text takes."""
    left, top, right, bottom = font(size).getbbox(text)
    return round(right - left), round(bottom - min(top, 0))


def text_line(text: str, width: int, size: int = FONT_SIZE, *, centred: bool = False) -> Picture:
    """A line of text on white, `width` px wide, cut off with an ellipsis where it is longer."""
    while text and text_size(text, size)[0] > width:
        text = text.removesuffix("…")[:-1] + "…" if len(text.removesuffix("…")) > 1 else ""
    line = Image.new("RGB", (width, size + 8), WHITE)
    x = (width - text_size(text, size)[0]) // 2 if centred else 0
    ImageDraw.Draw(line).text((x, 2), text, font=font(size), fill=INK)
    return np.asarray(line)


def beside(pictures: Sequence[Picture], gap: int = GAP) -> Picture:
    """Pictures in a row, tops aligned, white between and below."""
    height = max(one.shape[0] for one in pictures)
    width = sum(one.shape[1] for one in pictures) + gap * (len(pictures) - 1)
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    x = 0
    for one in pictures:
        canvas[: one.shape[0], x : x + one.shape[1]] = one
        x += one.shape[1] + gap
    return canvas


def below(pictures: Sequence[Picture], gap: int = GAP) -> Picture:
    """Pictures in a column, left edges aligned, white between and to the right."""
    turned = [one.transpose(1, 0, 2) for one in pictures]
    return np.ascontiguousarray(beside(turned, gap).transpose(1, 0, 2))


def tile(pictures: Sequence[Picture], columns: int, gap: int = 2 * GAP) -> Picture:
    """Pictures row by row, `columns` in each, on white with a border."""
    if not pictures:
        raise ValueError("nothing to tile: there are no pictures")
    rows = [beside(pictures[i : i + columns], gap) for i in range(0, len(pictures), columns)]
    return np.pad(below(rows, gap), ((gap, gap), (gap, gap), (0, 0)), constant_values=255)
