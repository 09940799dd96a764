"""Information between discrete variables, in nats. Letters: N samples; K factors; L latents; V values of a variable."""

import numpy as np
from numpy.typing import NDArray


def discretise(codes: NDArray[np.floating], bins: int = 20) -> NDArray[np.int64]:
    """Bin numbers (N, L), 1 to `bins`, of codes (N, L): equal widths over the range of each latent.

    Locatello et al. 2019, appendix C. A latent that does not vary falls into one bin.

    >>> discretise(np.array([[0.0], [0.4], [1.0]]), bins=2).T
    array([[1, 1, 2]])
    """
    columns = [np.digitize(column, np.histogram_bin_edges(column, bins)[:-1]) for column in codes.T]
    return np.stack(columns, axis=1).astype(np.int64)


def mutual_information(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mutual information (L, K) of every column of (N, L) with every column of (N, K), of the samples as they are.

    Cover and Thomas 2006, "Elements of information theory", equation 2.28.
    """
    return np.array([[_information(one, other) for other in second.T] for one in first.T])


def entropy(values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Entropy (K,) of every column of (N, K)."""
    return np.array([_entropy(np.unique(column, return_counts=True)[1]) for column in values.T])


def _information(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    (a, first), (b, second) = (np.unique(values, return_inverse=True) for values in (one, other))
    joint = np.bincount(first * len(b) + second, minlength=len(a) * len(b)).reshape(len(a), len(b))  # (V, V)
    return max(0.0, _entropy(joint.sum(0)) + _entropy(joint.sum(1)) - _entropy(joint.ravel()))


def _entropy(counts: NDArray[np.int64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
