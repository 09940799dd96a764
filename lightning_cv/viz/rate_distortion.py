"""What a code costs against what it loses, for each beta."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lightning_cv.viz.canvas import Picture

MARKERS = "osD^vP*X"


class RatePoint(NamedTuple):
    """One trained model: nats an image."""

    beta: float
    seed: int
    kl: float
    reconstruction: float


def rate_distortion(points: Sequence[RatePoint], title: str = "") -> Picture:
    """KL (rate) against reconstruction (distortion): a colour a beta, a marker and a thin line a seed, a line through
    the means.
    """
    if not points:
        raise ValueError("rate_distortion: there are no points to draw")
    figure = Figure(figsize=(5.0, 3.8), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    betas = sorted({point.beta for point in points})
    seeds = sorted({point.seed for point in points})
    groups = {beta: [point for point in points if point.beta == beta] for beta in betas}
    centres = {
        beta: (np.mean([point.kl for point in group]), np.mean([point.reconstruction for point in group]))
        for beta, group in groups.items()
    }
    axes.plot(*zip(*centres.values(), strict=True), color="0.75", linewidth=1.5, zorder=1)
    for seed in seeds if len(seeds) > 1 else []:
        own = sorted((point.beta, point.kl, point.reconstruction) for point in points if point.seed == seed)
        axes.plot([point[1] for point in own], [point[2] for point in own], color="0.85", linewidth=0.8, zorder=0)
    shades = colormaps["viridis"](np.linspace(0.05, 0.85, len(betas)))
    for shade, beta in zip(shades, betas, strict=True):
        for point in groups[beta]:
            marker = MARKERS[seeds.index(point.seed) % len(MARKERS)]
            axes.scatter(point.kl, point.reconstruction, 45, color=[shade], marker=marker, edgecolors="white", zorder=2)
        axes.annotate(
            rf"$\beta$ = {beta:g}", centres[beta], xytext=(9, 8), textcoords="offset points", color=shade, weight="bold"
        )
    for number, seed in enumerate(seeds):
        axes.scatter([], [], 45, color="0.4", marker=MARKERS[number % len(MARKERS)], label=f"seed {seed}")
    axes.set_xlabel("rate: KL in nats an image")
    axes.set_ylabel("distortion: reconstruction in nats an image")
    axes.set_title(title, loc="left")
    axes.margins(0.12)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib has no types here
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]  # nor here
