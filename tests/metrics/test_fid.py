"""Fréchet distances against their closed form."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from lightning_cv.datasets.digits import load_digit_splits
from lightning_cv.metrics.fid import fit_feature_net, frechet_distance


@pytest.fixture(autouse=True)
def one_thread():
    """The tensors are small: a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Flat(nn.Module):
    """The image's values as features."""

    def forward(self, images):
        return images.flatten(1)


def normal_images(seed, count, width, scale=1.0, shift=0.0):
    return torch.randn(count, 1, 1, width, generator=torch.Generator().manual_seed(seed)) * scale + shift


def test_one_feature_is_the_difference_of_means_and_deviations():
    real, other = normal_images(0, 400, 1), normal_images(1, 300, 1, scale=2.5, shift=3.0)
    expected = float((real.mean() - other.mean()) ** 2 + (real.std() - other.std()) ** 2)
    assert frechet_distance(real, other, Flat()) == pytest.approx(expected, rel=1e-4)


def test_several_correlated_features_are_heusels_equation():
    mixing = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -0.7], [0.3, 0.0, 0.4]])
    real, other = normal_images(0, 500, 3) @ mixing, normal_images(1, 600, 3, scale=0.7, shift=0.4) @ mixing.T
    a, b = real.flatten(1).double().numpy(), other.flatten(1).double().numpy()
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet_distance(real, other, Flat()) == pytest.approx(expected, rel=1e-4)


def test_a_set_is_no_distance_from_itself_and_batches_do_not_matter():
    real = normal_images(0, 700, 2)  # three batches
    assert frechet_distance(real, real, Flat()) == pytest.approx(0.0, abs=1e-4)
    assert frechet_distance(real, real.flip(0), Flat()) == pytest.approx(0.0, abs=1e-4)


def test_the_fitted_net_knows_digits_and_its_distance_grows_with_noise():
    splits = load_digit_splits(8)
    train, test = splits["train"], splits["test"]
    state = torch.random.get_rng_state()
    net = fit_feature_net(train.images, train.labels, "cnn_digits", steps=150)
    assert torch.equal(torch.random.get_rng_state(), state)  # the global generator is as it was
    assert net.name == "cnn_digits"
    assert net.accuracy(test.images, test.labels) > 0.9
    noise = torch.rand(test.images.shape, generator=torch.Generator().manual_seed(0))
    found = [frechet_distance(test.images, test.images + share * (noise - test.images), net) for share in (0, 0.2, 0.6)]
    assert found[0] < found[1] < found[2]
    again = fit_feature_net(train.images, train.labels, "cnn_digits", steps=150)
    assert torch.equal(net.classifier.weight, again.classifier.weight)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="two sets of images of one size"):
        frechet_distance(normal_images(0, 5, 2), normal_images(0, 5, 3), Flat())
    with pytest.raises(ValueError, match="two sets of images of one size"):
        frechet_distance(normal_images(0, 1, 2), normal_images(0, 5, 2), Flat())
    with pytest.raises(ValueError, match="two classes at least"):
        fit_feature_net(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64), "x")
