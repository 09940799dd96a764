"""Deltas brought to a mean of 0 and a spread of 1. Letters: P positive regions, R regions, K classes."""

import torch
from torch import Tensor, nn

ENOUGH = 10
"""Regions of a class from which its own mean and spread are taken."""


class DeltaSpread(nn.Module):
    """Mean and spread of the deltas of each class: stated, or measured as training begins.

    Girshick 2015, section 2.3, "Multi-task loss": targets are normalised. His released code measures every class over
    the training set before; the later one of Ren et al. states 0 and (0.1, 0.1, 0.2, 0.2) for all. Differs from the
    former: measured over the regions that the first training steps learn from, with no pass before them.

    Args:
        num_classes: K.
        scale: spread of all classes, until they are measured.
        measured: training steps over which is measured; 0 keeps what is stated.
    """

    scale: Tensor
    steps: Tensor
    counts: Tensor
    sums: Tensor
    squares: Tensor

    def __init__(self, num_classes: int, scale: tuple[float, float, float, float], measured: int = 0) -> None:
        super().__init__()
        if measured < 0 or min(scale) <= 0:
            raise ValueError(f"DeltaSpread: scale is above 0 and measured at least 0, got {scale} and {measured}")
        self.measured = measured
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        kept = measured > 0  # in checkpoints, which otherwise have no more than their weights
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64), persistent=kept)
        self.register_buffer("counts", torch.zeros(num_classes, 1), persistent=kept)
        self.register_buffer("sums", torch.zeros(num_classes, 4), persistent=kept)
        self.register_buffer("squares", torch.zeros(num_classes, 4), persistent=kept)

    @torch.no_grad()
    def measure(self, deltas: Tensor, labels: Tensor) -> None:
        """Count deltas (P, 4) of positive regions with labels (P,), 1 to K, unless enough steps were."""
        if self.measured == 0 or self.steps >= self.measured:
            return
        self.steps += 1
        self.counts.index_add_(0, labels - 1, torch.ones_like(deltas[:, :1]))
        self.sums.index_add_(0, labels - 1, deltas)
        self.squares.index_add_(0, labels - 1, deltas.square())

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and spread of each class, (K, 4) both."""
        mean = self.sums / self.counts.clamp(min=1)
        spread = (self.squares / self.counts.clamp(min=1) - mean.square()).clamp(min=1e-6).sqrt()
        known = self.counts >= ENOUGH  # (K, 1)
        return torch.where(known, mean, 0.0), torch.where(known, spread, self.scale)

    def normalise(self, deltas: Tensor, labels: Tensor) -> Tensor:
        """What the net should say, (P, 4), for deltas (P, 4) of regions with labels (P,), 1 to K."""
        mean, spread = self.moments()
        return (deltas - mean[labels - 1]) / spread[labels - 1]

    def restore(self, said: Tensor) -> Tensor:
        """Deltas (R, K, 4) of what the net says, of the same shape."""
        mean, spread = self.moments()
        return said * spread + mean
