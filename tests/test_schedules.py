import pytest

from lightning_cv.schedules import Schedule, Stages


def test_stages_hold_their_factor_until_the_next_begins():
    stages = Stages(begins=(0.0, 0.25, 0.5), factors=(0.1, 1.0, 0.01))
    assert [stages(progress) for progress in (0.0, 0.2499, 0.25, 0.4, 0.5, 1.0)] == [0.1, 0.1, 1.0, 1.0, 0.01, 0.01]
    assert isinstance(stages, Schedule)


@pytest.mark.parametrize(
    ("begins", "factors"), [((0.1, 0.5), (1.0, 2.0)), ((0.0, 0.5), (1.0,)), ((0.0, 0.5, 0.2), (1, 2, 3))]
)
def test_odd_stages_are_refused(begins, factors):
    with pytest.raises(ValueError, match="begins rise from 0 and factors are as many"):
        Stages(begins, factors)
