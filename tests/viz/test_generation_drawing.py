import numpy as np
import pytest
import torch

from lightning_cv.viz.generation import Column, generation_grid, latent_scatter, principal_plane, sample_grid


def test_the_plane_keeps_distances_and_says_where_the_origin_lies():
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())
    flat = torch.randn(50, 2, generator=torch.Generator().manual_seed(1)).double() * torch.tensor([5.0, 1.0])
    codes = torch.cat([flat, torch.zeros(50, 1)], 1) @ turn + torch.tensor([10.0, -3.0, 2.0])
    points, origin = principal_plane(codes)
    assert np.allclose(np.linalg.norm(points[0] - points[1]), float((codes[0] - codes[1]).norm()))
    assert points[:, 0].std() > points[:, 1].std()
    shifted, middle = principal_plane(codes - codes.mean(0))
    assert np.allclose(np.abs(shifted), np.abs(points))
    assert np.allclose(middle, 0)
    assert np.linalg.norm(origin) <= float(codes.mean(0).norm()) + 1e-9


def test_one_latent_lies_on_a_line():
    points, origin = principal_plane(torch.tensor([[1.0], [3.0]]))
    assert np.abs(points[:, 0]).tolist() == [1, 1]
    assert points[:, 1].tolist() == [0, 0]
    assert np.abs(origin).tolist() == [2, 0]


def test_scatter_shows_classes_and_the_black_circles_of_the_prior():
    codes = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    drawn = latent_scatter(codes, torch.tensor([0, 0, 1, 1]), ("a", "b"))
    middle = drawn[drawn.shape[0] // 3 : drawn.shape[0] // 2, drawn.shape[1] // 3 : drawn.shape[1] * 2 // 3]
    assert (middle.sum(-1) < 60).any()
    blue, orange = (abs(drawn.astype(int) - colour).sum(-1) < 120 for colour in ((31, 119, 180), (255, 127, 14)))
    assert blue.any()
    assert orange.any()


def test_the_grid_has_a_column_a_net_and_takes_nets_that_lack_a_row():
    images = torch.rand(30, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    scatter = np.full((50, 60, 3), 200, np.uint8)
    full = Column("a", ["line"], {"prior": images, "fit": images}, images[:6].view(2, 3, 1, 16, 16), scatter)
    less = full._replace(samples={"prior": images})
    one, two = generation_grid([full]), generation_grid([full, less])
    assert two.shape[0] == one.shape[0]
    assert two.shape[1] - one.shape[1] > 6 * 48  # six samples wide
    with pytest.raises(ValueError, match="nothing to draw"):
        generation_grid([])


def test_samples_are_row_by_row():
    images = torch.zeros(3, 1, 48, 48)
    images[1] = 1
    drawn = sample_grid(images, columns=2)
    assert drawn.shape == (98, 98, 3)
    assert drawn[24, 24, 0] == 0
    assert drawn[24, 74, 0] == 255
    assert drawn[74, 24, 0] == 0
