"""The same images in several states, one row a state. Letters: N images; C, H, W."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from lightning_cv.viz.canvas import GAP, Picture, below, beside, enlarge, magnification, picture, text_line, text_size
from lightning_cv.viz.grids import CELL


def image_rows(rows: Mapping[str, Tensor], columns: int = 10) -> Picture:
    """Named rows of images (N, C, H, W), equal columns belonging together; a new block after every `columns` images."""
    shapes = {tuple(images.shape) for images in rows.values()}
    if len(shapes) != 1 or not next(iter(rows.values())).shape[0]:
        raise ValueError(f"rows of the same number and size of images are drawn, got {sorted(shapes)}")
    count = next(iter(shapes))[0]
    width = max(text_size(name)[0] for name in rows) + 2
    blocks = [
        below([_row(name, images[start : start + columns], width) for name, images in rows.items()], gap=2)
        for start in range(0, count, columns)
    ]
    return np.pad(below(blocks, gap=2 * GAP), ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)


def _row(name: str, images: Tensor, width: int) -> Picture:
    """Enlarged images beside their name, which is vertically centred."""
    cells = [picture(image) for image in images]
    row = beside([enlarge(cell, magnification(cells[0], CELL)) for cell in cells], gap=2)
    line = text_line(name, width)
    above = max(0, (row.shape[0] - line.shape[0]) // 2)
    return beside([np.pad(line, ((above, 0), (0, 0), (0, 0)), constant_values=255), row], gap=8)
