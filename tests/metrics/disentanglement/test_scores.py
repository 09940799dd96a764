"""Metrics on representations whose worth is known: the cases of disentanglement_lib's own tests, and by hand."""

import math

import numpy as np
import pytest
import torch
from identity_factors import all_zero, as_they_are, codes, seeded, shuffled, twice

from lightning_cv.contracts import Posterior
from lightning_cv.metrics.disentanglement.beta_vae import beta_vae_score
from lightning_cv.metrics.disentanglement.dci import completeness, dci_forest, dci_gbt, disentanglement
from lightning_cv.metrics.disentanglement.factor_vae import factor_vae_score
from lightning_cv.metrics.disentanglement.irs import irs
from lightning_cv.metrics.disentanglement.mig import information_gaps, mig_chen, mig_dlib, mixture_entropy
from lightning_cv.metrics.disentanglement.modularity import explicitness, modularity, modularity_of
from lightning_cv.metrics.disentanglement.sap import mean_top_gap, sap, sap_continuous, squared_correlations
from lightning_cv.metrics.disentanglement.scores import SCORES, Counts, over_seeds, score

FIVES = 5 * np.eye(5)
SPARE = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])


# --- MIG


@pytest.mark.parametrize(("encode", "least", "most"), [(as_they_are, 0.9, 1), (all_zero, 0, 0.2), (twice, 0, 0.1)])
def test_mig_of_known_codes(encode, least, most):
    found = mig_dlib(codes(encode), seeded(), train=3000)
    assert least <= found.score <= most
    assert found.score == pytest.approx(np.mean(list(found.per_factor.values())))
    assert list(found.per_factor) == [f"f{k}" for k in range(10)]


def test_gaps_by_hand():
    information = np.array([[0.5, 0.0], [0.2, 0.3], [0.4, 0.3]])
    assert information_gaps(information, np.array([1.0, 0.5])) == pytest.approx([0.1, 0.0])
    assert information_gaps(np.array([[0.5, 0.1]]), np.array([1.0, 0.5])) == pytest.approx([0.5, 0.2])


def test_chens_gap_of_codes_that_keep_a_factor_each():
    def narrow(images):
        return Posterior(images, torch.full_like(images, -8.0))

    found = mig_chen(codes(narrow, factors=2, size=6), seeded(), images=256, draws=1024)
    assert found.score == pytest.approx(1.0, abs=0.04)
    assert set(mig_chen(codes(narrow, factors=2, size=6), seeded(), draws=9, without=("f0",)).per_factor) == {"f1"}
    blind = codes(lambda images: Posterior(0 * images, 0 * images), factors=2, size=6)
    noise = mig_chen(blind, seeded(), images=128, draws=8192)
    assert noise.score < 0.02  # the means are constant: a draw from the posterior tells nothing
    with pytest.raises(ValueError, match="no factor that varies is left of f0, f1"):
        mig_chen(codes(narrow, factors=2, size=6), seeded(), without=("f0", "f1"))


def test_chens_gap_of_a_binary_channel():
    """One latent with means 0 and 1 and unit variance: the information is h(mixture) - h(N(0, 1))."""

    def wide(images):
        return Posterior(images[:, :1], torch.zeros(len(images), 1))

    found = mig_chen(codes(wide, factors=2, size=2), seeded(), images=256, draws=20_000, without=("f1",))
    z = np.linspace(-12, 14, 200_001)
    mixture = (np.exp(-(z**2) / 2) + np.exp(-((z - 1) ** 2) / 2)) / 2 / math.sqrt(2 * math.pi)
    information = -(mixture * np.log(mixture)).sum() * (z[1] - z[0]) - 0.5 * math.log(2 * math.pi * math.e)
    assert found.score == pytest.approx(information / math.log(2), abs=0.02)


def test_entropy_of_a_mixture():
    log_vars = torch.tensor([[-3.0, 2.0]]).expand(100, 2)
    alone = mixture_entropy(torch.zeros(100, 2), log_vars, 20_000, seeded())
    assert alone.tolist() == pytest.approx([0.5 * (math.log(2 * math.pi * math.e) + v) for v in (-3, 2)], abs=0.02)
    apart = mixture_entropy(torch.tensor([[0.0], [1e3]]), torch.zeros(2, 1), 20_000, seeded())
    assert apart.item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e) + math.log(2), abs=0.02)


