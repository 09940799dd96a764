import numpy as np
import pytest

from lightning_cv.viz.canvas import text_size
from lightning_cv.viz.confusion import CELL, SMALL_CELL, confusion_picture


def middle(drawn, row, column, classes, cell=CELL):
    """Colour of a corner of a cell, where no number stands, counted from the lower right."""
    y, x = (drawn.shape[axis] - 10 - cell * (classes - place) + 4 for axis, place in ((0, row), (1, column)))
    return drawn[y, x].tolist()


def test_the_darker_the_more():
    drawn = confusion_picture(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 5]]), ["cat", "dog", "background"])
    colours = [[sum(middle(drawn, row, column, 3)) for column in range(3)] for row in range(3)]
    white = 3 * 255
    assert colours[0][0] < colours[0][1] < colours[0][2] == white
    assert colours[1] == [white] * 3  # nothing of this class
    assert colours[2][2] == 8 + 64 + 129
    width = text_size("background")[0]
    assert drawn.shape[1] == width + 10 + 3 * CELL + 10


def test_many_classes_are_drawn_small():
    drawn = confusion_picture(np.eye(40, dtype=np.int64), [f"class {k}" for k in range(40)])
    assert drawn.shape[0] < 40 * SMALL_CELL + 200
    assert middle(drawn, 7, 7, 40, SMALL_CELL) == [8, 64, 129]


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="1 class names for a matrix of shape \\(2, 2\\)"):
        confusion_picture(np.zeros((2, 2), np.int64), ["a"])
