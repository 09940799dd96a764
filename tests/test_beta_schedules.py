import pytest

from lightning_cv.schedules import BetaSchedule, CyclicBeta, LinearBeta


def test_linear_by_share_and_by_steps():
    by_share, by_steps = LinearBeta(share=0.5), LinearBeta(steps=10, first=0.5)
    assert [by_share(step, 100) for step in (0, 25, 50, 99)] == [0.0, 0.5, 1.0, 1.0]
    assert [by_steps(step, 100) for step in (0, 5, 10, 99)] == [0.5, 0.75, 1.0, 1.0]


def test_four_cycles_half_rising_as_published():
    cyclic = CyclicBeta()
    found = [cyclic(step, 800) for step in (0, 50, 100, 150, 199, 200, 300, 799, 800, 9000)]
    assert found == pytest.approx([0.0, 0.5, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    assert [CyclicBeta(steps=10, rise=1.0)(step, 800) for step in (5, 15, 40)] == [0.5, 0.5, 1.0]


def test_the_steps_they_take():
    assert (LinearBeta(steps=10).steps_needed(), LinearBeta().steps_needed()) == (10, 0)
    cyclic = CyclicBeta(cycles=3, steps=10)
    assert (cyclic.steps_needed(), CyclicBeta().steps_needed()) == (30, 0)
    assert [cyclic(step, 800) for step in (29, 30)] == [1.0, 1.0]
    assert cyclic(21, 800) < 1.0  # the last cycle is still rising


def test_they_are_told_apart_from_the_learning_rates():
    assert isinstance(LinearBeta(), BetaSchedule)
    with pytest.raises(ValueError, match="0 < share <= 1"):
        LinearBeta(share=0.0)
    with pytest.raises(ValueError, match=r"steps of at least 1 are needed, got 0\.25 and 0"):
        LinearBeta(steps=0)
    with pytest.raises(ValueError, match="cycles must be at least 1"):
        CyclicBeta(cycles=0)
