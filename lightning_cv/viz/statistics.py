"""What a data set holds: objects of every class, and the shapes of their boxes with anchors over them."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from lightning_cv.viz.canvas import Picture

MOST_POINTS = 5000
"""More boxes than that are drawn as a random sample, which looks the same and draws sooner."""

_MAIN, _APART, _ANCHOR = "#3b6fb6", "#e0a458", "#c1292e"


class ClassCount(NamedTuple):
    """A class and how often it occurs; `apart` of these are counted apart, such as difficult objects."""

    name: str
    total: int
    apart: int = 0


def statistics_figure(
    counts: Sequence[ClassCount], shapes: NDArray[np.float64], anchors: NDArray[np.float64], title: str, apart: str
) -> Picture:
    """A bar a class, and beside them the boxes' shapes if there are any.

    Args:
        counts: of the classes.
        shapes: width and height of boxes (N, 2), as shares of their picture's.
        anchors: shapes (K, 2) in the same unit.
        title: above the figure.
        apart: what objects that are counted apart are, such as "difficult".
    """
    if not counts:
        raise ValueError("statistics_figure: there are no classes to draw")
    height = max(4.0, 0.19 * len(counts) + 1.0)
    columns = 2 if len(shapes) else 1
    figure = Figure(figsize=(5.2 * columns, height), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    figure.suptitle(title, x=0.01, ha="left")
    _draw_counts(axes[0], counts, apart)
    if len(shapes):
        _draw_shapes(axes[1], shapes, anchors)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib has no types here
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]  # nor here


def _draw_counts(axes: Axes, counts: Sequence[ClassCount], apart: str) -> None:
    rows = np.arange(len(counts))
    main = np.array([one.total - one.apart for one in counts])
    others = np.array([one.apart for one in counts])
    axes.barh(rows, main, color=_MAIN, label=f"not {apart}" if others.any() else None)
    if others.any():
        axes.barh(rows, others, left=main, color=_APART, label=apart)
        axes.legend(frameon=False, loc="best")
    for row, one in zip(rows, counts, strict=True):
        axes.annotate(f"{one.total:,}", (one.total, row), (3, 0), textcoords="offset points", va="center", size=7)
    axes.set_yticks(rows, [one.name for one in counts], size=8)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.01)
    axes.set_xlabel("count")
    axes.tick_params(axis="y", length=0)
    _plain(axes, grid="x")


def _draw_shapes(axes: Axes, shapes: NDArray[np.float64], anchors: NDArray[np.float64]) -> None:
    kept = np.random.default_rng(0).permutation(len(shapes))[:MOST_POINTS]
    axes.scatter(
        shapes[kept, 0], shapes[kept, 1], 6, color=_MAIN, alpha=0.35, linewidths=0, label=f"{len(shapes):,} boxes"
    )
    if len(anchors):
        label = f"{len(anchors)} anchors"
        axes.scatter(
            anchors[:, 0], anchors[:, 1], 70, color=_ANCHOR, marker="X", edgecolors="white", label=label, zorder=3
        )
    smallest = float(shapes.min())
    axes.plot((smallest, 1), (smallest, 1), color="0.75", linewidth=0.8, zorder=0)
    axes.loglog()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.set_box_aspect(1)
    axes.set_anchor("N")
    axes.set_xlabel("width of the box, as a share of its picture's")
    axes.set_ylabel("height of the box, as a share of its picture's")
    axes.legend(frameon=False, loc="lower right")
    _plain(axes, grid="both")


def _plain(axes: Axes, grid: Literal["x", "both"]) -> None:
    axes.grid(axis=grid, color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
