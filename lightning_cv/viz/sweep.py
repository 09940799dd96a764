"""Drawings about many runs: figures against a setting, training curves, parallel coordinates, what mattered."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from lightning_cv.viz.canvas import GAP, Picture, text_line, tile

COLOURS = ("#3b6fb6", "#c1292e", "#4f8a5b", "#e0a458", "#7d5ba6", "#2a9d8f", "#8d6e63", "#546e7a")
WIDE_RANGE = 10
"""Positive settings that differ by more than that factor are drawn on a logarithmic axis."""

WIDEST = 2250
"""Pixels that pictures beside each other take at most."""

APART = 0.045
"""Share of an axis that its labels are apart at least."""


class Series(NamedTuple):
    """Runs that differ in one setting and the seed: the setting and the figure of each."""

    label: str
    points: Sequence[tuple[float, float]]


class Trace(NamedTuple):
    """A figure of one run over training: a colour for each group, named once."""

    group: str
    points: Sequence[tuple[int, float]]


class Axis(NamedTuple):
    """One vertical line of parallel coordinates and every run's place on it: numbers, or words in a fixed order."""

    name: str
    values: Sequence[float | str]


def figures_against(setting: str, panels: Mapping[str, Sequence[Series]]) -> Picture:
    """A panel a figure: a dot a run, a line through the means of equal settings, a band of one standard deviation."""
    if not panels:
        raise ValueError("figures_against: there are no figures to draw")
    columns = 2 if len(panels) in (2, 4) else min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.0 * columns, 2.9 * rows + 0.3), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    settings = sorted({x for panel in panels.values() for series in panel for x, _ in series.points})
    for axes, (name, panel) in zip(grid, panels.items(), strict=False):
        for number, series in enumerate(panel):
            _draw_series(axes, series, COLOURS[number % len(COLOURS)])
        _setting_axis(axes, settings)
        axes.set_title(name, loc="left", fontsize=11)
        axes.set_xlabel(setting)
        plain(axes)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False, fontsize=8)
    return drawn(canvas)


