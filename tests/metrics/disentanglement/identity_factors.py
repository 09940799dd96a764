"""A data set whose images are its factors, and encoders of known worth."""

import torch

from lightning_cv.contracts import Posterior
from lightning_cv.metrics.disentanglement.codes import Codes


class Identity:
    """Factors 1 to `size` each, whose "images" are the factors themselves."""

    def __init__(self, factors=10, size=10):
        self.factor_names = tuple(f"f{k}" for k in range(factors))
        self.factor_sizes = (size,) * factors
        self.asked = 0

    def with_factors(self, factors):
        self.asked += len(factors)
        return torch.from_numpy(factors).float() + 1


def as_they_are(images):
    return Posterior(images, None)


def all_zero(images):
    return Posterior(torch.zeros_like(images), None)


def twice(images):
    return Posterior(torch.cat([images, images], dim=1), None)


def shuffled(images):
    """The factors of each image in an order of its own, which depends on the image alone."""
    number = (images.long() * 11 ** torch.arange(images.shape[1])).sum(1, keepdim=True)  # (N, 1)
    noise = (number % 999_983 + 1) * (torch.arange(1, images.shape[1] + 1) ** 3 * 7919 + 1) % 104_729
    return Posterior(images.gather(1, noise.argsort(dim=1)), None)


def codes(encode, **options):
    return Codes(Identity(**options), encode, batch_size=4096)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)
