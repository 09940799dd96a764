import pytest
import torch

from lightning_cv.ops.windows import number_of_boxes, positions, windows_around


def test_windows_by_hand():
    image = torch.arange(1.0, 7.0).reshape(1, 1, 2, 3)
    windows = windows_around(image, 3)
    assert windows.shape == (1, 2, 3, 1, 3, 3)
    assert windows[0, 0, 0, 0].tolist() == [[0, 0, 0], [0, 1, 2], [0, 4, 5]]
    assert windows[0, 1, 2, 0].tolist() == [[2, 3, 0], [5, 6, 0], [0, 0, 0]]


@pytest.mark.parametrize(("height", "width", "window", "step"), [(5, 8, 3, 2), (6, 6, 5, 4), (1, 1, 7, 3)])
def test_windows_against_a_loop(height, width, window, step):
    image = torch.rand(2, 3, height, width)
    padded = torch.nn.functional.pad(image, (window // 2,) * 4)
    found = windows_around(image, window, step)
    assert found.shape[1:3] == (positions(height, step), positions(width, step))
    for row, y in enumerate(range(0, height, step)):
        for column, x in enumerate(range(0, width, step)):
            assert torch.equal(found[:, row, column], padded[..., y : y + window, x : x + window])


def test_an_even_window_has_no_middle():
    with pytest.raises(ValueError, match="must be odd"):
        windows_around(torch.rand(1, 1, 4, 4), 4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (4, 5)])
def test_boxes_are_counted_as_a_loop_counts_them(height, width):
    loop = sum(
        1 for top in range(height) for _ in range(top, height) for left in range(width) for _ in range(left, width)
    )
    assert number_of_boxes(height, width) == loop
