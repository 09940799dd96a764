"""A confusion matrix as a picture. Letters: K classes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lightning_cv.viz.canvas import FONT_SIZE, Picture, font, text_size

CELL, SMALL_CELL, FEW = 44, 14, 24
"""Side of a cell in px, with its share written into it; without, for more than FEW classes."""

_DARKEST = np.array([8, 64, 129])


def confusion_picture(matrix: NDArray[np.int64], names: Sequence[str]) -> Picture:
    """Shares of each true class in percent, (K, K) truth by prediction, the darker the more; empty rows stay white."""
    if matrix.shape != (len(names), len(names)) or not len(names):
        raise ValueError(f"{len(names)} class names for a matrix of shape {matrix.shape}")
    totals = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    cell = CELL if len(names) <= FEW else SMALL_CELL
    size = min(FONT_SIZE, cell - 2)
    left = max(text_size(name, size)[0] for name in (*names, "truth")) + 10
    heading = FONT_SIZE + 10
    side = cell * len(names)
    canvas = Image.new("RGB", (left + side + 10, heading + left + side + 10), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((left, 4), "prediction, % of the true class", font=font(FONT_SIZE), fill="black")
    top = heading + left
    for row, name in enumerate(names):
        y = top + row * cell
        width, height = text_size(name, size)
        draw.text((left - 6 - width, y + (cell - height) // 2 - 1), name, font=font(size), fill="black")
        _write_upwards(canvas, name, left + row * cell + cell // 2, top - 4, size)
        for column, share in enumerate(shares[row].tolist()):
            x = left + column * cell
            colour = tuple(np.rint(255 + (_DARKEST - 255) * share).astype(int).tolist())
            draw.rectangle((x, y, x + cell - 1, y + cell - 1), fill=colour, outline=(225, 225, 225))
            if cell == CELL and share >= 0.005:
                text = f"{100 * share:.0f}"
                width, height = text_size(text)
                place = (x + (cell - width) // 2, y + (cell - height) // 2 - 1)
                draw.text(place, text, font=font(FONT_SIZE), fill="white" if share > 0.5 else "black")
    return np.asarray(canvas)


def _write_upwards(canvas: Image.Image, text: str, centre: int, bottom: int, size: int) -> None:
    width, height = text_size(text, size)
    line = Image.new("RGB", (width + 2, height + 4), "white")
    ImageDraw.Draw(line).text((1, 0), text, font=font(size), fill="black")
    turned = line.rotate(90, expand=True)
    canvas.paste(turned, (centre - turned.width // 2, bottom - turned.height))