# --- SAP


def test_sap_of_classes():
    for encode, least, most in ((as_they_are, 0.45, 0.55), (all_zero, 0.0, 0.0), (twice, 0.0, 0.01)):
        assert least <= sap(codes(encode, factors=2, size=2), seeded(), 400, 200) <= most


def test_the_gap_of_the_best_two_by_hand():
    assert mean_top_gap(np.array([[4.0], [3.0], [1.0], [9.0]])) == 5.0
    assert mean_top_gap(np.array([[0.7]])) == pytest.approx(0.7)
    assert mean_top_gap(np.array([[4.0], [3.0], [1.0], [9.0]]), assigned=[3]) == 5.0
    assert mean_top_gap(np.array([[4.0], [3.0], [1.0], [9.0]]), assigned=[0]) == -5.0


@pytest.mark.parametrize(("encode", "least", "most"), [(as_they_are, 0.9, 1), (all_zero, 0, 0), (twice, 0, 0.2)])
def test_sap_of_numbers(encode, least, most):
    assert least <= sap_continuous(codes(encode), seeded(), 3000) <= most


def test_squared_correlations_by_hand():
    """The cases of latte's own test: a latent that is the factor, and one that flips with every value of it."""
    factor = np.arange(16)[:, None]
    found = squared_correlations(np.hstack([factor, factor % 2, 0 * factor, 1e-7 * factor]), factor)
    assert found[:, 0] == pytest.approx([1.0, 1 - 0.988235294, 0.0, 0.0])
    assert mean_top_gap(found, [0]) == pytest.approx(0.988235294)
    assert mean_top_gap(np.array([found[0], found[2]]), [0]) == pytest.approx(1.0)


# --- DCI


@pytest.mark.parametrize(
    ("importance", "apart", "whole"),
    [
        (FIVES, 1, 1),
        (SPARE, 1, 1),
        (np.zeros((10, 10)), 0, 0),
        (np.vstack([FIVES, FIVES]), 1, 1 - math.log(2) / math.log(10)),
        (FIVES[:2], 1, 1),
        (np.hstack([FIVES, FIVES]), 1 - math.log(2) / math.log(10), 1),
    ],
)
def test_disentanglement_and_completeness_by_hand(importance, apart, whole):
    assert disentanglement(importance) == pytest.approx(apart, abs=1e-6)
    assert completeness(importance) == pytest.approx(whole, abs=1e-6)


def test_a_latent_counts_by_what_it_matters():
    importance = np.array([[3.0, 0.0], [0.5, 0.5]])
    assert disentanglement(importance) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="two latents and two factors"):
        disentanglement(np.ones((1, 3)))


@pytest.mark.parametrize("dci", [dci_forest, pytest.param(dci_gbt, marks=pytest.mark.slow)])
def test_dci_of_known_codes(dci):
    exact = dci(codes(as_they_are), seeded(), 1000, 1000)
    assert exact.disentanglement >= 0.9
    assert exact.completeness >= 0.9
    assert exact.informativeness >= 0.9
    mixed = dci(codes(shuffled), seeded(), 1000, 1000)
    assert mixed.disentanglement <= 0.2
    assert mixed.completeness <= 0.2
    doubled = dci(codes(twice), seeded(), 1000, 1000)
    assert doubled.disentanglement >= 0.9
    assert doubled.completeness == pytest.approx(1 - math.log(2) / math.log(20), abs=0.1)


# --- modularity, explicitness


@pytest.mark.parametrize(
    ("information", "expected"),
    [
        (FIVES, 1),
        (SPARE, 2 / 3),
        (np.zeros((10, 10)), 0),
        (np.vstack([FIVES, FIVES]), 1),
        (FIVES[:2], 1),
        (np.hstack([FIVES, FIVES]), 1 - 1 / 9),
    ],
)
def test_modularity_by_hand(information, expected):
    assert modularity_of(information) == pytest.approx(expected)


def test_modularity_of_known_codes():
    assert modularity(codes(as_they_are), seeded(), 5000) > 0.99
    assert modularity(codes(shuffled), seeded(), 20_000) <= 0.2
    with pytest.raises(ValueError, match="two factors"):
        modularity_of(np.ones((3, 1)))


