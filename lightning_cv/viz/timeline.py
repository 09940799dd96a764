"""What detectors cost beside each other: a table and a figure."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lightning_cv.viz.canvas import Picture
from lightning_cv.viz.sweep import COLOURS, drawn, plain


class Cost(NamedTuple):
    """Of one detector."""

    train_seconds: float
    """Of training alone."""
    train_search_seconds: float
    """Of the search for proposals in the training pictures."""
    picture_seconds: float
    """Of one test picture, without its proposals."""
    picture_proposal_seconds: float
    """Of its proposals, by selective search or by the net itself."""
    bytes_on_disk: int
    map_50: float


def cost_table(costs: Mapping[str, Cost], device: str) -> str:
    """A row a detector in Markdown, in the order given, and a line that says what they ran on."""
    columns = ("system", "training", "of it search", "a test picture", "of it proposals", "on disk", "mAP@0.5")
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for name, cost in costs.items():
        train, picture = (
            cost.train_seconds + cost.train_search_seconds,
            cost.picture_seconds + cost.picture_proposal_seconds,
        )
        lines.append(
            f"| {name} | {train:,.0f} s | {cost.train_search_seconds / train:.0%} | {1000 * picture:,.0f} ms "
            f"| {cost.picture_proposal_seconds / picture:.0%} | {cost.bytes_on_disk / 1e6:,.0f} MB "
            f"| {cost.map_50:.3f} |"
        )
    return "\n".join([*lines, "", f"On {device}."]) + "\n"


def cost_bars(costs: Mapping[str, Cost], device: str) -> Picture:
    """Four panels, a bar a detector: seconds of training and of a picture, each with its share of proposals, disk, mAP.

    The title says what they ran on.
    """
    figure = Figure(figsize=(12, 1.5 + 0.5 * len(costs)), dpi=100, layout="constrained")
    figure.suptitle(device, fontsize=11)
    canvas = FigureCanvasAgg(figure)
    names, rows = list(costs), list(costs.values())
    nothing: Callable[[Cost], float] = lambda _: 0.0  # noqa: E731
    panels: list[tuple[str, Callable[[Cost], float], Callable[[Cost], float], str]] = [
        ("training, s", lambda cost: cost.train_search_seconds, lambda cost: cost.train_seconds, "{:,.0f}"),
        (
            "a test picture, ms",
            lambda cost: 1000 * cost.picture_proposal_seconds,
            lambda cost: 1000 * cost.picture_seconds,
            "{:,.0f}",
        ),
        ("on disk, MB", nothing, lambda cost: cost.bytes_on_disk / 1e6, "{:,.0f}"),
        ("mAP@0.5", nothing, lambda cost: cost.map_50, "{:.2f}"),
    ]
    for axes, (title, search, rest, written) in zip(figure.subplots(1, 4, sharey=True), panels, strict=True):
        first, second = [search(row) for row in rows], [rest(row) for row in rows]
        axes.barh(names, first, color=COLOURS[1], label="proposals")
        bars = axes.barh(names, second, left=first, color=COLOURS[0], label="the rest")
        axes.bar_label(bars, [written.format(a + b) for a, b in zip(first, second, strict=True)], padding=3)
        axes.set_title(title, fontsize=11)
        axes.margins(x=0.25)
        plain(axes)
    figure.axes[0].invert_yaxis()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return drawn(canvas)
