import pytest
import torch

from lightning_cv.viz.rows import image_rows


def test_named_rows_line_up_and_break_into_blocks():
    images = torch.linspace(0, 1, 5).reshape(5, 1, 1, 1).expand(5, 1, 16, 16)
    rows = {"image": images, "shown": images / 2, "reconstruction": 1 - images}
    one_block, two_blocks = image_rows(rows), image_rows(rows, columns=3)
    assert one_block.shape[0] < two_blocks.shape[0] <= 2 * one_block.shape[0]
    assert one_block.shape[1] - two_blocks.shape[1] == 2 * (64 + 2)
    last_column = one_block[:, -30]  # a vertical line through the last images
    colours = {tuple(pixel.tolist()) for pixel in last_column}
    assert {(255, 255, 255), (128, 128, 128), (0, 0, 0)} <= colours


@pytest.mark.parametrize(
    "rows", [{}, {"image": torch.zeros(0, 1, 8, 8)}, {"a": torch.zeros(2, 1, 8, 8), "b": torch.zeros(3, 1, 8, 8)}]
)
def test_rows_have_one_length(rows):
    with pytest.raises(ValueError, match="rows of the same number"):
        image_rows(rows)
