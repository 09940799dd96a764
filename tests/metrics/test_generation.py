"""Holes, interpolations and draws with answers known beforehand."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from lightning_cv.metrics.generation import (
    gaussian_draws,
    gaussian_kl,
    hole_share,
    interpolate,
    irregularity,
    mixture_draws,
    nearest_distance,
    prior_draws,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_draws_of_the_codes_own_distribution_score_one_percent_and_others_all():
    codes, draws = prior_draws(4000, 2, seeded(0)), prior_draws(4000, 2, seeded(1))
    assert hole_share(codes, draws) == pytest.approx(0.01, abs=0.008)  # 3 deviations, of the limit and the count
    assert hole_share(codes, draws + 100) == 1.0
    assert hole_share(codes, codes) <= 0.01


def test_the_empty_middle_of_a_ring_is_a_hole():
    angles = 2 * math.pi * torch.rand(2000, generator=seeded())
    ring = torch.stack([angles.cos(), angles.sin()], 1) * 3
    draws = torch.cat([ring[:50], 0.1 * prior_draws(150, 2, seeded(1))])  # a quarter on the ring
    assert hole_share(ring, draws) == pytest.approx(0.75, abs=0.01)


def test_codes_spread_wider_than_the_prior_leave_it_few_holes_but_are_unreached():
    wide, prior = 30 * prior_draws(2000, 2, seeded(0)), prior_draws(2000, 2, seeded(1))
    assert hole_share(wide, prior) < 0.02
    assert hole_share(prior, wide) > 0.95


def test_nearest_distances_are_those_of_a_loop():
    points, references = prior_draws(30, 3, seeded(0)), prior_draws(20, 3, seeded(1))
    expected = [min(math.dist(p, r) for r in references.tolist()) for p in points.tolist()]
    assert nearest_distance(points, references).tolist() == pytest.approx(expected)


def test_gaussian_kl_is_that_of_torch_distributions():
    mixing = torch.tensor([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.1, -0.3, 0.2]], dtype=torch.float64)
    codes = prior_draws(500, 3, seeded()).double() @ mixing.T + torch.tensor([1.0, 0.0, -2.0])
    fitted = MultivariateNormal(codes.mean(0), torch.cov(codes.T, correction=0))
    prior = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    assert gaussian_kl(codes) == pytest.approx(float(kl_divergence(fitted, prior)))
    assert gaussian_kl(torch.tensor([[1.0], [-1.0]])) == pytest.approx(0.0, abs=1e-12)
    assert gaussian_kl(torch.cat([codes, codes[:, :1] * 0], 1)) == math.inf
    with pytest.raises(ValueError, match="3 codes are too few for a covariance of 3 latents"):
        gaussian_kl(codes[:3])


def test_lines_are_straight_and_hold_both_ends():
    starts, ends = torch.tensor([[0.0, 1.0]]), torch.tensor([[4.0, -1.0]])
    assert interpolate(starts, ends, 3).tolist() == [[[0, 1], [2, 0], [4, -1]]]
    with pytest.raises(ValueError, match="2 steps at least"):
        interpolate(starts, ends, 1)


def test_even_changes_score_one_and_a_jump_as_many_as_there_are_steps():
    even = torch.linspace(0, 1, 6).view(1, 6, 1, 1, 1).expand(1, 6, 1, 2, 2)
    jump = (even > 0.5).float()
    still = torch.zeros_like(even)
    assert irregularity(torch.cat([even, jump, still])).tolist() == pytest.approx([1, 5, 1])
    with pytest.raises(ValueError, match="at least two a line"):
        irregularity(even[:, :1])


def test_gaussian_draws_have_the_codes_moments():
    codes = prior_draws(200, 2, seeded()) @ torch.tensor([[1.0, 0.8], [0.0, 0.1]]) + 5
    drawn = gaussian_draws(codes, 50_000, seeded(1))
    assert torch.allclose(drawn.mean(0), codes.mean(0), atol=0.02)
    assert torch.allclose(torch.cov(drawn.T), torch.cov(codes.T, correction=0), atol=0.02)
    assert torch.equal(drawn, gaussian_draws(codes, 50_000, seeded(1)))


def test_mixture_draws_keep_to_the_clusters_and_are_mixed():
    centres = torch.tensor([[10.0, 0.0], [-10.0, 0.0]])
    codes = torch.cat(
        [centres[0] + 0.1 * prior_draws(300, 2, seeded(0)), centres[1] + 0.1 * prior_draws(100, 2, seeded(1))]
    )
    drawn = mixture_draws(codes, 1000, 2, seeded(2))
    assert nearest_distance(drawn, centres).max() < 1
    assert (drawn[:, 0] > 0).double().mean() == pytest.approx(0.75, abs=0.05)
    assert (drawn[:100, 0] > 0).double().mean() == pytest.approx(0.75, abs=0.15)
    gaussian = gaussian_draws(codes, 1000, seeded(2))
    assert nearest_distance(gaussian, centres).max() > 3  # one Gaussian fills the space between


def test_too_few_codes_are_refused():
    with pytest.raises(ValueError, match="at least 4 codes"):
        hole_share(torch.zeros(3, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="at least 4 codes"):
        hole_share(torch.zeros(9, 2), torch.zeros(5, 3))
