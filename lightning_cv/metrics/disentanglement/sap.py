"""The separated attribute predictability score. Letters: N images; K factors; L latents."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from lightning_cv.metrics.disentanglement.codes import Codes

LEAST_VARIANCE = 1e-12
"""Below it a latent tells nothing, as in Locatello et al. 2019."""


def sap(codes: Codes, generator: torch.Generator, train: int = 10_000, evaluation: int = 5_000) -> float:
    """Mean over factors of the gap between the two latents that tell a factor's class best, 0 to 1.

    Kumar et al. 2018, "Variational inference of disentangled latent concepts from unlabeled observations", section 3,
    for factors that are classes, as Locatello et al. 2019 have it: a linear support vector machine a latent and factor,
    C = 0.01, classes weighted to equal shares, its accuracy on new images.
    """
    learn, check = codes.sample(train, generator), codes.sample(evaluation, generator)
    accuracy = np.zeros((learn.codes.shape[1], len(codes.names)))
    for latent, factor in np.ndindex(*accuracy.shape):
        machine = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
        with warnings.catch_warnings():  # as published, it stops after 1,000 rounds
            warnings.simplefilter("ignore", ConvergenceWarning)
            machine.fit(learn.codes[:, latent, None], learn.factors[:, factor])
        accuracy[latent, factor] = machine.score(check.codes[:, latent, None], check.factors[:, factor])
    return mean_top_gap(accuracy)


def sap_continuous(codes: Codes, generator: torch.Generator, samples: int = 10_000) -> float:
    """The same for factors as numbers, 0 to 1: a latent's score is its squared correlation with the factor.

    Kumar et al. 2018, section 3, equation 11, as Locatello et al. 2019 have it, on `samples` images.
    """
    factors, means = codes.sample(samples, generator)
    return mean_top_gap(squared_correlations(means, factors))


def squared_correlations(codes: NDArray[np.floating], factors: NDArray[np.number]) -> NDArray[np.float64]:
    """Squared correlations (L, K) of codes (N, L) and factors (N, K); 0 where either hardly varies."""
    code, factor = (values - values.mean(0) for values in (codes.astype(np.float64), factors.astype(np.float64)))
    spread = (code**2).mean(0)[:, None] * (factor**2).mean(0)  # (L, K)
    varies = ((code**2).mean(0)[:, None] > LEAST_VARIANCE) & (spread > 0)
    return np.where(varies, (code.T @ factor / len(code)) ** 2 / np.where(varies, spread, 1.0), 0.0)


def mean_top_gap(scores: NDArray[np.float64], assigned: Sequence[int] | None = None) -> float:
    """Mean over factors of the best minus the second best score (L, K) of a latent; a single latent's second is 0.

    Args:
        scores: (L, K).
        assigned: for nets that are told which latent is to stand for each factor: the latents (K,) whose scores are
            taken for the best, which makes the gap negative where another's is better.
    """
    if len(scores) == 1:
        scores = np.vstack([scores, np.zeros((1, scores.shape[1]))])
    factors = np.arange(scores.shape[1])
    first = scores.argmax(axis=0) if assigned is None else np.asarray(assigned)  # (K,)
    others = scores.copy()
    others[first, factors] = -np.inf
    return float((scores[first, factors] - others.max(axis=0)).mean())
