import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from lightning_cv.metrics.disentanglement.information import discretise, entropy, mutual_information


def test_bins_of_equal_width():
    # disentanglement_lib, evaluation/metrics/utils_test.py
    rising = np.linspace(0.1, 0.6, 6)
    codes = np.stack([rising, rising[::-1]], axis=1)
    bins = discretise(codes, bins=3)
    assert bins.T.tolist() == [[1, 1, 2, 2, 3, 3], [3, 3, 2, 2, 1, 1]]
    assert entropy(bins) == pytest.approx([math.log(3)] * 2)
    assert discretise(np.full((4, 1), 7.0)).tolist() == [[discretise(np.full((1, 1), 7.0)).item()]] * 4


def test_information_by_hand():
    # disentanglement_lib, evaluation/metrics/utils_test.py
    first, second = np.array([[1, 2, 1, 2], [1, 1, 2, 2]]).T, np.array([[1, 2, 1, 2], [2, 2, 1, 1]]).T
    assert mutual_information(first, second) == pytest.approx(np.log(2) * np.eye(2))


def test_information_as_scikit_learn_has_it():
    numbers = np.random.default_rng(0)
    codes = numbers.integers(-3, 30, (500, 3))
    factors = np.stack([codes[:, 0] // 4, numbers.integers(0, 9, 500)], axis=1)
    theirs = [[mutual_info_score(one, other) for other in factors.T] for one in codes.T]
    assert mutual_information(codes, factors) == pytest.approx(np.array(theirs), abs=1e-12)
    assert entropy(factors) == pytest.approx([mutual_info_score(column, column) for column in factors.T], abs=1e-12)


def test_one_sample_tells_nothing():
    assert mutual_information(np.array([[3]]), np.array([[5]])).tolist() == [[0.0]]
    assert entropy(np.array([[3]])).tolist() == [0.0]
