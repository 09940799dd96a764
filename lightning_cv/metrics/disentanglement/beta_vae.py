"""The beta-VAE score. Letters: P points; N pairs of a point; K factors; L latents."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from lightning_cv.metrics.disentanglement.codes import Codes

_POINTS_AT_ONCE = 500


def beta_vae_score(
    codes: Codes, generator: torch.Generator, train: int = 10_000, evaluation: int = 5_000, batch: int = 64
) -> float:
    """Share of points whose factor a linear classifier tells, 0 to 1.

    Higgins et al. 2017, "beta-VAE", section 3: a point is the mean absolute difference of the codes of `batch` pairs,
    the two images of a pair sharing the value of one factor, which is to be guessed. Differs from the paper, as in
    Locatello et al. 2019: logistic regression, and these numbers of points. It saturates: a beta of 1 may score as a
    beta of 4 does, so it is not to be read alone.
    """
    points, factors = _points(codes, generator, train, batch)
    regression = LogisticRegression(random_state=0)
    with warnings.catch_warnings():  # as published, it stops after 100 rounds
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(points, factors)
    return float(regression.score(*_points(codes, generator, evaluation, batch)))


def _points(
    codes: Codes, generator: torch.Generator, count: int, batch: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points (P, L) and the factor (P,) that the pairs of each share."""
    points, chosen = [], []
    for start in range(0, count, _POINTS_AT_ONCE):
        size = min(_POINTS_AT_ONCE, count - start)
        shared = torch.randint(len(codes.names), (size,), generator=generator).numpy()  # (P,)
        first, second = codes.draw(size * batch, generator), codes.draw(size * batch, generator)  # (P * N, K)
        pairs, column = np.arange(size * batch), shared.repeat(batch)
        second[pairs, column] = first[pairs, column]
        apart = np.abs(codes.means(first) - codes.means(second))  # (P * N, L)
        points.append(apart.reshape(size, batch, -1).mean(axis=1))
        chosen.append(shared)
    return np.concatenate(points), np.concatenate(chosen)
