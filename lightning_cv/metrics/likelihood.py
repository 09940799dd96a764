"""How well an autoencoder with a prior explains its images, in nats. Letters: N images, L latent size."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from lightning_cv.ops.latents import kl_to_standard_normal

ACTIVE_VARIANCE = 0.01
COLLAPSED_KL = 0.01
"""Nats an image below which a code says nothing."""

REQUIRED = ("elbo", "reconstruction", "kl")
PER_LATENT = ("kl_per_dim", "mean", "log_var")


class Likelihood(NamedTuple):
    """Means over a data set, float64, nats an image."""

    elbo: Tensor  # () higher is better: -(reconstruction + kl)
    reconstruction: Tensor  # () negative log likelihood of the image given its code
    kl: Tensor  # () of the posterior from the prior, summed over latents
    kl_per_dim: Tensor  # (L,), or () for L = 1: torchmetrics squeezes
    active_units: Tensor  # () number of latents
    aggregate_mean: Tensor  # (L,) of the aggregate posterior, the mixture of all images' posteriors
    aggregate_std: Tensor  # (L,) of the same; NaN without log variances
    aggregate_kl: Tensor  # () at least so far is the aggregate posterior from the prior; NaN without log variances
    others: dict[str, Tensor]  # () of each further term of the step, such as "iwae_64"


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """Bits a pixel and channel of an image of `dims` = C * H * W values that costs `nats`."""
    return nats / (math.log(2) * dims)


def active_units(mean_variance: Tensor, threshold: float = ACTIVE_VARIANCE) -> Tensor:
    """Number of latents whose posterior mean varies over the data, from the variances (L,) of those means.

    Burda, Grosse and Salakhutdinov 2016, "Importance weighted autoencoders", section 5.2: Var_x(E[z|x]) > 0.01.
    """
    return (mean_variance > threshold).sum()


def is_collapsed(likelihood: Likelihood) -> bool:
    """Whether the code says nothing of the image: no active unit, or less than 0.01 nats."""
    return bool(likelihood.active_units == 0) or bool(likelihood.kl < COLLAPSED_KL)


class LikelihoodMeans(Metric):
    """Sums of per-image terms over batches and processes: exact means, however short the last batch.

    An image counts as often as it is passed in: evaluation samplers must not repeat images.
    """

    sums: Tensor
    latent_sums: Tensor
    mean_squares: Tensor
    count: Tensor
    full_state_update = False

    def __init__(self, latent_size: int, **kwargs: Any) -> None:  # kwargs: torchmetrics' own settings
        super().__init__(compute_with_cache=False, **kwargs)  # a cached result would leave other processes waiting
        self.latent_size = latent_size
        self.other_sums: dict[str, float] = {}
        self.add_state("sums", torch.zeros(len(REQUIRED), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("latent_sums", torch.zeros(3, latent_size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("mean_squares", torch.zeros(latent_size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, terms: Mapping[str, Tensor]) -> None:
        """Add a batch: "elbo", "reconstruction", "kl" (N,), "kl_per_dim", "mean" (N, L), perhaps "log_var" (N, L).

        Any further terms are (N,), and the same in all batches.
        """
        missing = {*REQUIRED, "kl_per_dim", "mean"} - set(terms)
        if missing:
            raise ValueError(f"the step's terms lack {sorted(missing)}; there are {sorted(terms)}")
        if terms["mean"].shape[1:] != (self.latent_size,):
            raise ValueError(f"expected {self.latent_size} latents, got means of shape {tuple(terms['mean'].shape)}")
        batch = {name: values.detach().double() for name, values in terms.items()}
        for name in set(batch) - {*REQUIRED, *PER_LATENT}:
            self.other_sums[name] = self.other_sums.get(name, 0.0) + batch[name].sum().item()
        self.sums += torch.stack([batch[name].sum() for name in REQUIRED])
        mean = batch["mean"]
        variance = batch["log_var"].exp() if "log_var" in batch else torch.full_like(mean, torch.nan)
        self.latent_sums += torch.stack([batch["kl_per_dim"].sum(0), mean.sum(0), variance.sum(0)])
        self.mean_squares += mean.square().sum(0)
        self.count += len(mean)

    def compute(self) -> Likelihood:
        """Means over all images; NaN without any."""
        elbo, reconstruction, kl = self.sums / self.count
        others = {name: total / self.count for name, total in self._all_other_sums().items()}
        kl_per_dim, mean, variance = self.latent_sums / self.count  # (L,) each
        mean_variance = self.mean_squares / self.count - mean.square()
        spread = variance + mean_variance
        return Likelihood(
            elbo,
            reconstruction,
            kl,
            kl_per_dim,
            active_units(mean_variance),
            mean,
            spread.sqrt(),
            kl_to_standard_normal(mean, spread.log()).sum(),
            others,
        )

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self.other_sums = {}

    def _all_other_sums(self) -> dict[str, float]:
        """Over all processes, of which one without images knows no names."""
        parts = [self.other_sums]
        if dist.is_available() and dist.is_initialized():
            parts *= dist.get_world_size()
            dist.all_gather_object(parts, self.other_sums)
        names = sorted({name for part in parts for name in part})
        return {name: sum(part.get(name, 0.0) for part in parts) for name in names}
