"""Curves of bits against quality, one panel a data set."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lightning_cv.viz.canvas import Picture

COLOURS = ("#c1292e", "#3b6fb6", "#7d5ba6", "#e0a458", "#4f8a5b", "#2a9d8f", "#8d6e63", "#546e7a")
MARKERS = "os^DvPX*"


class CodecPoint(NamedTuple):
    """One setting of a codec; an infinite PSNR is lossless and has no place on the curve but a line at its rate."""

    codec: str
    bits_per_pixel: float
    psnr: float


def compression_curves(panels: dict[str, Sequence[CodecPoint]]) -> Picture:
    """PSNR in dB against bits a pixel, logarithmic: a curve a codec, a dotted line at the rate of a lossless one.

    Args:
        panels: points by the data set's title, drawn beside each other on the same axes.
    """
    if not panels or not all(panels.values()):
        raise ValueError("compression_curves: there are no points to draw")
    codecs = list(dict.fromkeys(point.codec for points in panels.values() for point in points))
    figure = Figure(figsize=(5.4 * len(panels) + 0.8, 4.4), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (title, points) in zip(all_axes, panels.items(), strict=True):
        for number, codec in enumerate(codecs):
            _draw_codec(axes, number, codec, [point for point in points if point.codec == codec])
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(title, loc="left")
        axes.set_xlabel("rate: bits a pixel")
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].set_ylabel("quality: PSNR in dB")
    handles, labels = all_axes[0].get_legend_handles_labels()
    columns = min(len(labels), 3 * len(panels))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib has no types here
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]  # nor here


def _draw_codec(axes: Axes, number: int, codec: str, points: Sequence[CodecPoint]) -> None:
    colour = COLOURS[number % len(COLOURS)]
    lossy = sorted((point.bits_per_pixel, point.psnr) for point in points if np.isfinite(point.psnr))
    for point in points:
        if not np.isfinite(point.psnr):
            axes.axvline(point.bits_per_pixel, color=colour, linestyle=(0, (1, 2)), label=f"{codec} (lossless)")
    if lossy:
        width, size = (2.4, 6) if number == 0 else (1.4, 4.5)
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(*zip(*lossy, strict=True), color=colour, linewidth=width, marker=marker, markersize=size, label=codec)
