"""Disentanglement, completeness, informativeness. Letters: N images; K factors; L latents."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

from lightning_cv.metrics.disentanglement.codes import Codes, Sample

_NEVER_ZERO = 1e-11
"""Added to importances inside the entropy."""


class DCI(NamedTuple):
    """Each 0 to 1, higher is better."""

    disentanglement: float
    completeness: float
    informativeness: float


class Trees(Protocol):
    """A classifier that says how much each latent mattered."""

    feature_importances_: NDArray[np.float64]  # (L,)

    def fit(self, codes: NDArray[np.float64], classes: NDArray[np.int64]) -> object:
        """Learn classes (N,) of codes (N, L)."""
        ...

    def score(self, codes: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
        """Share of classes (N,) that are guessed."""
        ...


def dci_gbt(codes: Codes, generator: torch.Generator, train: int = 10_000, evaluation: int = 5_000) -> DCI:
    """The three scores by gradient boosted trees, 100 of depth 3 a class: minutes a factor.

    Eastwood and Williams 2018, "A framework for the quantitative evaluation of disentangled representations", with the
    trees of Locatello et al. 2019, appendix C.
    """
    learn, check = codes.sample(train, generator), codes.sample(evaluation, generator)
    return _scores(lambda: GradientBoostingClassifier(random_state=0), learn, check)


def dci_forest(codes: Codes, generator: torch.Generator, train: int = 10_000, evaluation: int = 5_000) -> DCI:
    """The three scores by random forests, 30 trees of depth 10, in seconds.

    Differs from the paper, and from `dci_gbt` in its figures: other trees give other importances. Every split may look
    at every latent: a forest's usual random choice of a few of them scores perfect codes of ten factors 0.4.
    """
    learn, check = codes.sample(train, generator), codes.sample(evaluation, generator)
    return _scores(lambda: RandomForestClassifier(30, max_depth=10, max_features=None, random_state=0), learn, check)


def disentanglement(importance: NDArray[np.floating]) -> float:
    """How far each latent matters for one factor only, from importances (L, K); a latent counts by what it matters.

    Eastwood and Williams 2018, section 2: 1 minus the entropy over factors, to the base K. Without any importance all
    are taken as equal, which scores 0.

    >>> disentanglement(5 * np.eye(3))
    1.0
    """
    if min(importance.shape) < 2:
        raise ValueError(f"DCI needs two latents and two factors that vary at least, got {importance.shape}")
    if not importance.sum():
        importance = np.ones_like(importance)
    shares = importance + _NEVER_ZERO
    shares = shares / shares.sum(axis=1, keepdims=True)
    focus = 1 + (shares * np.log(shares)).sum(axis=1) / np.log(importance.shape[1])  # (L,)
    return float(np.round((focus * importance.sum(axis=1)).sum() / importance.sum(), 9))


def completeness(importance: NDArray[np.floating]) -> float:
    """How far each factor is kept by one latent only, from importances (L, K): `disentanglement` of the transposed.

    >>> round(completeness(np.vstack([5 * np.eye(5), 5 * np.eye(5)])), 5)
    0.69897
    """
    return disentanglement(importance.T)


def _scores(trees: Callable[[], Trees], learn: Sample, check: Sample) -> DCI:
    columns, accuracies = [], []
    for factor in range(learn.factors.shape[1]):
        fitted = trees()
        fitted.fit(learn.codes, learn.factors[:, factor])
        columns.append(np.abs(fitted.feature_importances_))
        accuracies.append(fitted.score(check.codes, check.factors[:, factor]))
    importance = np.stack(columns, axis=1)  # (L, K)
    return DCI(disentanglement(importance), completeness(importance), float(np.mean(accuracies)))
