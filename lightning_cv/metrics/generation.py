"""Whether random codes are codes that the decoder knows. Letters: N codes; M draws; L latent size; P pairs; T steps."""

from typing import NamedTuple

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

INSIDE = 0.99
"""Share of the codes themselves that are to count as inside."""

CHUNK = 1024
"""Draws whose distances to all codes are in memory at a time."""


class CodeFigures(NamedTuple):
    """How the codes of a data set lie to the prior N(0, 1)."""

    holes: float  # share of prior draws that lie where no code is near; 0.01 where draws are like codes
    unreached: float  # share of codes that lie where no prior draw is near; 0.01 where codes are like draws
    prior_kl: float  # nats: of the Gaussian with the codes' mean and covariance from the prior
    irregularity: float  # of interpolations: the largest step in units of the mean step; 1 is even


def hole_share(codes: Tensor, draws: Tensor) -> float:
    """Share of the draws (M, L) that lie farther from every code (N, L) than codes lie from each other, 0 to 1.

    One half of the codes, every other one, is the reference. Farther means: than 99 % of the other half's codes lie
    from their nearest reference. So draws from the codes' own distribution score 0.01, and a prior that the decoder
    has never seen anything of scores 1. Codes that are spread much wider than the prior leave it few holes; then the
    share with the roles exchanged, of codes that no draw comes near, is close to 1. Own definition.
    """
    if len(codes) < 4 or codes.ndim != 2 or draws.shape[1:] != codes.shape[1:] or not len(draws):
        raise ValueError(
            f"need at least 4 codes (N, L) and draws (M, L), got {tuple(codes.shape)} and {tuple(draws.shape)}"
        )
    reference, held_out = codes[0::2], codes[1::2]
    limit = nearest_distance(held_out, reference).quantile(INSIDE)
    return float((nearest_distance(draws, reference) > limit).double().mean())


def nearest_distance(points: Tensor, references: Tensor) -> Tensor:
    """Euclidean distance of each point (M, L) from the nearest reference (N, L), float64 (M,)."""
    references = references.double()
    return torch.cat([torch.cdist(part.double(), references).min(dim=1).values for part in torch.split(points, CHUNK)])


def gaussian_kl(codes: Tensor) -> float:
    """KL in nats of the Gaussian with the mean and covariance of codes (N, L) from N(0, 1), in closed form.

    Infinite for codes that fill fewer than L dimensions.
    """
    if len(codes) <= codes.shape[1]:
        raise ValueError(f"{len(codes)} codes are too few for a covariance of {codes.shape[1]} latents")
    mean, covariance = _moments(codes)
    divergence = 0.5 * (covariance.trace() + mean.square().sum() - len(mean) - torch.logdet(covariance))
    return float(divergence.nan_to_num(nan=torch.inf, posinf=torch.inf))


def interpolate(starts: Tensor, ends: Tensor, steps: int) -> Tensor:
    """Codes on the straight lines from starts (P, L) to ends, both included: (P, T, L)."""
    if steps < 2 or starts.shape != ends.shape:
        raise ValueError(f"2 steps at least between as many ends as starts, got {steps}, {starts.shape}, {ends.shape}")
    weights = torch.linspace(0, 1, steps, dtype=starts.dtype, device=starts.device)[None, :, None]
    return torch.lerp(starts[:, None], ends[:, None], weights)  # (P, T, L)


def irregularity(images: Tensor) -> Tensor:
    """How unevenly pictures (P, T, C, H, W) change along each interpolation, float64 (P,): largest over mean step.

    A step is the Euclidean distance of neighbouring pictures. 1 where all are alike, T - 1 for one jump between two
    stills. Pictures that do not change at all score 1. Own definition.
    """
    if images.ndim != 5 or images.shape[1] < 2:
        raise ValueError(f"need pictures (P, T, C, H, W), at least two a line, got {tuple(images.shape)}")
    steps = images.double().diff(dim=1).flatten(2).norm(dim=2)  # (P, T - 1)
    mean = steps.mean(dim=1)
    largest: Tensor = steps.max(dim=1).values
    return torch.where(mean > 0, largest / mean, 1.0)


def prior_draws(count: int, latent_size: int, generator: torch.Generator) -> Tensor:
    """Codes (count, L) of N(0, 1)."""
    return torch.randn(count, latent_size, generator=generator, device=generator.device)


def gaussian_draws(codes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Codes (count, L) of the Gaussian with the mean and covariance of codes (N, L)."""
    mean, covariance = _moments(codes)
    values, axes = torch.linalg.eigh(covariance)
    noise = torch.randn(count, len(mean), generator=generator, dtype=torch.float64)
    drawn: Tensor = mean + noise * values.clamp(min=0).sqrt() @ axes.T
    return drawn.to(codes)


def mixture_draws(codes: Tensor, count: int, components: int, generator: torch.Generator) -> Tensor:
    """Codes (count, L) of a mixture of full Gaussians that EM fits to codes (N, L).

    Ghosh et al. 2020, "From variational to deterministic autoencoders", section 4: sampling after training.
    """
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    mixture = GaussianMixture(components, random_state=seed, reg_covar=1e-6).fit(codes.double().cpu().numpy())
    drawn = torch.from_numpy(mixture.sample(count)[0])
    return drawn[torch.randperm(count, generator=generator)].to(codes)  # they come component by component


def _moments(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (L,) and covariance (L, L), float64."""
    values = codes.double().cpu()
    return values.mean(0), torch.cov(values.T, correction=0).reshape(values.shape[1], values.shape[1])
