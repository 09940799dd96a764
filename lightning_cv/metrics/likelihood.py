"""How well an autoencoder with a prior explains its images, in nats. Letters: N images, L latent size."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

ACTIVE_VARIANCE = 0.01


class Likelihood(NamedTuple):
    """Means over a data set, float64, nats an image."""

    elbo: Tensor  # () higher is better: -(reconstruction + kl)
    reconstruction: Tensor  # () negative log likelihood of the image given its code
    kl: Tensor  # () of the posterior from the prior, summed over latents
    kl_per_dim: Tensor  # (L,), or () for L = 1: torchmetrics squeezes
    active_units: Tensor  # () number of latents


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """Bits a pixel and channel of an image of `dims` = C * H * W values that costs `nats`."""
    return nats / (math.log(2) * dims)


def active_units(mean_variance: Tensor, threshold: float = ACTIVE_VARIANCE) -> Tensor:
    """Number of latents whose posterior mean varies over the data, from the variances (L,) of those means.

    Burda, Grosse and Salakhutdinov 2016, "Importance weighted autoencoders", section 5.2: Var_x(E[z|x]) > 0.01.
    """
    return (mean_variance > threshold).sum()


class LikelihoodMeans(Metric):
    """Sums of per-image terms over batches and processes: exact means, however short the last batch.

    An image counts as often as it is passed in: evaluation samplers must not repeat images.
    """

    sums: Tensor
    kl_sums: Tensor
    mean_sums: Tensor
    mean_squares: Tensor
    count: Tensor
    full_state_update = False

    def __init__(self, latent_size: int, **kwargs: Any) -> None:  # kwargs: torchmetrics' own settings
        super().__init__(**kwargs)
        self.latent_size = latent_size
        self.add_state("sums", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("kl_sums", "mean_sums", "mean_squares"):
            self.add_state(name, torch.zeros(latent_size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, terms: Mapping[str, Tensor]) -> None:
        """Add a batch: "elbo", "reconstruction", "kl" (N,), "kl_per_dim" and "mean" (N, L)."""
        missing = {"elbo", "reconstruction", "kl", "kl_per_dim", "mean"} - set(terms)
        if missing:
            raise ValueError(f"the step's terms lack {sorted(missing)}; there are {sorted(terms)}")
        if terms["mean"].shape[1:] != (self.latent_size,):
            raise ValueError(f"expected {self.latent_size} latents, got means of shape {tuple(terms['mean'].shape)}")
        batch = {name: values.detach().double() for name, values in terms.items()}
        self.sums += torch.stack([batch[name].sum() for name in ("elbo", "reconstruction", "kl")])
        self.kl_sums += batch["kl_per_dim"].sum(0)
        self.mean_sums += batch["mean"].sum(0)
        self.mean_squares += batch["mean"].square().sum(0)
        self.count += len(batch["mean"])

    def compute(self) -> Likelihood:
        """Means over all images; NaN without any."""
        elbo, reconstruction, kl = self.sums / self.count
        variance = self.mean_squares / self.count - (self.mean_sums / self.count).square()
        return Likelihood(elbo, reconstruction, kl, self.kl_sums / self.count, active_units(variance))
