import math

import pytest
import torch

from lightning_cv.metrics.likelihood import LikelihoodMeans, active_units, bits_per_dim


def ids(start, number):
    return [f"{index:05}" for index in range(start, start + number)]


def terms(mean, kl_per_dim, reconstruction):
    kl = kl_per_dim.sum(1)
    return {"mean": mean, "kl_per_dim": kl_per_dim, "kl": kl, "reconstruction": reconstruction,
            "elbo": -(reconstruction + kl)}  # fmt: skip


def test_means_are_exact_for_a_short_last_batch():
    metric = LikelihoodMeans(1)
    values = torch.arange(5.0)
    for start, batch in ((0, values[:4]), (4, values[4:])):
        metric.update(terms(batch[:, None], batch[:, None], 2 * batch), ids(start, len(batch)), 8)
    likelihood = metric.compute()
    assert likelihood.kl == 2.0  # (0 + 1 + 2 + 3 + 4) / 5, where the mean of batch means is 2.75
    assert likelihood.reconstruction == 4.0
    assert likelihood.elbo == -6.0
    assert likelihood.kl_per_dim == 2.0
    assert likelihood.bits_per_dim == pytest.approx(6 / math.log(2) / 8)


def test_active_units_look_at_the_variance_of_the_means():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(4000, 4, generator=generator) * torch.tensor([1.0, 0.11, 0.09, 0.0]) + torch.tensor(
        [0, 0, 0, 9.0]
    )
    metric = LikelihoodMeans(4)
    for number, batch in enumerate(means.split(333)):
        nothing = torch.zeros(len(batch))
        metric.update(terms(batch, torch.zeros_like(batch), nothing), ids(333 * number, len(batch)), 1)
    assert metric.compute().active_units == 2
    assert active_units(means.double().var(0, correction=0)) == 2


def test_empty_and_bad_input():
    metric = LikelihoodMeans(3)
    with pytest.warns(UserWarning, match="compute"):
        assert metric.compute().elbo.isnan()
    with pytest.raises(ValueError, match="lack \\['elbo', 'kl', 'kl_per_dim', 'reconstruction'\\]"):
        metric.update({"mean": torch.zeros(2, 3)}, ids(0, 2), 1)
    with pytest.raises(ValueError, match="expected 3 latents"):
        metric.update(terms(torch.zeros(2, 4), torch.zeros(2, 4), torch.zeros(2)), ids(0, 2), 1)


def test_bits_per_dim():
    assert bits_per_dim(math.log(2) * 28 * 28, 28 * 28) == pytest.approx(1.0)


def test_terms_that_differ_between_images_are_told():
    metric = LikelihoodMeans(1)
    one = torch.ones(1, 1)
    metric.update(terms(one, one, one[0]), ids(0, 1), 1)
    metric.update(terms(one, one, one[0]) | {"iwae_64": one[0]}, ids(1, 1), 1)
    with pytest.raises(ValueError, match="the terms differ between images"):
        metric.compute()
