"""Codes of variational autoencoders: draws, divergence from the prior, traversals. Letters: N images, L latent size."""

import torch
from torch import Tensor

LOG_VAR_RANGE = (-30.0, 20.0)
"""Log variances are kept in here: exp() of what lies outside loses the posterior or overflows."""


def clamp_log_var(log_var: Tensor) -> Tensor:
    """Log variances within `LOG_VAR_RANGE`, same shape; outside of it no gradient flows."""
    return log_var.clamp(*LOG_VAR_RANGE)


def reparameterise(mean: Tensor, log_var: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A draw from N(mean, exp(log_var)) of the same shape, through which gradients reach both.

    Kingma and Welling 2014, "Auto-encoding variational Bayes", section 2.4. A generator may live on another device.
    """
    device = mean.device if generator is None else generator.device
    return spread(mean, log_var, torch.randn(mean.shape, generator=generator, device=device, dtype=mean.dtype))


def spread(mean: Tensor, log_var: Tensor, noise: Tensor) -> Tensor:
    """The draw from N(mean, exp(log_var)) that standard normal noise of the same shape stands for."""
    return mean + torch.exp(0.5 * log_var) * noise.to(mean)


def kl_to_standard_normal(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, 1)) of each latent in nats, same shape (N, L), float32 at least.

    Kingma and Welling 2014, appendix B. Through expm1, which keeps the digits of a latent close to the prior.

    >>> kl_to_standard_normal(torch.tensor([1.0]), torch.tensor([0.0])).item()
    0.5
    """
    mean, log_var = at_least_float32(mean), at_least_float32(log_var)
    return 0.5 * (mean.square() + torch.expm1(log_var) - log_var)


def log_weights_of_draws(nll: Tensor, log_var: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
    """log p(x, z) - log q(z|x) of draws z (..., L) = `spread(mean, log_var, noise)`, nll (...) = -log p(x|z); float64.

    Burda, Grosse and Salakhutdinov 2016, "Importance weighted autoencoders", equation 8: the mean of K such weights,
    not of their logs, bounds p(x) the closer, the larger K.
    """
    latent, noise = latent.double(), noise.double()
    return -nll.double() + 0.5 * (noise.square() - latent.square() + log_var.double()).sum(-1)


def order_by_kl(kl_per_dim: Tensor) -> Tensor:
    """Latent indices (L,), the most informative first; equal ones stay in order."""
    return torch.argsort(kl_per_dim, descending=True, stable=True)


def absolute_range(limit: float, steps: int) -> Tensor:
    """`steps` values from -limit to limit, evenly spaced."""
    return torch.linspace(-limit, limit, steps)


def prior_quantiles(steps: int, tail: float = 0.05) -> Tensor:
    """`steps` values of N(0, 1) whose probabilities are evenly spaced from `tail` to 1 - `tail`."""
    if not 0 < tail < 0.5:
        raise ValueError(f"prior_quantiles: tail must be between 0 and 0.5, got {tail}")
    probabilities = torch.linspace(tail, 1 - tail, steps, dtype=torch.float64)
    quantiles: Tensor = torch.special.ndtri(probabilities)
    return quantiles.float()


def traversal_codes(code: Tensor, latents: Tensor, values: Tensor) -> Tensor:
    """Copies of a code (L,), in each of which one latent is set: (latents, values, L)."""
    if code.ndim != 1:
        raise ValueError(f"traversal_codes: one code (L,) is varied, got shape {tuple(code.shape)}")
    codes = code.repeat(len(latents), len(values), 1)
    rows = torch.arange(len(latents), device=code.device)
    codes[rows, :, latents.to(code.device)] = values.to(code)
    return codes


def at_least_float32(values: Tensor) -> Tensor:
    """The values, those of half precision as float32; others are the same tensor."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
