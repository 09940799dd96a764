import numpy as np
import pytest
import torch

from lightning_cv.viz.canvas import below, beside, class_colour, enlarge, picture, text_line, text_size, tile


def test_picture_rounds_clips_and_makes_grey_into_rgb():
    grey = picture(torch.tensor([[[0.0, 0.5, 1.5]]]))
    assert grey.shape == (1, 3, 3)
    assert grey[0].tolist() == [[0, 0, 0], [128, 128, 128], [255, 255, 255]]
    colour = picture(torch.tensor([1.0, 0.0, 0.5]).reshape(3, 1, 1))
    assert colour.tolist() == [[[255, 0, 128]]]
    assert picture(grey) is grey


def test_what_is_no_image_is_named():
    with pytest.raises(ValueError, match=r"shape \(4, 5\)"):
        picture(torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"shape \(2, 4, 5\)"):
        picture(torch.zeros(2, 4, 5))


def test_enlarge_repeats_pixels():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = enlarge(image, 3)
    assert large.shape == (6, 6, 3)
    assert np.array_equal(large[::3, ::3], image)
    assert np.array_equal(large[2, 2], image[0, 0])


def test_layouts_keep_every_pixel():
    red, blue = np.full((2, 3, 3), (255, 0, 0), np.uint8), np.full((4, 1, 3), (0, 0, 255), np.uint8)
    row = beside([red, blue], gap=2)
    assert row.shape == (4, 6, 3)
    assert np.array_equal(row[:2, :3], red)
    assert np.array_equal(row[:, 5:], blue)
    column = below([red, blue], gap=1)
    assert column.shape == (7, 3, 3)
    assert np.array_equal(column[3:, :1], blue)
    assert tile([red] * 3, columns=2, gap=0).shape == (4, 6, 3)
    with pytest.raises(ValueError, match="no pictures"):
        tile([], columns=2)


def test_text_fits_its_line():
    assert text_line("a very long line of text", 60).shape[1] == 60
    assert (text_line("abc", 60) < 128).any()
    assert text_size("wide")[0] > text_size("w")[0] > 0
    assert text_line("", 10).min() == 255
    assert text_line("wide", 0).shape[1] == 0


def test_neighbouring_classes_differ_in_colour():
    colours = np.array([class_colour(label) for label in range(1, 21)], dtype=int)
    steps = np.abs(np.diff(colours, axis=0)).sum(1)
    assert steps.min() > 100
    assert len({tuple(colour) for colour in colours.tolist()}) == 20
