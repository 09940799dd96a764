"""Rows of small images with labels, and traversals of latents. Letters: C, H, W image sides."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from lightning_cv.viz.canvas import GAP, Picture, below, beside, enlarge, magnification, picture, text_line, text_size

CELL = 64
"""Side in px to which small images are enlarged."""


def traversal_grid(images: Tensor, labels: Sequence[str], columns: Sequence[str], heading: str = "") -> Picture:
    """One row a latent: images (rows, steps, C, H, W), each row with its label, each column with its heading."""
    _refuse_other_shapes(images, labels, columns)
    rows = [strip(row) for row in images]
    width = rows[0].shape[1] // len(columns)
    scale = beside([text_line(column, width - 2, centred=True) for column in columns], gap=2)
    lines = [labelled(label, row, labels) for label, row in zip(["", *labels], [scale, *rows], strict=True)]
    grid = below(lines, gap=2)
    return _framed(below([text_line(heading, grid.shape[1]), grid], gap=2) if heading else grid)


def traversal_frames(
    images: Tensor, labels: Sequence[str], columns: Sequence[str], heading: str = "", width: int = 5
) -> list[Picture]:
    """Pictures of one size, a step each, there and back again: every latent's image (rows, steps, C, H, W) at once.

    Labels stand above the images, `width` of which make a line; the step's heading stands above them all.
    """
    _refuse_other_shapes(images, labels, columns)
    room = max(CELL + 2, *(text_size(label)[0] + 2 for label in labels))
    frames = []
    for step in [*range(len(columns)), *range(len(columns) - 2, 0, -1)]:
        cells = [
            below([text_line(label, room), strip(row[step : step + 1])], gap=2)
            for row, label in zip(images, labels, strict=True)
        ]
        lines = [beside(cells[start : start + width]) for start in range(0, len(cells), width)]
        grid = below(lines)
        frames.append(_framed(below([text_line(f"{heading}  {columns[step]}".strip(), grid.shape[1]), grid], gap=2)))
    return frames


def strip(images: Tensor) -> Picture:
    """Images (N, C, H, W) in a row, small ones enlarged."""
    cells = [picture(image) for image in images]
    factor = magnification(cells[0], CELL)
    return beside([enlarge(cell, factor) for cell in cells], gap=2)


def _refuse_other_shapes(images: Tensor, labels: Sequence[str], columns: Sequence[str]) -> None:
    if images.ndim != 5 or images.shape[:2] != (len(labels), len(columns)) or not len(labels) or not len(columns):
        raise ValueError(
            f"{len(labels)} rows of {len(columns)} images are drawn, got a tensor of shape {tuple(images.shape)}"
        )


def labelled(label: str, row: Picture, labels: Sequence[str]) -> Picture:
    """The row with its label on the left, vertically centred, as wide as the longest of all labels."""
    line = text_line(label, max(text_size(one)[0] for one in labels) + 2)
    above = max(0, (row.shape[0] - line.shape[0]) // 2)
    return beside([np.pad(line, ((above, 0), (0, 0), (0, 0)), constant_values=255), row], gap=8)


def _framed(grid: Picture) -> Picture:
    return np.pad(grid, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
