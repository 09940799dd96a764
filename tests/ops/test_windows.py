import pytest
import torch

from lightning_cv.ops.windows import number_of_boxes, positions, windows_around, windows_in_turn


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


@pytest.mark.parametrize(("at_once", "numbers"), [(1, [1] * 24), (5, [5, 5, 5, 5, 4]), (24, [24]), (100, [24])])
def test_windows_in_turn_are_those_of_the_view(at_once, numbers):
    images = torch.rand(2, 3, 5, 8)
    found = list(windows_in_turn(images, 3, 2, at_once))
    assert [len(some) for some in found] == numbers
    assert torch.equal(torch.cat(found), windows_around(images, 3, 2).flatten(0, 2))


def test_windows_in_turn_of_no_images_and_of_one_pixel():
    assert [some.shape for some in windows_in_turn(torch.rand(0, 3, 5, 8), 3)] == [(0, 3, 3, 3)]
    (one,) = windows_in_turn(torch.tensor([[[[2.0]]]]), 3)
    assert one[0, 0].tolist() == [[0, 0, 0], [0, 2, 0], [0, 0, 0]]


def test_each_pixel_has_the_gradient_of_the_windows_that_hold_it():
    image = torch.rand(1, 1, 3, 4, requires_grad=True)
    sum(some.sum() for some in windows_in_turn(image, 3, at_once=5)).backward()
    assert image.grad[0, 0].tolist() == [[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]


def test_an_even_window_has_no_middle():
    for cut in (windows_around, lambda *arguments: list(windows_in_turn(*arguments))):
        with pytest.raises(ValueError, match="must be odd"):
            cut(torch.rand(1, 1, 4, 4), 4)
    with pytest.raises(ValueError, match="at_once must be at least 1, got 0"):
        list(windows_in_turn(torch.rand(1, 1, 4, 4), 3, 1, 0))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (4, 5)])
def test_boxes_are_counted_as_a_loop_counts_them(height, width):
    loop = sum(
        1 for top in range(height) for _ in range(top, height) for left in range(width) for _ in range(left, width)
    )
    assert number_of_boxes(height, width) == loop
