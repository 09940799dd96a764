import math

import pytest
import torch
from torch import distributions

from lightning_cv.ops.likelihoods import Bernoulli, Gaussian, Laplace, LearnedGaussian, Likelihood, OptimalGaussian

KINDS = [Bernoulli, Gaussian, OptimalGaussian, LearnedGaussian, Laplace]


def images(count=3, seed=0):
    return torch.rand(count, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("likelihood", "of"),
    [
        (Bernoulli(), lambda outputs: distributions.Bernoulli(logits=outputs, validate_args=False)),
        (Gaussian(0.3), lambda outputs: distributions.Normal(outputs, 0.3)),
        (LearnedGaussian(0.2), lambda outputs: distributions.Normal(outputs, 0.2)),
        (Laplace(0.7), lambda outputs: distributions.Laplace(outputs, 0.7)),
    ],
)
def test_they_are_the_densities_of_torch_summed_over_an_image(likelihood, of):
    outputs, targets = images(seed=1), images()
    expected = -of(outputs).log_prob(targets).flatten(1).sum(1)
    assert torch.allclose(likelihood(outputs, targets), expected, rtol=1e-5)
    assert torch.allclose(likelihood.pixels(outputs, targets), -of(outputs).log_prob(targets), atol=1e-5)


def test_the_optimal_sigma_by_hand():
    likelihood = OptimalGaussian()
    outputs, targets = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.3, 0.4]]]])  # squared errors .09 and .16
    variance = 0.125
    by_hand = 0.25 / (2 * variance) + 2 * 0.5 * math.log(2 * math.pi * variance)
    assert likelihood(outputs, targets).item() == pytest.approx(by_hand, rel=1e-6)
    for sigma in (0.3, 0.4):
        assert Gaussian(sigma)(outputs, targets).item() > by_hand  # no other sigma is likelier


def test_the_optimal_sigmas_gradient_is_that_of_half_the_log_of_the_error():
    outputs, targets = images(seed=1).requires_grad_(), images()
    OptimalGaussian()(outputs, targets).sum().backward()
    got, outputs.grad = outputs.grad, None
    (outputs.numel() / 2 * (outputs - targets).square().mean().log()).backward()
    assert torch.allclose(got, outputs.grad, rtol=1e-5)


def test_evaluation_uses_the_running_variance_of_training():
    likelihood, targets = OptimalGaussian(), torch.zeros(4, 1, 2, 2)
    likelihood.eval()
    assert torch.allclose(likelihood(targets + 0.5, targets), Gaussian(1.0)(targets + 0.5, targets))
    likelihood.train()
    for error in (0.5, 0.1):
        likelihood(targets + error, targets)
    expected = 0.99 * 0.25 + 0.01 * 0.01
    likelihood.eval()
    for error in (0.5, 0.3):  # whatever the batch
        found = likelihood(targets + error, targets)
        assert torch.allclose(found, Gaussian(expected**0.5)(targets + error, targets), rtol=1e-5)
    other = OptimalGaussian()
    other.load_state_dict(likelihood.state_dict())
    assert other.variance.item() == pytest.approx(expected)


@pytest.mark.parametrize("likelihood", [OptimalGaussian(), LearnedGaussian()])
def test_sigma_does_not_shrink_without_bound(likelihood):
    targets = images()
    if isinstance(likelihood, LearnedGaussian):
        torch.nn.init.constant_(likelihood.log_sigma, -40.0)
    nll = likelihood(targets.clone(), targets)
    assert torch.allclose(nll, Gaussian(math.exp(-6))(targets, targets), rtol=1e-4)


def test_a_learned_sigma_goes_to_the_error():
    likelihood = LearnedGaussian()
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    targets = torch.zeros(4, 1, 8, 8)
    outputs = targets + 0.2
    for _ in range(300):
        optimizer.zero_grad()
        likelihood(outputs, targets).mean().backward()
        optimizer.step()
    assert likelihood.log_sigma.exp().item() == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_full_precision_pictures_and_empty_batches(kind):
    likelihood = kind()
    assert isinstance(likelihood, Likelihood)
    outputs = 100 * (images(seed=1) - 0.5)
    assert likelihood.picture(outputs).min() >= 0
    assert likelihood.picture(outputs).max() <= 1
    assert likelihood(outputs.bfloat16(), images()).dtype == torch.float32
    assert likelihood(outputs.double(), images()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(kind()(outputs, images()), kind()(outputs, images()))
        assert kind()(outputs, images()).dtype == torch.float32
    assert likelihood.eval()(outputs[:0], images(0)).shape == (0,)
    with pytest.raises(ValueError, match="one shape"):
        likelihood(outputs, images()[:, :1])


def test_what_they_show():
    assert Bernoulli().picture(torch.zeros(1, 1, 1, 1)).item() == 0.5
    assert Gaussian().picture(torch.tensor([-0.5, 0.25, 1.5])).tolist() == [0.0, 0.25, 1.0]


@pytest.mark.parametrize("bad", [-0.1, 1.1])
def test_bernoulli_refuses_normalised_images(bad):
    with pytest.raises(ValueError, match=r"within 0 and 1.*normalising transform"):
        Bernoulli().check(torch.tensor([[[[0.5, bad]]]]))
    Gaussian().check(torch.tensor([[[[0.5, bad]]]]))
    assert Gaussian()(torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.5, bad]]]])).isfinite()


@pytest.mark.parametrize("kind", [Gaussian, LearnedGaussian, Laplace])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_widths_are_positive(kind, value):
    with pytest.raises(ValueError, match=r"likelihood\.(sigma|scale) must be positive"):
        kind(value)
