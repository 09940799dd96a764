"""The FactorVAE score. Letters: V votes; N images of a vote; K factors; L latents."""

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_cv.metrics.disentanglement.codes import Codes

_VOTES_AT_ONCE = 500


def factor_vae_score(
    codes: Codes,
    generator: torch.Generator,
    train: int = 10_000,
    evaluation: int = 5_000,
    batch: int = 64,
    variance_samples: int = 10_000,
    least_std: float = 0.05,
) -> float:
    """Share of votes that a majority vote classifies right, 0 to 1; 0 where no latent varies.

    Kim and Mnih 2018, "Disentangling by factorising", section 4: a vote is the latent that varies least, relative to
    its variance over the data, among `batch` images that share the value of one factor; the factor is to be guessed
    from it. Differs from the paper, as in Locatello et al. 2019: learnt from `train` votes and scored on `evaluation`
    others; latents left out are those whose standard deviation over the data is below `least_std`, not those with a
    small KL.
    """
    variances = codes.sample(variance_samples, generator).codes.var(axis=0, ddof=1)  # (L,)
    kept = np.flatnonzero(np.sqrt(variances) >= least_std)
    if not len(kept):
        return 0.0
    learnt = _votes(codes, generator, train, batch, variances, kept)
    right = _votes(codes, generator, evaluation, batch, variances, kept)
    factors = learnt.argmax(axis=0)  # (L,): the factor that a latent stands for
    return float(right[factors, np.arange(right.shape[1])].sum() / evaluation)


def _votes(
    codes: Codes,
    generator: torch.Generator,
    count: int,
    batch: int,
    variances: NDArray[np.float64],
    kept: NDArray[np.int64],
) -> NDArray[np.int64]:
    """How often each of the latents kept was the vote while each factor was shared, (K, latents kept)."""
    votes = np.zeros((len(codes.names), len(kept)), np.int64)
    for start in range(0, count, _VOTES_AT_ONCE):
        size = min(_VOTES_AT_ONCE, count - start)
        shared = torch.randint(len(codes.names), (size,), generator=generator).numpy()  # (V,)
        factors = codes.draw(size * batch, generator).reshape(size, batch, -1)  # (V, N, K)
        each = np.arange(size)
        factors[each, :, shared] = factors[each, :1, shared]
        means = codes.means(factors.reshape(size * batch, -1)).reshape(size, batch, -1)[:, :, kept]
        latents = (means.var(axis=1, ddof=1) / variances[kept]).argmin(axis=1)  # (V,)
        np.add.at(votes, (shared, latents), 1)
    return votes
