"""The same images in several states, one row a state. Letters: N images; C, H, W."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from lightning_cv.viz.canvas import GAP, Picture, below
from lightning_cv.viz.grids import labelled, strip


def image_rows(rows: Mapping[str, Tensor], columns: int = 10) -> Picture:
    """Named rows of images (N, C, H, W), equal columns belonging together; a new block after every `columns` images."""
    shapes = {tuple(images.shape) for images in rows.values()}
    if len(shapes) != 1 or not next(iter(rows.values())).shape[0]:
        raise ValueError(f"rows of the same number and size of images are drawn, got {sorted(shapes)}")
    count = next(iter(shapes))[0]
    blocks = [
        below(
            [labelled(name, strip(images[start : start + columns]), list(rows)) for name, images in rows.items()], gap=2
        )
        for start in range(0, count, columns)
    ]
    return np.pad(below(blocks, gap=2 * GAP), ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
