import itertools
import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from lightning_cv.ops.latents import reparameterise
from lightning_cv.ops.objectives import (
    DIPVAE,
    BetaTCVAE,
    BetaVAE,
    Capacity,
    Coded,
    FactorVAE,
    Progress,
    log_densities,
    log_weights,
    shuffled_latents,
)

NOW = Progress(step=0, dataset_size=1000)


def coded(images=16, latents=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean, log_var = torch.randn(2, images, latents, generator=generator, dtype=torch.float64)
    latent = reparameterise(mean, log_var, generator)
    return Coded(torch.rand(images, generator=generator, dtype=torch.float64), latent, mean, log_var)


def test_beta_vae_by_hand():
    batch = Coded(
        torch.tensor([3.0, 5.0]), torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.zeros(2, 2)
    )
    found = BetaVAE()(batch, 4.0, NOW)  # KL 0.5 and 4.5
    assert (found["reconstruction"], found["kl"], found["loss"]) == (4.0, 2.5, 14.0)


def test_free_bits_are_a_floor_for_each_latents_batch_mean():
    batch = Coded(torch.zeros(2), torch.zeros(2, 2), torch.tensor([[1.0, 0.2], [3.0, 0.0]]), torch.zeros(2, 2))
    found = BetaVAE(free_bits=0.5)(batch, 2.0, NOW)  # 2.5 and 0.01 a latent
    assert found["loss"].item() == pytest.approx(2 * (2.5 + 0.5))
    assert found["kl"].item() == pytest.approx(2.51)
    mean = batch.mean.clone().requires_grad_()
    BetaVAE(free_bits=0.5)(batch._replace(mean=mean), 1.0, NOW)["loss"].backward()
    assert mean.grad[:, 1].eq(0).all()
    assert mean.grad[:, 0].ne(0).all()  # an image below the floor is still pulled where the mean is above


def test_capacity_is_of_the_batchs_mean_kl_and_grows_by_step():
    objective = Capacity(capacity=10.0, steps=100, gamma=3.0)
    batch = Coded(torch.tensor([3.0, 5.0]), torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1))
    for step, capacity in ((0, 0.0), (10, 1.0), (100, 10.0), (900, 10.0)):
        found = objective(batch, 1.0, Progress(step, 1))
        assert found["capacity"] == capacity
        assert found["loss"].item() == pytest.approx(4 + 3 * abs(2.5 - capacity))  # of the mean KL
    assert objective.steps_needed() == 100


@pytest.mark.parametrize(
    ("covariance", "distance"),
    [(torch.ones(10, 10), 90), (torch.zeros(10, 10), 10), (torch.eye(10), 0), (2 * torch.eye(10), 10)],
)
def test_how_far_a_covariance_is_from_the_identity(covariance, distance):
    """The cases of disentanglement_lib's own test."""
    assert DIPVAE(1.0, 1.0).distance(covariance) == distance


def test_dip_vae_by_hand():
    means = torch.tensor([[1.0, 1.0], [3.0, 1.0], [3.0, 5.0], [1.0, 5.0]])  # variances 1 and 4, no covariance
    batch = Coded(torch.full((4,), 5.0), means, means, torch.full((4, 2), math.log(2.0)))
    terms = BetaVAE()(batch, 1.0, NOW)
    for form, distance in (("i", 3.0 * 9), ("ii", 3.0 * (4 + 25))):
        found = DIPVAE(2.0, 3.0, form)(batch, 4.0, NOW)
        assert found["covariance"].item() == pytest.approx(distance)
        assert found["loss"].item() == pytest.approx(5 + 4 * terms["kl"].item() + distance)
    tied = batch._replace(mean=torch.tensor([[1.0, 1.0], [-1.0, -1.0]]).repeat(2, 1))  # covariance 1
    assert DIPVAE(2.0, 3.0)(tied, 1.0, NOW)["covariance"].item() == pytest.approx(2.0 * 2)
    with pytest.raises(ValueError, match="form is i or ii, got 'iii'"):
        DIPVAE(form="iii")
    with pytest.raises(ValueError, match=r"at least 0, got -1\.0 and 2\.0"):
        DIPVAE(-1.0, 2.0)


def test_the_published_capacity_ramp():
    assert [Capacity(100, 100).at(step) for step in (0, 10, 100, 101)] == [0, 10, 100, 100]


