import numpy as np
import pytest
import torch

from lightning_cv.viz.grids import traversal_frames, traversal_grid
from lightning_cv.viz.rate_distortion import RatePoint, rate_distortion
from lightning_cv.viz.rows import image_rows


def test_reconstructions_stand_below_their_images():
    images = torch.zeros(3, 1, 32, 32)
    reconstructions = torch.ones(3, 1, 32, 32) * torch.tensor([0.25, 0.5, 0.75]).reshape(3, 1, 1, 1)
    grid = image_rows({"image": images, "reconstruction": reconstructions})
    black = (grid == 0).all(-1)
    rows, columns = np.nonzero(black)
    for level in (64, 128, 191):
        below_rows, below_columns = np.nonzero((grid == level).all(-1))
        assert len(below_rows) >= 64 * 64
        assert below_rows.min() > rows.max() - 64
        assert below_columns.min() >= columns.min()


def test_many_images_wrap_into_further_pairs_of_rows():
    one = image_rows({"image": torch.rand(4, 1, 16, 16), "reconstruction": torch.rand(4, 1, 16, 16)}, columns=4)
    two = image_rows({"image": torch.rand(6, 1, 16, 16), "reconstruction": torch.rand(6, 1, 16, 16)}, columns=4)
    assert two.shape[1] == one.shape[1]
    assert two.shape[0] > 1.9 * one.shape[0]
    with pytest.raises(ValueError, match="rows of the same number and size"):
        image_rows({"image": torch.rand(0, 1, 16, 16), "reconstruction": torch.rand(0, 1, 16, 16)})
    with pytest.raises(ValueError, match="rows of the same number and size"):
        image_rows({"image": torch.rand(2, 1, 16, 16), "reconstruction": torch.rand(3, 1, 16, 16)})


def test_traversals_have_a_row_a_latent_and_a_column_a_value():
    images = (torch.arange(6).reshape(2, 3, 1, 1, 1) / 8).expand(2, 3, 1, 32, 32)
    grid = traversal_grid(images, ["z4  KL 2.0", "z1  KL 0.1"], ["-2.0", "0", "+2.0"], "image 7")
    places = [np.argwhere((grid == round(n / 8 * 255)).all(-1)) for n in range(6)]
    tops, lefts = [p[:, 0].min() for p in places[1:]], [p[:, 1].max() for p in places[1:]]
    assert all(len(p) >= 64 * 64 for p in places)
    assert tops[2] == tops[3] == tops[4] > tops[0] == tops[1]
    assert lefts[1] > lefts[0] == lefts[3] > lefts[2]
    with pytest.raises(ValueError, match="2 rows of 2 images"):
        traversal_grid(images, ["a", "b"], ["0", "1"])


def test_frames_go_there_and_back_and_show_every_latent_at_once():
    images = (torch.arange(1, 13).reshape(3, 4, 1, 1, 1) / 16).expand(3, 4, 1, 32, 32)
    frames = traversal_frames(images, ["z0", "z1", "z2"], ["a", "b", "c", "d"], "image 7", width=2)
    assert len({frame.shape for frame in frames}) == 1
    shown = [[n for n in range(1, 13) if (frame == round(n / 16 * 255)).all(-1).sum() >= 64 * 64] for frame in frames]
    assert shown == [[step + 1, step + 5, step + 9] for step in (0, 1, 2, 3, 2, 1)]
    first, second, third = (np.argwhere((frames[0] == round(n / 16 * 255)).all(-1)).min(0) for n in (1, 5, 9))
    assert first[0] == second[0] < third[0]
    assert first[1] == third[1] < second[1]
    assert len(traversal_frames(images[:, :1], ["z0", "z1", "z2"], ["a"])) == 1
    with pytest.raises(ValueError, match="3 rows of 2 images"):
        traversal_frames(images, ["z0", "z1", "z2"], ["a", "b"])


def test_the_curve_is_drawn_for_one_and_for_many_points():
    points = [RatePoint(beta, seed, 20 / beta + seed, 60 + beta) for beta in (1, 4, 16) for seed in (0, 1)]
    drawn = rate_distortion(points)
    assert drawn.dtype == np.uint8
    assert drawn.shape[2] == 3
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 50
    assert not np.array_equal(rate_distortion(points[:1]), drawn)
    with pytest.raises(ValueError, match="no points"):
        rate_distortion([])
