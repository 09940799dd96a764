"""The figure of a data set's statistics."""

import numpy as np
import pytest

from lightning_cv.viz.statistics import MOST_POINTS, ClassCount, statistics_figure

COUNTS = [ClassCount("cat", 30, 4), ClassCount("dog", 12)]
NONE = np.zeros((0, 2))


def shares(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.05, 0.9, (count, 2))


def test_boxes_stand_beside_the_counts():
    narrow = statistics_figure(COUNTS, NONE, NONE, "no boxes", "")
    wide = statistics_figure(COUNTS, shares(40), NONE, "boxes", "difficult")
    assert narrow.dtype == np.uint8
    assert narrow.shape[2] == 3
    assert wide.shape[1] == 2 * narrow.shape[1]
    assert wide.shape[0] == narrow.shape[0]


def test_anchors_are_drawn():
    without, with_anchors = (
        statistics_figure(COUNTS, shares(40), anchors, "", "crowd") for anchors in (NONE, np.array([[0.3, 0.4]]))
    )
    red = (with_anchors.astype(int) - without).sum(axis=2) != 0
    assert red.any()
    assert ((with_anchors == [0xC1, 0x29, 0x2E]).all(axis=2)).sum() > (
        (without == [0xC1, 0x29, 0x2E]).all(axis=2)
    ).sum()


def test_many_classes_make_it_taller_and_many_boxes_do_not_make_it_slower():
    many = [ClassCount(f"class {number}", number) for number in range(80)]
    figure = statistics_figure(many, shares(20 * MOST_POINTS), NONE, "", "crowd")
    assert figure.shape[0] > 2 * statistics_figure(COUNTS, NONE, NONE, "", "").shape[0]


def test_the_same_input_gives_the_same_picture():
    first, second = (statistics_figure(COUNTS, shares(9000), NONE, "", "") for _ in range(2))
    assert np.array_equal(first, second)


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no classes"):
        statistics_figure([], NONE, NONE, "", "")
