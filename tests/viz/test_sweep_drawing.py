import numpy as np
import pytest
from matplotlib import colormaps

from lightning_cv.viz.sweep import (
    Axis,
    Series,
    Trace,
    _heights,
    _ticks,
    bars,
    figures_against,
    importance_bars,
    lined_up,
    parallel_coordinates,
    training_curves,
)


def test_panels_fill_rows_of_at_most_three():
    series = [Series("all", [(1.0, 2.0), (1.0, 3.0), (4.0, 1.0)])]
    shapes = [figures_against("beta", {str(i): series for i in range(count)}).shape for count in (1, 2, 3, 4, 5)]
    heights, widths = [shape[0] for shape in shapes], [shape[1] for shape in shapes]
    assert widths == [440, 880, 1320, 880, 1320]
    assert heights[0] == heights[1] == heights[2] < heights[3] == heights[4]
    with pytest.raises(ValueError, match="no figures to draw"):
        figures_against("beta", {})


def test_heights_on_an_axis_by_hand():
    assert _heights(Axis("x", [1, 3, 2])) == [0, 1, 0.5]
    assert _heights(Axis("lr", [0.001, 0.1, 0.01])) == pytest.approx([0, 1, 0.5])  # so far apart: logarithmic
    assert _heights(Axis("x", [5, 5])) == [0.5, 0.5]
    assert _heights(Axis("net", ["a", "b", "a", "c"])) == [0, 0.5, 0, 1]
    assert _heights(Axis("elbo", [-100.0, -1.0])) == [0, 1]


def test_labels_of_an_axis_keep_apart_and_many_are_its_ends():
    assert _ticks(Axis("x", [0, 1, 100])) == [(0, "0"), (1, "100")]
    assert _ticks(Axis("x", list(range(20)))) == [(0, "0"), (1, "19")]
    assert _ticks(Axis("net", ["b", "a"])) == [(0, "b"), (1, "a")]


def test_parallel_coordinates_need_two_axes():
    assert parallel_coordinates([Axis("a", [1, 2]), Axis("b", ["x", "y"])]).ndim == 3
    for axes in ([Axis("a", [1])], [Axis("a", []), Axis("b", [])]):
        with pytest.raises(ValueError, match="at least two axes"):
            parallel_coordinates(axes)


def test_bars_are_as_long_as_the_shares():
    drawn = importance_bars([("a", 1.0), ("b", 0.5)], "m")
    blue = (drawn == (0x3B, 0x6F, 0xB6)).all(-1).sum(1)
    lengths = [int(n) for n in blue if n]
    assert min(lengths) == pytest.approx(0.5 * max(lengths), abs=3)


def test_every_run_is_drawn_in_the_colour_of_its_group():
    traces = [Trace("a", [(0, 1.0)]), Trace("b", [(i, float(i)) for i in range(50)])]
    both, alone = training_curves("val/miou", traces), training_curves("val/miou", traces[1:])
    first, last = (np.array(colormaps["viridis"](share)[:3]) * 255 for share in (0.05, 0.85))
    assert shows(both, first)
    assert shows(both, last)
    assert shows(alone, first)  # the only group has the first colour
    assert not shows(alone, last)


def shows(drawn, colour):
    return bool((np.abs(drawn - colour).max(-1) < 2).any())


def test_pictures_stay_as_they_are_and_wrap_before_they_get_too_wide():
    picture = np.full((10, 700, 3), 7, np.uint8)
    three, four = (lined_up({str(i): picture for i in range(count)}) for count in (3, 4))
    assert three.shape[1] == four.shape[1]
    assert four.shape[0] > 1.5 * three.shape[0]
    assert int((four == 7).all(-1).sum()) == 4 * 7000


def test_bars_are_as_long_as_the_means_and_an_unknown_one_is_left_out():
    picture = bars({"miou": {"a": [1.0], "b": [1.5, 2.5], "c": []}}).astype(int)
    blue = (np.abs(picture - np.array([108, 147, 200])) < 20).all(axis=2)  # three quarters of the first colour on white
    rows = np.flatnonzero(blue.any(axis=1))
    parts = np.split(rows, np.flatnonzero(np.diff(rows) > 3) + 1)
    lengths = [np.median(blue[part].sum(axis=1)) for part in parts]
    assert len(lengths) == 2
    assert lengths[1] / lengths[0] == pytest.approx(2.0, rel=0.1)
    assert bars({"x": {"a": [1.0]}, "y": {"a": [2.0]}}).shape[1] > bars({"x": {"a": [1.0]}}).shape[1]
