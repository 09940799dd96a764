"""The interventional robustness score. Letters: N images; K factors; L latents."""

import numpy as np
import torch

from lightning_cv.metrics.disentanglement.codes import Codes, Factors, Values


def irs(codes: Codes, generator: torch.Generator, samples: int = 10_000, quantile: float = 0.99) -> float:
    """How little latents move while the factor that each stands for stays, 0 to 1; 0 where no latent moves.

    Suter et al. 2019, "Robustly disentangled causal mechanisms", section 4 and algorithm 1, as Locatello et al. 2019
    have it: latents that do not vary are left out, the others weigh by how far they move.
    """
    factors, means = codes.sample(samples, generator)
    means = means[:, means.var(axis=0) > 0]
    if not means.size:
        return 0.0
    furthest = np.abs(means - means.mean(axis=0)).max(axis=0)  # (L,)
    moves = np.stack([_moves(means, column, quantile) for column in factors.T], axis=1)  # (L, K)
    return float(np.average((1 - moves / furthest[:, None]).max(axis=1), weights=furthest))


def _moves(means: Values, factor: Factors, quantile: float) -> Values:
    """How far each latent (L,) is from its mean while a factor (N,) has one value: a quantile, averaged over values."""
    groups = (means[factor == value] for value in np.unique(factor))
    moves = [np.quantile(np.abs(group - group.mean(axis=0)), quantile, axis=0) for group in groups]
    mean: Values = np.stack(moves).mean(axis=0)
    return mean
