"""What an image is worth given the net's output: negative log likelihoods as modules, and the picture each stands for.

The convention everywhere: nats an image, summed over its pixels and channels, never averaged; means are over the batch
only. Constants are included, float32 also under autocast. Letters: N images; C channels; H, W.
"""

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.ops.losses import in_unit_range, same_shape

LEAST_LOG_SIGMA = -6.0
"""Learned deviations stay above exp(-6), 0.6 of one grey level of 255: below, the likelihood grows without bound."""


class Likelihood(nn.Module):
    """-log p(image | output) of each pixel, all pixels independent; a subclass states the distribution."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Nats an image (N,) of outputs and images (N, C, H, W)."""
        return self.pixels(outputs, targets).flatten(1).sum(1)

    def pixels(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Nats of each pixel and channel (N, C, H, W)."""
        same_shape(outputs, targets)
        outputs = outputs if outputs.dtype == torch.float64 else outputs.float()
        return self.density(outputs, targets.to(outputs))

    @abstractmethod
    def density(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-log p of each pixel and channel, of checked shapes and float32 or float64 values."""

    def check(self, images: Tensor) -> None:
        """Raise where the distribution has no such images; on an accelerator a look at them waits for it."""

    def picture(self, outputs: Tensor) -> Tensor:
        """The image (N, C, H, W), 0 to 1, that the outputs stand for: the mean, cut off at 0 and 1."""
        return outputs.float().clamp(0, 1)


class Bernoulli(Likelihood):
    """Outputs are logits; a grey pixel of 0.3 counts as 0.3 white and 0.7 black. The picture is the logits' sigmoid.

    Kingma and Welling 2014, appendix C.1. For grey images this is no likelihood (it does not integrate to 1), only a
    cross-entropy, whose least value is the images' own entropy. `check` refuses images outside of 0 to 1.
    """

    def check(self, images: Tensor) -> None:
        """Raise where images leave 0 to 1."""
        in_unit_range(images)

    def density(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """From logits: sigmoid first would saturate."""
        return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")

    def picture(self, outputs: Tensor) -> Tensor:
        """The probability of white."""
        return outputs.float().sigmoid()


class Gaussian(Likelihood):
    """Outputs are means; every pixel is N(mean, sigma^2).

    With sigma = sqrt(1/2) it is the sum of squared errors plus a constant; a mean squared error as reconstruction loss
    hides a sigma that depends on the image size.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        if not 0 < sigma < math.inf:
            raise ValueError(f"likelihood.sigma must be positive, got {sigma}")
        self.sigma = sigma

    def density(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared errors over the variance, and the constant."""
        return _normal(outputs, targets, outputs.new_tensor(math.log(self.sigma)))


class OptimalGaussian(Likelihood):
    """Outputs are means; sigma^2 is the batch's mean squared error, the value that makes the batch most likely.

    Rybkin, Daniilidis and Levine 2021, "Simple and effective VAE training with calibrated decoders" (sigma-VAE). In
    training the batch of each process has its own sigma; its gradient through sigma is zero, sigma being the optimum.
    Evaluation uses one fixed sigma, that of the running mean of the training batches' squared errors (0.99 of the old
    value, 0.01 of the new), kept in the checkpoint; it is 1 before any training. log sigma is at least -6.
    """

    variance: Tensor
    batches: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def density(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared errors over the variance of the batch or, in evaluation, of the training."""
        variance = self.variance
        if self.training:
            variance = (outputs.detach() - targets).square().mean()
            self.variance.lerp_(
                variance.to(self.variance), torch.where(self.batches == 0, 1.0, 0.01)
            )  # in place for DDP
            self.batches.add_(1)
        return _normal(outputs, targets, (0.5 * variance.to(outputs).log()).clamp(min=LEAST_LOG_SIGMA))


class LearnedGaussian(Likelihood):
    """Outputs are means; sigma is one trained number for all pixels and images, log sigma at least -6.

    Args:
        sigma: to start with.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        if not 0 < sigma < math.inf:
            raise ValueError(f"likelihood.sigma must be positive, got {sigma}")
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)))

    def density(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared errors over the learned variance."""
        return _normal(outputs, targets, self.log_sigma.to(outputs).clamp(min=LEAST_LOG_SIGMA))


class Laplace(Likelihood):
    """Outputs are medians; every pixel has the density exp(-|x - median| / scale) / (2 scale)."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ValueError(f"likelihood.scale must be positive, got {scale}")
        self.scale = scale

    def density(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Absolute errors over the scale, and the constant."""
        return (targets - outputs).abs() / self.scale + math.log(2 * self.scale)


def _normal(mean: Tensor, targets: Tensor, log_sigma: Tensor) -> Tensor:
    return 0.5 * ((targets - mean) * torch.exp(-log_sigma)).square() + log_sigma + 0.5 * math.log(2 * math.pi)