def training_curves(name: str, traces: Sequence[Trace]) -> Picture:
    """A figure over optimizer steps, a thin line a run, a colour a group of runs."""
    figure = Figure(figsize=(6.4, 3.8), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    groups = list(dict.fromkeys(trace.group for trace in traces))
    shades = colormaps["viridis"](np.linspace(0.05, 0.85, len(groups)))
    for trace in traces:
        marker = "o" if len(trace.points) < 12 else None
        shade = shades[groups.index(trace.group)]
        axes.plot(*zip(*trace.points, strict=True), color=shade, linewidth=1.2, marker=marker, markersize=3)
    for group, shade in zip(groups, shades, strict=True):
        axes.plot([], [], color=shade, label=group)
    axes.set_title(name, loc="left")
    axes.set_xlabel("optimizer steps")
    if len(groups) > 1:
        axes.legend(frameon=False, fontsize=8, ncols=1 + (len(groups) > 6))
    plain(axes)
    return drawn(canvas)


def parallel_coordinates(axes_of: Sequence[Axis]) -> Picture:
    """A line a run across all axes, coloured by its place on the last one; a run without a number there is left out."""
    if len(axes_of) < 2 or not len(axes_of[-1].values):
        raise ValueError("parallel_coordinates: at least two axes with runs are drawn")
    heights = [_heights(axis) for axis in axes_of]
    figure = Figure(figsize=(max(5.0, 1.7 * len(axes_of)), 4.0), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for run in np.argsort(heights[-1], kind="stable"):
        line = [column[run] for column in heights]
        shade = colormaps["viridis"](0.05 + 0.85 * line[-1])
        axes.plot(range(len(line)), line, color=shade, linewidth=1.6, alpha=0.85)
    for place, axis in enumerate(axes_of):
        axes.axvline(place, color="0.3", linewidth=1)
        for height, text in _ticks(axis):
            axes.annotate(text, (place, height), (4, 0), textcoords="offset points", va="center", fontsize=8,
                          bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5})  # fmt: skip
    axes.set_xticks(range(len(axes_of)), [axis.name for axis in axes_of], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(axes_of) - 0.55)
    axes.spines[:].set_visible(False)
    return drawn(canvas)


def importance_bars(shares: Sequence[tuple[str, float]], metric: str) -> Picture:
    """A bar from 0 to 1 for each setting."""
    figure = Figure(figsize=(5.4, 0.9 + 0.32 * len(shares)), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.barh(range(len(shares)), [share for _, share in shares], color=COLOURS[0])
    axes.set_yticks(range(len(shares)), [name for name, _ in shares])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"share of the variance of {metric}")
    axes.tick_params(axis="y", length=0)
    plain(axes)
    return drawn(canvas)


def bars(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """A panel a figure, a bar a group of runs at their mean; all panels have the groups of the first.

    Where a group has several runs, each is a dot.
    """
    groups = list(next(iter(panels.values())))
    figure = Figure(figsize=(2.6 + 3.2 * len(panels), 1.0 + 0.34 * len(groups)), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True).ravel()
    for number, (axes, (name, panel)) in enumerate(zip(grid, panels.items(), strict=True)):
        for row, group in enumerate(groups):
            if values := panel[group]:
                axes.barh(row, float(np.mean(values)), color=COLOURS[number % len(COLOURS)], alpha=0.75)
                axes.annotate(
                    f"{np.mean(values):.4g}", (0, row), (4, 0), textcoords="offset points", va="center", fontsize=8
                )
                if len(values) > 1:
                    axes.scatter(values, [row] * len(values), 12, color="0.15", zorder=3)
        axes.set_title(name, loc="left", fontsize=10)
        axes.tick_params(axis="y", length=0)
        plain(axes)
    grid[0].set_yticks(range(len(groups)), groups)
    grid[0].invert_yaxis()
    return drawn(canvas)


def lined_up(pictures: Mapping[str, Picture]) -> Picture:
    """Pictures beside each other under their names, none of them scaled; a new row where they get too wide."""
    columns = []
    for name, one in pictures.items():
        heading = text_line(name, one.shape[1] - GAP, size=18)
        above = np.pad(heading, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=255)
        columns.append(np.concatenate([above, one]))
    widest = max(column.shape[1] for column in columns)
    return tile(columns, columns=max(1, min(len(columns), WIDEST // widest)), gap=3 * GAP)


def _draw_series(axes: Axes, series: Series, colour: str) -> None:
    xs = sorted({x for x, _ in series.points})
    groups = [[y for other, y in series.points if other == x] for x in xs]
    means = np.array([np.mean(group) for group in groups])
    spreads = np.array([np.std(group, ddof=1) if len(group) > 1 else 0.0 for group in groups])
    axes.fill_between(xs, means - spreads, means + spreads, color=colour, alpha=0.18, linewidth=0)
    axes.plot(xs, means, color=colour, linewidth=1.8, label=series.label)
    axes.scatter(
        [x for x, _ in series.points],
        [y for _, y in series.points],
        16,
        color=colour,
        edgecolors="white",
        linewidths=0.5,
        zorder=3,
    )


def _setting_axis(axes: Axes, settings: Sequence[float]) -> None:
    """Ticks where there are runs, while they are few."""
    if settings[0] > 0 and settings[-1] / settings[0] >= WIDE_RANGE:
        axes.set_xscale("log")
    if len(settings) <= 8:
        axes.set_xticks(settings, [f"{value:g}" for value in settings])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _heights(axis: Axis) -> list[float]:
    """Places from 0 to 1: numbers by size, logarithmic where they are spread so; words by their order."""
    if all(isinstance(value, int | float) for value in axis.values):
        numbers = np.array(axis.values, dtype=np.float64)
        if numbers.min() > 0 and numbers.max() / numbers.min() >= WIDE_RANGE:
            numbers = np.log(numbers)
        spread = np.ptp(numbers)
        return list((numbers - numbers.min()) / spread if spread else np.full(len(numbers), 0.5))
    words = list(dict.fromkeys(map(str, axis.values)))
    return [words.index(str(value)) / max(1, len(words) - 1) for value in axis.values]


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    """The values themselves while they are few, else the smallest and the largest."""
    places = {
        height: f"{value:.4g}" if isinstance(value, int | float) else str(value)
        for height, value in zip(_heights(axis), axis.values, strict=True)
    }
    ordered = sorted(places.items())
    if len(ordered) > 6:
        return [ordered[0], ordered[-1]]
    kept = ordered[:1]
    for place in ordered[1:]:
        if place[0] - kept[-1][0] >= APART:
            kept.append(place)
    return kept


def plain(axes: Axes) -> None:
    """A light grid behind what is drawn, and no frame at the top and the right."""
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def drawn(canvas: FigureCanvasAgg) -> Picture:
    """The pixels of a figure."""
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib has no types here
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]  # nor here
