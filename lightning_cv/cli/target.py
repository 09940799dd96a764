"""The published figure that an experiment is measured against."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass
class Target:
    """A published figure.

    Args:
        metric: name of the logged metric, such as `test/map_50`.
        value: the published figure, in the metric's own unit.
        source: where it was published.
        tolerance: how far on the worse side of it a result still counts as reproduced.
        lower_is_better: whether that side is above it, as for an error.
    """

    metric: str
    value: float
    source: str
    tolerance: float = 0.0
    lower_is_better: bool = False

    def verdict(self, metrics: Mapping[str, float]) -> str:
        """A line on how a result compares; nothing where the metric was not measured.

        >>> Target("test/miou", 0.627, "Long et al. 2015", 0.01).verdict({"test/miou": 0.62})
        'test/miou 0.62, target 0.627 (Long et al. 2015): reached\\n'
        """
        if self.metric not in metrics:
            return ""
        value = metrics[self.metric]
        gap = value - self.value if self.lower_is_better else self.value - value
        reached = "reached" if gap <= self.tolerance else "not reached"
        return f"{self.metric} {value:.4g}, target {self.value:g} ({self.source}): {reached}\n"
