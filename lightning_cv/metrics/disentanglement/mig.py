"""The mutual information gap, in the two definitions in use. Letters: N images; S draws; K factors; L latents."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.metrics.disentanglement.codes import Codes
from lightning_cv.metrics.disentanglement.information import discretise, entropy, mutual_information


class InformationGap(NamedTuple):
    """0 to 1, higher is better: the mean over factors, and the gap of each."""

    score: float
    per_factor: dict[str, float]


def mig_dlib(codes: Codes, generator: torch.Generator, train: int = 10_000) -> InformationGap:
    """The gap of posterior means cut into 20 bins, over all factors that vary.

    Locatello et al. 2019, "Challenging common assumptions in the unsupervised learning of disentangled
    representations", appendix C. Differs from Chen et al. 2018: means in place of samples, bins in place of densities,
    and on dSprites the shape is one of the factors.
    """
    factors, means = codes.sample(train, generator)
    information = mutual_information(discretise(means), factors)
    return _named(codes.names, information_gaps(information, entropy(factors)))


def mig_chen(
    codes: Codes, generator: torch.Generator, images: int = 2048, draws: int = 1024, without: Sequence[str] = ("shape",)
) -> InformationGap:
    """The gap of sampled codes under the aggregate posterior q(z), over the factors but those named in `without`.

    Chen et al. 2018, "Isolating sources of disentanglement in VAEs", equation 6 and appendix C: dSprites' shape is left
    out. Differs from the paper: each of the mixtures q(z_j) and q(z_j|v_k) is of `images` drawn with replacement rather
    than of all of them, and its entropy comes from `draws` samples rather than 10,000.
    """
    chosen = [k for k, name in enumerate(codes.names) if name not in without]
    if not chosen:
        raise ValueError(f"mig_chen: no factor that varies is left of {', '.join(codes.names)}")
    marginal = mixture_entropy(*codes.posteriors(codes.draw(images, generator)), draws, generator)  # (L,)
    information = []
    for factor in chosen:
        conditional = torch.zeros_like(marginal)
        for value in range(codes.sizes[factor]):
            factors = codes.draw(images, generator)
            factors[:, factor] = value
            conditional += mixture_entropy(*codes.posteriors(factors), draws, generator) / codes.sizes[factor]
        information.append((marginal - conditional).clamp_min(0))
    entropies = np.array([math.log(codes.sizes[k]) for k in chosen])
    return _named([codes.names[k] for k in chosen], information_gaps(torch.stack(information, 1).numpy(), entropies))


def information_gaps(information: NDArray[np.floating], entropies: NDArray[np.floating]) -> NDArray[np.float64]:
    """Gap (K,) between the two latents that know most of a factor, as a share of its entropy (K,), in nats.

    Args:
        information: mutual information (L, K); with a single latent, the second knows nothing.
        entropies: of the factors, each above 0.

    >>> information_gaps(np.array([[0.6, 0.1], [0.2, 0.1]]), np.array([0.8, 0.5])).round(6).tolist()
    [0.5, 0.0]
    """
    best, second = np.sort(np.vstack([information, np.zeros((1, information.shape[1]))]), axis=0)[::-1][:2]
    return np.asarray((best - second) / entropies, np.float64)


def mixture_entropy(means: Tensor, log_vars: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Entropy (L,) in nats of each latent's mixture of N Gaussians, (N, L) each, from `draws` samples of it."""
    drawn = torch.randint(len(means), (draws,), generator=generator)
    noise = torch.randn(draws, means.shape[1], generator=generator)
    samples = means[drawn] + torch.exp(0.5 * log_vars[drawn]) * noise  # (S, L)
    precision, offset = torch.exp(-0.5 * log_vars), 0.5 * log_vars + 0.5 * math.log(2 * math.pi)
    columns = zip(samples.T, means.T, precision.T, offset.T, strict=True)
    densities = [_mean_log_density(*(column.contiguous() for column in one)) for one in columns]
    return math.log(len(means)) - torch.stack(densities)


def _mean_log_density(samples: Tensor, means: Tensor, precision: Tensor, offset: Tensor) -> Tensor:
    """Mean over S samples of the log of the sum of N densities; each sample has a component near it, so none is 0."""
    logs = [  # 64 samples at once: what is computed in place stays in the cache
        (part[:, None] - means).mul_(precision).square_().mul_(-0.5).sub_(offset).exp_().sum(dim=1).log()
        for part in torch.split(samples, 64)
    ]
    return torch.cat(logs).mean()


def _named(names: Sequence[str], gaps: NDArray[np.float64]) -> InformationGap:
    return InformationGap(float(gaps.mean()), dict(zip(names, gaps.tolist(), strict=True)))
