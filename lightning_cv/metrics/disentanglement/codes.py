"""Codes of images whose factors are known, each encoded once. Letters: N images; K factors; L latents."""

import copy
import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import Posterior
from lightning_cv.metrics.likelihood import ACTIVE_VARIANCE

Factors = NDArray[np.int64]
Values = NDArray[np.float64]
Encode = Callable[[Tensor], Posterior]
"""Codes of images (N, C, H, W): `net.encode` of an autoencoder, its mean being what most metrics look at."""

_MOST_KEPT = 1 << 23
"""Combinations of factors up to which all codes are kept: a latent of as many takes 64 MB, its variance included."""


@runtime_checkable
class GroundTruth(Protocol):
    """A full grid of factors, each combination of which has an image."""

    factor_names: tuple[str, ...]  # K
    factor_sizes: tuple[int, ...]  # K: number of values; a factor of one value is held fixed

    def with_factors(self, factors: Factors) -> Tensor:
        """Images (N, C, H, W) of factor indices (N, K)."""
        ...


class Sample(NamedTuple):
    """Combinations of factors, drawn evenly and with replacement, and the codes of their images."""

    factors: Factors  # (N, K), those that vary
    codes: Values  # (N, L)


class Codes:
    """What an encoder makes of a grid of factors; an image that several metrics ask for is encoded once.

    Args:
        ground_truth: the images and their factors.
        encode: images to codes.
        batch_size: images that are encoded at once.
    """

    def __init__(self, ground_truth: GroundTruth, encode: Encode, batch_size: int = 64) -> None:
        sizes = np.array(ground_truth.factor_sizes)
        self.varying = np.flatnonzero(sizes > 1)
        """Indices of the factors that vary; the metrics know no others."""
        if not len(self.varying):
            raise ValueError(f"none of the factors {', '.join(ground_truth.factor_names)} varies: nothing to score")
        self.names = tuple(ground_truth.factor_names[k] for k in self.varying)
        self.sizes = tuple(sizes[self.varying].tolist())
        self.encoded = 0
        """Images encoded so far."""
        self._all_sizes = tuple(sizes.tolist())
        self._ground_truth, self._encode, self._batch_size = ground_truth, encode, batch_size
        self._keeps = math.prod(self._all_sizes) <= _MOST_KEPT
        self._table: NDArray[np.float32] | None = None  # (combinations, 2, L): mean and log variance
        self._known = np.zeros(math.prod(self._all_sizes) if self._keeps else 0, np.bool_)
        self._has_variance = False
        self._active: NDArray[np.bool_] | None = None

    def means(self, factors: Factors) -> Values:
        """Codes (N, L) of indices (N, K) of the factors that vary."""
        means = self._parameters(factors)[:, 0].astype(np.float64)
        return means if self._active is None else means * self._active

    def posteriors(self, factors: Factors) -> tuple[Tensor, Tensor]:
        """Means and log variances float32 (N, L) of indices (N, K) of the factors that vary.

        Raises:
            ValueError: the encoder gives no variance.
        """
        parameters = torch.from_numpy(self._parameters(factors))
        if not self._has_variance:
            raise ValueError("sampled codes need an encoder that gives a variance, as that of a VAE")
        return parameters[:, 0], parameters[:, 1]

    def draw(self, count: int, generator: torch.Generator) -> Factors:
        """Indices (N, K) of the factors that vary, N = `count`, each value as likely as the next."""
        columns = [torch.randint(size, (count,), generator=generator) for size in self.sizes]
        return torch.stack(columns, dim=1).numpy()

    def sample(self, count: int, generator: torch.Generator) -> Sample:
        """Combinations of factors and their codes, N = `count`."""
        factors = self.draw(count, generator)
        return Sample(factors, self.means(factors))

    def active(self, generator: torch.Generator, samples: int = 10_000) -> NDArray[np.bool_]:
        """Which latents (L,) vary over the data: Var_x(E[z|x]) > 0.01, as `metrics.likelihood.active_units` counts."""
        return np.asarray(self.sample(samples, generator).codes.var(axis=0) > ACTIVE_VARIANCE)

    def with_inactive_at_zero(self, generator: torch.Generator, samples: int = 10_000) -> "Codes":
        """The same codes, inactive latents set to zero; what was encoded is shared.

        The mean of a collapsed latent varies little but surely, and a metric that looks at each latent over its own
        range takes that for information, which no sample from the posterior carries.
        """
        active = self.active(generator, samples)  # which makes the table that the copy shares
        codes = copy.copy(self)
        codes._active = active
        return codes

    def _parameters(self, varying: Factors) -> NDArray[np.float32]:
        """Means and log variances (N, 2, L)."""
        factors = np.zeros((len(varying), len(self._all_sizes)), np.int64)
        factors[:, self.varying] = varying
        if not self._keeps:
            return self._encoded(factors)
        rows = np.ravel_multi_index(tuple(factors.T), self._all_sizes)  # (N,)
        asked = np.unique(rows)
        if len(new := asked[~self._known[asked]]):
            fresh = self._encoded(np.stack(np.unravel_index(new, self._all_sizes), axis=1))
            if self._table is None:
                self._table = np.zeros((len(self._known), *fresh.shape[1:]), np.float32)
            self._table[new], self._known[new] = fresh, True
        assert self._table is not None
        parameters: NDArray[np.float32] = self._table[rows]
        return parameters

    def _encoded(self, factors: Factors) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(factors), self._batch_size):
            images = self._ground_truth.with_factors(factors[start : start + self._batch_size])
            with torch.no_grad():
                mean, log_var = self._encode(images)
            if mean.ndim != 2 or len(mean) != len(images) or not mean.isfinite().all():
                raise ValueError(f"the codes of {len(images)} images must be finite numbers (N, L), got {mean.shape}")
            self._has_variance = log_var is not None
            parts.append(torch.stack([mean, torch.zeros_like(mean) if log_var is None else log_var], 1).float().cpu())
        self.encoded += len(factors)
        encoded: NDArray[np.float32] = torch.cat(parts).numpy()
        return encoded
