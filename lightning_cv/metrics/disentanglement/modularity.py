"""Modularity and explicitness. Letters: N images; K factors; L latents."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from lightning_cv.metrics.disentanglement.codes import Codes
from lightning_cv.metrics.disentanglement.information import discretise, mutual_information


def modularity(codes: Codes, generator: torch.Generator, train: int = 10_000) -> float:
    """Mean over latents of how far each tells of one factor only, 0 to 1, from means cut into 20 bins.

    Ridgeway and Mozer 2018, "Learning deep disentangled embeddings with the f-statistic loss", section 2, as Locatello
    et al. 2019 have it. A collapsed latent counts as any other: see `Codes.with_inactive_at_zero`.
    """
    factors, means = codes.sample(train, generator)
    return modularity_of(mutual_information(discretise(means), factors))


def modularity_of(information: NDArray[np.floating]) -> float:
    """Modularity of mutual information (L, K) in nats; a latent that tells nothing of any factor counts as 0.

    >>> round(modularity_of(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])), 4)
    0.6667
    """
    if information.shape[1] < 2:
        raise ValueError("modularity needs two factors that vary at least")
    squares = information**2
    most = squares.max(axis=1)  # (L,)
    spread = (squares.sum(axis=1) - most) / (np.where(most > 0, most, 1.0) * (information.shape[1] - 1))
    return float(np.where(most > 0, 1 - spread, 0.0).mean())


def explicitness(codes: Codes, generator: torch.Generator, train: int = 10_000, evaluation: int = 5_000) -> float:
    """Mean over factors and their values of the area under the ROC curve of logistic regression on standardised codes.

    Ridgeway and Mozer 2018, section 2. Differs from the paper, as in Locatello et al. 2019: one regression for all
    values of a factor; the area, 0.5 for a guess and 1 at best, is not rescaled; it is that of new images. A value that
    no new image has is left out.
    """
    learn, check = codes.sample(train, generator), codes.sample(evaluation, generator)
    mean, spread = learn.codes.mean(axis=0), learn.codes.std(axis=0)
    scaled = [(part.codes - mean) / np.where(spread > 0, spread, 1.0) for part in (learn, check)]
    areas = []
    for factor in range(len(codes.names)):
        regression = LogisticRegression(random_state=0)
        with warnings.catch_warnings():  # as published, it stops after 100 rounds
            warnings.simplefilter("ignore", ConvergenceWarning)
            regression.fit(scaled[0], learn.factors[:, factor])
        areas.append(_mean_area(check.factors[:, factor], regression.predict_proba(scaled[1]), regression.classes_))
    return float(np.mean(areas))


def _mean_area(truth: NDArray[np.int64], probabilities: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    """Mean area of the classes that some but not all images (N,) have, from probabilities (N, classes)."""
    hits = truth[:, None] == classes  # (N, classes)
    told = hits.any(axis=0) & ~hits.all(axis=0)
    areas = [roc_auc_score(hits[:, c], probabilities[:, c]) for c in np.flatnonzero(told)]
    return float(np.mean(areas)) if areas else 0.5
