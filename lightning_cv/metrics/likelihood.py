"""How well an autoencoder with a prior explains its images, in nats. Letters: N images, L latent size."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_cv.metrics.records import ImageRecords
from lightning_cv.metrics.voc import Floats
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
    bits_per_dim: Tensor  # () of the negative ELBO
    others: dict[str, Tensor]  # () of each further term of the step, such as "iwae_64"


def bits_per_dim(nats: float, dims: int) -> float:
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


class LikelihoodRow(NamedTuple):
    """What one image costs."""

    names: tuple[str, ...]  # REQUIRED, then the further terms
    values: Floats  # one a name
    latents: Floats  # (3, L) KL, mean and variance of the posterior; NaN variances where they are not known
    dims: int  # C * H * W


class LikelihoodMeans(ImageRecords[LikelihoodRow]):
    """Exact means of per-image terms, however short the last batch; an image passed in twice counts once.

    Args:
        latent_size: L.
    """

    def __init__(self, latent_size: int, **kwargs: Any) -> None:  # kwargs: torchmetrics' own settings
        super().__init__(**kwargs)
        self.latent_size = latent_size

    def update(self, terms: Mapping[str, Tensor], image_ids: Sequence[str], dims: int) -> None:
        """Keep a batch: "elbo", "reconstruction", "kl" (N,), "kl_per_dim", "mean" (N, L), perhaps "log_var" (N, L).

        Any further terms are (N,), and the same in all batches; those named "..._hidden" are NaN for an image that
        hides nothing, which has no share in their mean. `dims` is the number of values C * H * W of an image.
        """
        missing = {*REQUIRED, "kl_per_dim", "mean"} - set(terms)
        if missing:
            raise ValueError(f"the step's terms lack {sorted(missing)}; there are {sorted(terms)}")
        if terms["mean"].shape[1:] != (self.latent_size,):
            raise ValueError(f"expected {self.latent_size} latents, got means of shape {tuple(terms['mean'].shape)}")
        batch = {name: values.detach().cpu().double() for name, values in terms.items()}
        names = (*REQUIRED, *sorted(set(batch) - {*REQUIRED, *PER_LATENT}))
        values = torch.stack([batch[name] for name in names], dim=1).numpy()  # (N, names)
        mean = batch["mean"]
        variance = batch["log_var"].exp() if "log_var" in batch else torch.full_like(mean, torch.nan)
        latents = torch.stack([batch["kl_per_dim"], mean, variance], dim=1).numpy()  # (N, 3, L)
        self.records |= {
            image_id: LikelihoodRow(names, costs, codes, dims)
            for image_id, costs, codes in zip(image_ids, values, latents, strict=True)
        }

    def compute(self) -> Likelihood:
        """Means over all images; NaN without any."""
        return self.evaluate_once(self.likelihood)

    def likelihood(self, images: Sequence[LikelihoodRow]) -> Likelihood:
        """Means over given images."""
        names = images[0].names if images else REQUIRED
        if any(image.names != names for image in images):
            raise ValueError(f"the terms differ between images: {sorted({image.names for image in images})}")
        if images:
            values = torch.from_numpy(np.stack([image.values for image in images]))  # (N, names)
            partial = torch.tensor([name.endswith("_hidden") for name in names])
            values = torch.where(partial, values.nanmean(0), values.mean(0))  # (names,)
            latents = torch.from_numpy(np.stack([image.latents for image in images]))  # (N, 3, L)
        else:
            values = torch.full((len(names),), torch.nan, dtype=torch.float64)
            latents = torch.full((1, 3, self.latent_size), torch.nan, dtype=torch.float64)
        kl_per_dim, mean, variance = latents.mean(0)  # (L,) each
        mean_variance = latents[:, 1].var(dim=0, correction=0)
        spread = variance + mean_variance
        found = dict(zip(names, values, strict=True))
        bits = [bits_per_dim(-image.values[0], image.dims) for image in images]
        return Likelihood(
            elbo=found.pop("elbo"),
            reconstruction=found.pop("reconstruction"),
            kl=found.pop("kl"),
            kl_per_dim=kl_per_dim,
            active_units=active_units(mean_variance),
            aggregate_mean=mean,
            aggregate_std=spread.sqrt(),
            aggregate_kl=kl_to_standard_normal(mean, spread.log()).sum(),
            bits_per_dim=torch.tensor(bits, dtype=torch.float64).mean(),
            others=found,
        )
