"""Autoencoders side by side: what they draw from random codes, and where their codes lie. Letters: C, H, W; N codes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lightning_cv.viz.canvas import GAP, Picture, below, beside, enlarge, magnification, picture, text_line, text_size

CELL = 48
"""Side in px to which small images are enlarged."""

SAMPLES = (4, 6)
"""Rows and columns of the samples that are shown."""

MOST_POINTS = 3000


class Column(NamedTuple):
    """One autoencoder: a title, lines below it, pictures by the row they belong to, and its codes on two axes."""

    title: str
    lines: Sequence[str]
    samples: dict[str, Tensor]  # each (N, C, H, W)
    interpolations: Tensor  # (P, T, C, H, W)
    scatter: Picture


def latent_scatter(codes: Tensor, labels: Tensor, class_names: Sequence[str], side: float = 3.2) -> Picture:
    """Codes (N, L) on their first two principal axes, a colour a class (N,), and the prior's 39 % and 86 % circles.

    The circles are those of N(0, 1) seen along the same axes: of a Gaussian in the plane, radii 1 and 2 hold so much.
    """
    points, origin = principal_plane(codes)
    figure = Figure(figsize=(side, side + 0.3), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = np.random.default_rng(0).permutation(len(points))[:MOST_POINTS]
    classes = labels.cpu().numpy()
    shades = colormaps["tab10" if len(class_names) <= 10 else "turbo"]
    for label, name in enumerate(class_names):
        mine = shown[classes[shown] == label]
        shade = shades(label if len(class_names) <= 10 else label / len(class_names))
        axes.scatter(points[mine, 0], points[mine, 1], 5, color=[shade], linewidths=0, alpha=0.7, label=name)
    for radius in (1.0, 2.0):
        axes.add_patch(Circle((float(origin[0]), float(origin[1])), radius, fill=False, color="black", linewidth=1.2))
    axes.set_aspect("equal", adjustable="datalim")
    axes.tick_params(labelsize=7)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(class_names) <= 10:
        figure.legend(
            loc="outside lower center", ncols=min(len(class_names), 10), fontsize=7, frameon=False,
            handletextpad=-0.4, columnspacing=0.4, markerscale=2,
        )  # fmt: skip
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib has no types here
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]  # nor here


def principal_plane(codes: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Codes (N, L) on their two principal axes, (N, 2), and where the origin of code space lies there, (2,).

    Axes are unit vectors, so distances are those of code space; for L = 1 the second coordinate is 0.
    """
    values = codes.double().cpu().numpy()
    mean = values.mean(0)
    axes = np.linalg.svd(values - mean, full_matrices=False)[2][:2]  # (2, L)
    if len(axes) < 2:
        axes = np.concatenate([axes, np.zeros_like(axes)])
    return (values - mean) @ axes.T, -mean @ axes.T


def generation_grid(columns: Sequence[Column]) -> Picture:
    """Samples of each kind, interpolations and the scatter of codes below each other, a column an autoencoder."""
    if not columns:
        raise ValueError("generation_grid: there is nothing to draw")
    kinds = list(dict.fromkeys(kind for column in columns for kind in column.samples))
    headings = [*kinds, "interpolation", "codes"]
    indent = max(text_size(heading)[0] for heading in headings) + 4
    rows = [[_samples(column.samples.get(kind)) for column in columns] for kind in kinds]
    rows.append([below([_strip(line) for line in column.interpolations], gap=2) for column in columns])
    width = max(cell.shape[1] for row in rows for cell in row)
    rows.append([_as_wide(column.scatter, width) for column in columns])
    titles = [below([text_line(text, width) for text in (column.title, *column.lines)], gap=0) for column in columns]
    lines = [_line("", titles, indent, width)]
    lines += [_line(heading, row, indent, width) for heading, row in zip(headings, rows, strict=True)]
    return np.pad(below(lines, gap=2 * GAP), ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)


def sample_grid(images: Tensor, columns: int = 10) -> Picture:
    """Images (N, C, H, W) row by row, enlarged."""
    return below([_strip(images[i : i + columns]) for i in range(0, len(images), columns)], gap=2)


def _samples(images: Tensor | None) -> Picture:
    if images is None:
        return np.full((1, 1, 3), 255, np.uint8)
    rows, columns = SAMPLES
    return sample_grid(images[: rows * columns], columns)


def _strip(images: Tensor) -> Picture:
    cells = [picture(image) for image in images]
    return beside([enlarge(cell, magnification(cell, CELL)) for cell in cells], gap=2)


def _line(heading: str, cells: Sequence[Picture], indent: int, width: int) -> Picture:
    padded = [np.pad(cell, ((0, 0), (0, width - cell.shape[1]), (0, 0)), constant_values=255) for cell in cells]
    return beside([text_line(heading, indent), *padded], gap=2 * GAP)


def _as_wide(image: Picture, width: int) -> Picture:
    height = round(image.shape[0] * width / image.shape[1])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