def test_tc_of_a_batch_of_equal_posteriors():  # the known value of disentanglement_lib's test, for 200 images
    latent = torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    log_q = log_densities(latent, torch.zeros(200, 10), torch.zeros(200, 10))
    total_correlation = (log_q.sum(2).logsumexp(1) - log_q.logsumexp(1).sum(1)).mean()
    assert total_correlation.item() == pytest.approx(-9 * math.log(200), rel=1e-5)


def test_densities_are_those_of_torch():
    batch = coded(images=5)
    expected = Normal(batch.mean, (0.5 * batch.log_var).exp()).log_prob(batch.latent[:, None])
    assert torch.allclose(log_densities(batch.latent, batch.mean, batch.log_var), expected)


@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_ones_give_the_elbo_up_to_sampling(estimator):
    """The three parts telescope to log q(z|x) - log p(z), whatever the estimate of q(z)."""
    batch = coded()
    found = BetaTCVAE(estimator=estimator)(batch, 1.0, NOW)
    sampled = Normal(batch.mean, (0.5 * batch.log_var).exp()).log_prob(batch.latent) - Normal(0, 1).log_prob(
        batch.latent
    )
    parts = found["information"] + found["total_correlation"] + found["dimension_wise_kl"]
    assert parts.item() == pytest.approx(sampled.sum(1).mean().item())
    assert found["loss"].item() == pytest.approx(found["reconstruction"].item() + parts.item())
    weighed = BetaTCVAE(alpha=2.0, gamma=3.0, estimator=estimator)(batch, 5.0, NOW)
    by_hand = 2 * found["information"] + 5 * found["total_correlation"] + 3 * found["dimension_wise_kl"]
    assert weighed["loss"].item() == pytest.approx((found["reconstruction"] + by_hand).item())


def test_mss_is_unbiased_and_mws_is_not():
    """q(z_0) averaged over every batch of three out of five that has image 0 in front; by enumeration."""
    batch, size, others = coded(images=5), 5, 2
    density = log_densities(batch.latent[:1], batch.mean, batch.log_var).sum(2).exp()[0]  # (5,): q(z_0 | x_j)
    estimates = {"mss": [], "mws": []}
    for chosen in itertools.permutations(range(1, size), others):
        for name, values in estimates.items():
            weights = log_weights(name, others + 1, size)[0].exp().double()
            values.append((weights * density[[0, *chosen]]).sum().item())
    truth = density.mean().item()
    assert sum(estimates["mss"]) / len(estimates["mss"]) == pytest.approx(truth)
    assert sum(estimates["mws"]) / len(estimates["mws"]) != pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize(("batch", "size"), [(2, 2), (5, 100), (64, 64)])
def test_mss_weights_are_a_mean_over_the_data_set(batch, size):
    weights = log_weights("mss", batch, size).exp()
    assert torch.allclose(weights.sum(1), torch.ones(batch))
    assert torch.allclose(weights.diagonal(), torch.full((batch,), 1 / size))


@pytest.mark.parametrize("estimator", ["mss", "mws"])
def test_a_lone_image_stands_for_its_share_of_the_data(estimator):
    assert log_weights(estimator, 1, 10).tolist() == [[pytest.approx(-math.log(10))]]


def test_total_correlation_of_correlated_gaussians():
    """Posteriors so narrow that the batch is the distribution: TC = -ln(1 - 0.9^2) / 2 = 0.83 for correlation 0.9."""
    generator = torch.Generator().manual_seed(0)
    factor = MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.9], [0.9, 1.0]])).scale_tril
    mean = torch.randn(3000, 2, generator=generator) @ factor.T
    width = torch.full_like(mean, 2 * math.log(0.15))
    latent = reparameterise(mean, width, generator)
    found = BetaTCVAE(estimator="mss")(Coded(torch.zeros(3000), latent, mean, width), 1.0, Progress(0, 3000))
    blurred = 0.9 / (1 + 0.15**2)  # the posteriors' own variance lowers the correlation
    assert found["total_correlation"].item() == pytest.approx(-0.5 * math.log(1 - blurred**2), abs=0.03)


def test_tc_asks_for_the_size_of_the_data():
    with pytest.raises(ValueError, match="number of training images"):
        BetaTCVAE()(coded(), 1.0, Progress(0, 0))


def test_shuffling_keeps_every_latents_values():
    latent = coded(images=50).latent
    torch.manual_seed(0)
    shuffled = shuffled_latents(latent)
    assert torch.equal(shuffled.sort(0).values, latent.sort(0).values)
    assert (shuffled == latent).float().mean() < 0.1
    order = [shuffled[:, column].argsort() for column in range(3)]
    assert not torch.equal(order[0], order[1])


