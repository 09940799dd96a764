"""The separated attribute predictability score. Letters: N images; K factors; L latents."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from lightning_cv.metrics.disentanglement.codes import Codes


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


def mean_top_gap(scores: NDArray[np.float64]) -> float:
    """Mean over factors of the best minus the second best score (L, K) of a latent; a single latent's second is 0."""
    best, second = np.sort(np.vstack([scores, np.zeros((1, scores.shape[1]))]) if len(scores) == 1 else scores, 0)[
        ::-1
    ][:2]
    return float((best - second).mean())
