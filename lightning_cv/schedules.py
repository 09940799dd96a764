"""Schedules of the learning rate and of beta: functions of the step, so nothing is saved and a resume is right."""

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
        _check_warmup(self.warmup)

    def __call__(self, progress: float, /) -> float:
        """Factor between 0 and 1."""
        if progress < self.warmup:
            return _rising(progress, self.warmup)
        falling = _after(progress, self.warmup)
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
class Stages:
    """A factor for each stage of training, which may rise as well as fall (darknet's "steps" and "scales").

    Args:
        begins: shares of training at which the stages begin, rising from 0.
        factors: on the learning rate, one a stage.
    """

    begins: tuple[float, ...]
    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.begins) != len(self.factors) or self.begins[:1] != (0,) or list(self.begins) != sorted(self.begins):
            raise ValueError(
                f"schedule: begins rise from 0 and factors are as many, got {self.begins} and {self.factors}"
            )

    def __call__(self, progress: float, /) -> float:
        """Factor of the stage that training is in."""
        return self.factors[sum(progress >= begin for begin in self.begins) - 1]


@dataclass(frozen=True)
class Polynomial:
    """Linear rise over the first `warmup` of training, then (1 - t) ** power down to `final`, t the rest's progress.

    The "poly" rate of DeepLab (Chen et al. 2018, section 4.1), which has neither. Differs: the rise is that of
    `WarmupCosine`; `final` lifts the curve as mmsegmentation's `eta_min` does, final + (1 - final) * (1 - t) ** power.

    Raises:
        ValueError: warmup is no share of training, power is not above 0, or final is not from 0 to 1.
    """

    power: float = 0.9
    warmup: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)
        if self.power <= 0 or not 0 <= self.final <= 1:
            raise ValueError(
                f"schedule: power is above 0 and final from 0 to 1, got power {self.power} and final {self.final}"
            )

    def __call__(self, progress: float, /) -> float:
        """Factor between 0 and 1."""
        if progress < self.warmup:
            return _rising(progress, self.warmup)
        left = 1 - _after(progress, self.warmup)
        return float(self.final + (1 - self.final) * left**self.power)


@runtime_checkable
class BetaSchedule(Protocol):
    """A factor on beta after some optimizer steps."""

    def __call__(self, step: int, total: int, /) -> float:
        """Factor after `step` of the run's `total` steps."""
        ...

    def steps_needed(self) -> int:
        """Optimizer steps until the last change, where the schedule counts in steps; 0 where it follows the run."""
        ...


@dataclass(frozen=True)
class LinearBeta:
    """From `first` to 1 over `steps` optimizer steps or, where these are not given, over a `share` of the run."""

    share: float = 0.25
    steps: int | None = None
    first: float = 0.0

    def __post_init__(self) -> None:
        _check_span("share", self.share, self.steps)

    def __call__(self, step: int, total: int, /) -> float:
        """Factor between `first` and 1."""
        return self.first + (1 - self.first) * min(1.0, step / _span(self.share, self.steps, total))

    def steps_needed(self) -> int:
        """Until the factor is 1."""
        return self.steps or 0


@dataclass(frozen=True)
class CyclicBeta:
    """From 0 to 1 over the `rise` share of a cycle, 1 for its rest, again and again; after the last cycle 1.

    Fu et al. 2019, "Cyclical annealing schedule", section 3.2: four cycles, half of each rising. A cycle takes `steps`
    optimizer steps or, where these are not given, an equal part of the run.
    """

    cycles: int = 4
    rise: float = 0.5
    steps: int | None = None

    def __post_init__(self) -> None:
        _check_span("rise", self.rise, self.steps)
        if self.cycles < 1:
            raise ValueError(f"beta_schedule.cycles must be at least 1, got {self.cycles}")

    def __call__(self, step: int, total: int, /) -> float:
        """Factor between 0 and 1."""
        cycle, within = divmod(step / _span(1 / self.cycles, self.steps, total), 1.0)
        return 1.0 if cycle >= self.cycles else min(1.0, within / self.rise)

    def steps_needed(self) -> int:
        """Of all cycles."""
        return self.cycles * (self.steps or 0)


def _check_warmup(warmup: float) -> None:
    if not 0 <= warmup < 1:
        raise ValueError(f"schedule.warmup is a share of training, 0 <= warmup < 1, got {warmup}")


def _rising(progress: float, warmup: float) -> float:
    """Factor during the warm-up, from a tenth to 1."""
    return 0.1 + 0.9 * progress / warmup


def _after(progress: float, warmup: float) -> float:
    """Progress of the training that comes after the warm-up, 0 to 1."""
    return min(1.0, (progress - warmup) / (1 - warmup))


def _span(share: float, steps: int | None, total: int) -> float:
    return steps if steps is not None else max(1.0, share * total)


def _check_span(name: str, share: float, steps: int | None) -> None:
    if not 0 < share <= 1 or (steps is not None and steps < 1):
        raise ValueError(f"beta_schedule: 0 < {name} <= 1 and steps of at least 1 are needed, got {share} and {steps}")
