"""Learning-rate schedules as functions of progress: nothing to save, nothing to restore, right after an extension."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Schedule(Protocol):
    """A factor on the learning rate at a point of training."""

    def __call__(self, progress: float, /) -> float:
        """Factor at `progress`, 0 at the first step and 1 after the last."""
        ...


@dataclass(frozen=True)
class Constant:
    """The learning rate as the optimizer states it."""

    def __call__(self, progress: float, /) -> float:
        """Factor 1 everywhere."""
        return 1.0


@dataclass(frozen=True)
class WarmupCosine:
    """Linear rise over the first `warmup` of training, then half a cosine down to `final`.

    Loshchilov and Hutter 2017, "SGDR", without restarts. Differs: the rise starts at a tenth of the full rate.
    """

    warmup: float = 0.05
    final: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ValueError(f"schedule.warmup is a share of training, 0 <= warmup < 1, got {self.warmup}")

    def __call__(self, progress: float, /) -> float:
        """Factor between 0 and 1."""
        if progress < self.warmup:
            return 0.1 + 0.9 * progress / self.warmup
        falling = min(1.0, (progress - self.warmup) / (1 - self.warmup))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * falling))


@dataclass(frozen=True)
class Steps:
    """The rate multiplied by `gamma` at each of the `milestones`, shares of training (Caffe's "multistep")."""

    milestones: tuple[float, ...]
    gamma: float = 0.1

    def __call__(self, progress: float, /) -> float:
        """Factor gamma ** (number of milestones passed)."""
        return float(self.gamma ** sum(progress >= milestone for milestone in self.milestones))


@dataclass(frozen=True)
class Polynomial:
    """(1 - progress) ** power, the "poly" rate of DeepLab (Chen et al. 2018, section 4.1)."""

    power: float = 0.9

    def __call__(self, progress: float, /) -> float:
        """Factor from 1 down to 0."""
        return float(max(0.0, 1 - progress) ** self.power)
