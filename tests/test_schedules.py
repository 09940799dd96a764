import pytest
import torch
from torch.optim.lr_scheduler import PolynomialLR

from lightning_cv.schedules import Polynomial, Schedule, Stages, WarmupCosine


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


def test_poly_is_the_paper_s_formula_and_torch_s():
    poly = Polynomial()
    assert isinstance(poly, Schedule)
    assert [poly(progress) for progress in (0.0, 0.5, 0.75, 1.0)] == pytest.approx([1, 0.5**0.9, 0.25**0.9, 0])
    assert Polynomial(power=2.0)(0.9) == pytest.approx(0.01)
    assert poly(1.5) == 0  # a run that is extended past its end
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = PolynomialLR(optimizer, total_iters=10, power=0.9)
    for step in range(11):
        assert poly(step / 10) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_poly_with_a_floor_falls_to_it():
    """mmsegmentation: (0.01 - 0.0001) * (1 - t) ** 0.9 + 0.0001."""
    poly = Polynomial(power=0.9, final=0.01)
    for progress in (0.0, 0.2, 0.6, 1.0):
        assert 0.01 * poly(progress) == pytest.approx((0.01 - 0.0001) * (1 - progress) ** 0.9 + 0.0001)
    assert poly(1.0) == pytest.approx(0.01)


def test_poly_with_a_warm_up_rises_first_and_falls_over_the_rest():
    poly = Polynomial(power=1.0, warmup=0.2, final=0.5)
    # 0.1 + 0.9 * p / 0.2 up to 0.2, then 0.5 + 0.5 * (1 - (p - 0.2) / 0.8)
    points = {0.0: 0.1, 0.1: 0.55, 0.2: 1.0, 0.4: 0.875, 0.6: 0.75, 1.0: 0.5}
    assert [poly(progress) for progress in points] == pytest.approx(list(points.values()))
    cosine = WarmupCosine(warmup=0.2, final=0.5)
    assert [poly(p) for p in (0.0, 0.05, 0.19)] == [cosine(p) for p in (0.0, 0.05, 0.19)]
    assert cosine(0.6) == pytest.approx(0.75)  # half a cosine is half way down there


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup": 1.0}, "warmup is a share of training, 0 <= warmup < 1, got 1.0"),
        ({"warmup": -0.1}, "warmup is a share of training"),
        ({"power": 0.0}, "power is above 0 and final from 0 to 1, got power 0.0 and final 0.0"),
        ({"final": 1.5}, "got power 0.9 and final 1.5"),
    ],
)
def test_odd_polys_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Polynomial(**arguments)