def test_factor_vaes_two_losses_do_not_touch_each_others_weights():
    objective = FactorVAE(latent_size=3, gamma=7.0, width=8, depth=2)
    batch = coded()._replace(reconstruction=torch.zeros(16))
    latent = batch.latent.float().requires_grad_()
    batch = Coded(batch.reconstruction, latent, batch.mean.float(), batch.log_var.float())
    torch.manual_seed(0)
    found = objective(batch, 0.0, NOW)
    found["loss"].backward()
    scores = objective.discriminator(latent)
    (own,) = torch.autograd.grad(7.0 * (scores[:, 0] - scores[:, 1]).mean(), latent)
    assert torch.allclose(latent.grad, own)
    weights = list(objective.discriminator.parameters())
    got = [weight.grad.clone() for weight in weights]
    torch.manual_seed(0)
    both = objective.discriminator(torch.cat([latent.detach(), shuffled_latents(latent.detach())])).log_softmax(1)
    loss = -0.5 * (both[:16, 0].mean() + both[16:, 1].mean())  # Kim and Mnih, algorithm 2
    assert found["loss_discriminator"].item() == pytest.approx(loss.item(), rel=1e-5)
    for mine, expected in zip(got, torch.autograd.grad(loss, weights), strict=True):
        assert torch.allclose(mine, expected, atol=1e-7)


def test_a_trained_discriminator_tells_the_total_correlation():
    torch.manual_seed(0)
    objective = FactorVAE(latent_size=2, width=48, depth=2)
    optimizer = torch.optim.Adam(objective.parameters(), lr=4e-3)
    factor = MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.9], [0.9, 1.0]])).scale_tril
    estimates = []
    for _ in range(400):
        latent = torch.randn(256, 2) @ factor.T
        zeros = torch.zeros_like(latent)
        found = objective(Coded(torch.zeros(256), latent, zeros, zeros), 1.0, NOW)
        optimizer.zero_grad()
        found["loss_discriminator"].backward()
        optimizer.step()
        estimates.append(found["total_correlation"].item())
    assert sum(estimates[-150:]) / 150 == pytest.approx(0.8304, abs=0.1)


def test_the_published_discriminator():
    objective = FactorVAE(latent_size=10)
    sizes = [tuple(weight.shape) for weight in objective.parameters() if weight.ndim == 2]
    assert sizes == [(1000, 10), *[(1000, 1000)] * 5, (2, 1000)]
    assert objective.optimizer_settings() == {"lr": 1e-4, "betas": (0.5, 0.9), "weight_decay": 0.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BetaVAE(free_bits=-1.0), "objective.free_bits is in nats"),
        (lambda: Capacity(steps=0), "steps at least 1, got capacity 25.0, gamma 1000.0, steps 0"),
        (lambda: BetaTCVAE(estimator="full"), "objective.estimator is mws or mss, got 'full'"),
        (lambda: FactorVAE(latent_size=0), "sizes at least 1, got gamma 35.0, latent_size 0"),
        (lambda: FactorVAE(latent_size=5)(coded(), 1.0, NOW), "latent_size is 5, but the net has 3 latents"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_objective_has_gradients_for_the_code():
    for objective in (BetaVAE(), Capacity(), BetaTCVAE(), FactorVAE(3, width=8)):
        mean, log_var = (values.float().requires_grad_() for values in coded()[2:])
        latent = reparameterise(mean, log_var)
        objective(Coded(latent.square().sum(1), latent, mean, log_var), 1.0, NOW)["loss"].backward()
        for values in (mean, log_var):
            assert values.grad.isfinite().all()
            assert values.grad.ne(0).any()


def test_densities_and_total_correlation_of_disentanglement_libs_own_test():
    found = log_densities(torch.ones(1, 1), torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1))
    assert found.flatten().tolist() == pytest.approx([-1.41894, -0.91894], abs=1e-5)
    for latents in (1, 10):  # all posteriors the prior: (1 - L) ln M without the constants of the weights
        images, zeros = 100, torch.zeros(100, latents)
        batch = Coded(torch.zeros(images), torch.randn(images, latents), zeros, zeros)
        estimate = BetaTCVAE()(batch, 1.0, NOW)["total_correlation"].item()
        constants = (latents - 1) * math.log(images * NOW.dataset_size)
        assert estimate - constants == pytest.approx((1 - latents) * math.log(images), abs=1e-3)