def test_collapsed_latents_count_until_they_are_set_to_zero():
    """A mean that moves by a millionth with its factor tells all of it, over its own range."""

    def collapsed(images):
        return Posterior(images * torch.tensor([1.0, 1e-6]), None)

    seen = codes(collapsed, factors=2, size=8)
    zeroed = seen.with_inactive_at_zero(seeded())
    assert mig_dlib(seen, seeded()).score > 0.99
    assert mig_dlib(zeroed, seeded()).per_factor == pytest.approx({"f0": 1.0, "f1": 0.0}, abs=0.01)
    assert modularity(zeroed, seeded()) == pytest.approx(modularity(seen, seeded()) / 2, abs=0.01)


def test_explicitness():
    seen = codes(lambda images: Posterior(torch.nn.functional.one_hot(images.long()).flatten(1).float(), None),
                 factors=2, size=4)  # fmt: skip
    assert explicitness(seen, seeded(), 400, 200) == pytest.approx(1.0)
    assert explicitness(codes(all_zero, factors=2, size=4), seeded(), 400, 200) == 0.5


# --- IRS


def test_irs_of_known_codes():
    assert irs(codes(as_they_are), seeded(), 3000) >= 0.9
    assert irs(codes(all_zero), seeded(), 3000) == 0.0


def test_irs_by_hand():
    """a + b/2 of two bits: with a held, the latent moves by 1/4; over all by 3/4. It weighs 3/4, and b, alone, 1/2."""

    def mixed(images):
        return Posterior(images @ torch.tensor([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0]]), None)

    expected = (0.75 * 2 / 3 + 0.5 * 1) / (0.75 + 0.5)
    assert irs(codes(mixed, factors=2, size=2), seeded(), 20_000) == pytest.approx(expected, abs=0.01)


# --- votes and points


def test_factor_vae_score_of_known_codes():
    assert factor_vae_score(codes(as_they_are), seeded(), 3000, 2000, 5, variance_samples=2500) >= 0.9
    assert factor_vae_score(codes(all_zero), seeded(), 3000, 2000, 5, variance_samples=2500) == 0.0
    assert factor_vae_score(codes(shuffled), seeded(), 3000, 2000, 5, variance_samples=2500) < 0.3


def test_factor_vae_ignores_latents_that_hardly_vary():
    """The third latent is constant but for a hair: kept, it would win every vote."""

    def with_hair(images):
        return Posterior(torch.cat([images, 1e-3 * images[:, :1] * images[:, 1:]], dim=1), None)

    assert factor_vae_score(codes(with_hair, factors=2, size=8), seeded(), 500, 500, 8) > 0.95


def test_beta_vae_score_of_known_codes():
    assert beta_vae_score(codes(as_they_are), seeded(), 2000, 2000, 5) >= 0.9
    assert beta_vae_score(codes(all_zero), seeded(), 500, 500, 5) < 0.2


# --- all by name


def test_every_metric_by_name():
    def some(images):
        return Posterior(images, torch.full_like(images, -6.0))

    counts = Counts(train=300, evaluation=150, batch=6)
    seen = codes(some, factors=2, size=3)
    found = {}
    for name in SCORES:
        figures = score(name, seen, 0, counts)
        assert any(key.startswith(name) for key in figures)
        assert figures == score(name, seen, 0, counts), "the same seed, the same figures"
        assert not set(figures) & set(found)
        found |= figures
    assert all(0 <= value <= (1.1 if key.startswith("mig_chen") else 1) for key, value in found.items())  # an estimate
    assert {"mig_dlib", "mig_dlib_f0", "mig_dlib_active", "modularity_active", "dci_gbt_completeness"} <= set(found)
    assert seen.encoded == 9


def test_spread_over_seeds():
    spread = over_seeds(lambda seed: {"a": float(seed), "b": 1.0}, [1, 2, 6])
    assert spread["a"] == pytest.approx((3.0, math.sqrt(7)))
    assert spread["b"] == (1.0, 0.0)
    alone = over_seeds(lambda seed: {"a": 2.0}, [5])["a"]
    assert alone.mean == 2.0
    assert math.isnan(alone.std)
    for bad in ([], [1, 1]):
        with pytest.raises(ValueError, match="different numbers, one at least"):
            over_seeds(lambda seed: {}, bad)
