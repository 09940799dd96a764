import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from lightning_cv.ops.latents import (
    absolute_range,
    clamp_log_var,
    kl_to_standard_normal,
    order_by_kl,
    prior_quantiles,
    reparameterise,
    traversal_codes,
)


@pytest.mark.parametrize(("mean", "log_var", "total"), [(0.0, 0.0, 0.0), (1.0, 0.0, 5.0), (1.0, 1.0, 8.591)])
def test_kl_of_ten_latents(mean, log_var, total):  # the known values of disentanglement_lib's tests
    kl = kl_to_standard_normal(torch.full((1, 10), mean), torch.full((1, 10), log_var))
    assert kl.shape == (1, 10)
    assert kl.sum().item() == pytest.approx(total, abs=1e-3)


def test_kl_agrees_with_torch_distributions_and_keeps_its_digits_near_the_prior():
    mean, log_var = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0))
    assert torch.allclose(kl_to_standard_normal(mean, log_var), expected)
    small = torch.tensor([1e-3])
    exact = 0.25 * 1e-6 + 1e-9 / 12
    assert kl_to_standard_normal(torch.zeros(1), small).item() == pytest.approx(exact, rel=1e-3)


def test_kl_is_float32_in_half_precision_and_empty_for_no_images():
    assert (
        kl_to_standard_normal(torch.ones(2, 3, dtype=torch.bfloat16), torch.zeros(2, 3, dtype=torch.bfloat16)).dtype
        == torch.float32
    )
    assert kl_to_standard_normal(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0, 3)


def test_gradients():
    mean = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    log_var = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(kl_to_standard_normal, (mean, log_var))

    def draw(m, v):
        return reparameterise(m, v, torch.Generator().manual_seed(0))

    assert torch.autograd.gradcheck(draw, (mean, log_var))


def test_draws_have_the_mean_and_deviation_asked_for_and_follow_the_generator():
    mean, log_var = torch.full((20000,), 3.0), torch.full((20000,), math.log(4.0))
    draws = reparameterise(mean, log_var, torch.Generator().manual_seed(1))
    assert draws.mean().item() == pytest.approx(3.0, abs=0.05)
    assert draws.std().item() == pytest.approx(2.0, abs=0.05)
    assert torch.equal(draws, reparameterise(mean, log_var, torch.Generator().manual_seed(1)))
    state = torch.get_rng_state()
    reparameterise(mean, log_var, torch.Generator().manual_seed(1))
    assert torch.equal(state, torch.get_rng_state())


def test_clamped_log_variances_stay_finite():
    log_var = clamp_log_var(torch.tensor([-1e4, -1.0, 1e4]))
    assert log_var.tolist() == [-30.0, -1.0, 20.0]
    assert kl_to_standard_normal(torch.zeros(3), log_var).isfinite().all()


def test_traversals():
    code = torch.tensor([1.0, 2.0, 3.0])
    codes = traversal_codes(code, torch.tensor([2, 0]), torch.tensor([-1.0, 1.0]))
    assert codes.tolist() == [[[1, 2, -1], [1, 2, 1]], [[-1, 2, 3], [1, 2, 3]]]
    assert traversal_codes(code, torch.tensor([], dtype=torch.int64), torch.tensor([0.0])).shape == (0, 1, 3)
    with pytest.raises(ValueError, match="one code"):
        traversal_codes(torch.zeros(2, 3), torch.tensor([0]), torch.zeros(1))


def test_ranges():
    assert absolute_range(2.0, 5).tolist() == [-2, -1, 0, 1, 2]
    quantiles = prior_quantiles(5, tail=0.025)
    assert quantiles[[0, -1]].tolist() == pytest.approx([-1.959964, 1.959964], abs=1e-5)
    assert quantiles[2].item() == pytest.approx(0.0, abs=1e-6)
    assert quantiles[3].item() == pytest.approx(Normal(0.0, 1.0).icdf(torch.tensor(0.7375)).item(), abs=1e-5)
    with pytest.raises(ValueError, match="tail"):
        prior_quantiles(5, tail=0.5)


def test_order_by_kl_is_descending_and_stable():
    assert order_by_kl(torch.tensor([0.1, 3.0, 0.1, 5.0])).tolist() == [3, 1, 0, 2]
