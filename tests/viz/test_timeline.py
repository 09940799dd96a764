"""Costs as a table and as bars."""

import numpy as np

from lightning_cv.viz.timeline import Cost, cost_bars, cost_table

COSTS = {
    "slow": Cost(90.0, 10.0, 0.6, 0.2, 50_000_000, 0.5),
    "fast": Cost(50.0, 0.0, 0.01, 0.0, 0, 0.75),
}


def test_a_row_a_system_with_the_share_of_its_proposals() -> None:
    assert cost_table(COSTS, "a GPU").splitlines()[2:] == [
        "| slow | 100 s | 10% | 800 ms | 25% | 50 MB | 0.500 |",
        "| fast | 50 s | 0% | 10 ms | 0% | 0 MB | 0.750 |",
        "",
        "On a GPU.",
    ]


def test_bars_are_red_for_proposals_alone() -> None:
    def reddish(costs: dict[str, Cost]) -> int:
        red, green, blue = (cost_bars(costs, "a GPU")[..., channel].astype(int) for channel in range(3))
        return int(np.count_nonzero((red > 150) & (green < 80) & (blue < 80)))

    without = reddish({"fast": COSTS["fast"]})  # the legend's
    assert reddish(COSTS) > without + 500
