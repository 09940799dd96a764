import numpy as np
import pytest
import torch
from identity_factors import Identity, all_zero, as_they_are, codes, seeded

from lightning_cv.contracts import Posterior
from lightning_cv.metrics.disentanglement.codes import Codes, GroundTruth


def test_every_image_is_encoded_once_and_gets_its_own_code():
    truth = Identity(factors=2, size=4)
    seen = Codes(truth, lambda images: Posterior(images * 10, None), batch_size=3)
    for seed in (0, 1):
        factors, means = seen.sample(200, seeded(seed))
        assert np.array_equal(means, 10 * (factors + 1))
    assert truth.asked == seen.encoded == 16


def test_images_are_drawn_evenly_from_a_generator_of_their_own():
    state = torch.get_rng_state()
    seen = codes(as_they_are, factors=2, size=5)
    factors = seen.draw(50_000, seeded(3))
    shares = np.array([np.bincount(column, minlength=5) / 50_000 for column in factors.T])
    assert np.abs(shares - 0.2).max() < 0.01
    assert np.array_equal(factors, seen.draw(50_000, seeded(3)))
    assert not np.array_equal(factors, seen.draw(50_000, seeded(4)))
    assert torch.equal(state, torch.get_rng_state())


def test_a_grid_too_large_to_be_kept_is_encoded_as_it_is_asked_for():
    seen = codes(as_they_are, factors=10, size=10)
    factors, means = seen.sample(100, seeded())
    assert np.array_equal(means, factors + 1)
    assert np.array_equal(seen.means(factors), means)
    assert seen.encoded == 200


def test_factors_that_are_held_fixed_are_left_out():
    truth = Identity(factors=3, size=4)
    truth.factor_sizes = (4, 1, 4)
    seen = Codes(truth, as_they_are)
    assert seen.names == ("f0", "f2")
    factors, means = seen.sample(50, seeded())
    assert factors.shape == (50, 2)
    assert (means[:, 1] == 1).all()
    truth.factor_sizes = (1, 1, 1)
    with pytest.raises(ValueError, match="none of the factors f0, f1, f2 varies"):
        Codes(truth, as_they_are)


def test_inactive_latents_are_those_whose_mean_hardly_varies():
    scale = torch.tensor([1.0, 0.07, 0.09, 0.0])  # of values 1 to 4, whose variance is 1.25: 0.0061 and 0.0101
    seen = codes(lambda images: Posterior(images * scale, None), factors=4, size=4)
    assert seen.active(seeded()).tolist() == [True, False, True, False]
    zeroed = seen.with_inactive_at_zero(seeded())
    means = zeroed.sample(100, seeded(1)).codes
    assert (means[:, [1, 3]] == 0).all()
    assert (means[:, [0, 2]] == seen.sample(100, seeded(1)).codes[:, [0, 2]]).all()
    assert seen.encoded == zeroed.encoded == 256


def test_variances_are_kept_where_there_are_any():
    seen = codes(lambda images: Posterior(images, images - 7), factors=2, size=3)
    means, log_vars = seen.posteriors(np.array([[0, 2], [1, 1]]))
    assert means.tolist() == [[1, 3], [2, 2]]
    assert log_vars.tolist() == [[-6, -4], [-5, -5]]
    with pytest.raises(ValueError, match="need an encoder that gives a variance"):
        codes(as_they_are, factors=2, size=3).posteriors(np.array([[0, 2]]))


def test_bad_codes_are_refused():
    for bad in (lambda images: images.sum(), lambda images: images[:1], lambda images: images * float("nan")):
        seen = codes(lambda images, bad=bad: Posterior(bad(images), None), factors=2, size=3)
        with pytest.raises(ValueError, match="must be finite numbers"):
            seen.sample(10, seeded())


def test_what_counts_as_ground_truth():
    assert isinstance(Identity(), GroundTruth)
    assert not isinstance(all_zero, GroundTruth)
