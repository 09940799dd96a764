"""A file of proposals: boxes that lie in their pictures, or an error that says which one does not."""

import numpy as np
import pytest

from lightning_cv.ops.proposal_file import Listed, read_proposals, write_proposals


def written(folder, *boxes):
    """A file of two pictures of height 20 and width 30, the second with these boxes."""
    pictures = {
        "first": Listed(np.array([[0, 0, 30, 20]], np.float32), (20, 30)),
        "second": Listed(np.array(boxes, np.float32).reshape(-1, 4), (20, 30)),
    }
    with (folder / "mine.npz").open("wb") as out:
        write_proposals(out, pictures)
    return folder / "mine.npz"


@pytest.mark.parametrize("box", [[0, 0, 25, 25], [-2, 0, 5, 5], [5, -1.5, 9, 5], [40, 5, 50, 9], [30, 5, 30.5, 9]])
def test_a_box_outside_of_its_picture_is_named_with_file_and_image(box, tmp_path):
    file = written(tmp_path, [1, 2, 3, 4], box)
    with pytest.raises(ValueError, match="lies outside of the picture, 30 x 20 pixels") as told:
        read_proposals(file)
    assert f"{file}, image second: box {[float(side) for side in box]} lies" in str(told.value)


def test_what_reaches_beyond_by_a_pixel_at_most_is_cut(tmp_path):
    file = written(tmp_path, [-1, -0.25, 31, 20.5], [29, 19, 31, 21], [1, 2, 3, 4])
    assert read_proposals(file)["second"].boxes.tolist() == [[0, 0, 30, 20], [29, 19, 30, 20], [1, 2, 3, 4]]


def test_a_picture_without_boxes_and_a_file_without_pictures(tmp_path):
    assert read_proposals(written(tmp_path))["second"].boxes.shape == (0, 4)
    with (tmp_path / "none.npz").open("wb") as out:
        write_proposals(out, {})
    assert read_proposals(tmp_path / "none.npz") == {}
