import numpy as np
import pytest

from lightning_cv.metrics.bootstrap import bootstrap_interval
from lightning_cv.metrics.voc import ImageResult, judge_class, precision_of, voc_average_precision


def mean_of(values):
    return lambda times: np.array([np.repeat(values, times).mean()])


def test_the_mean_of_coin_flips_has_the_interval_of_the_normal_distribution():
    flips = np.arange(400) % 2
    low, high = bootstrap_interval(mean_of(flips), 400, draws=4000)[:, 0]
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.003)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """300 data sets of 60 numbers of mean 0; the share is 0.95 with a deviation of 0.013."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        low, high = bootstrap_interval(mean_of(rng.normal(size=60)), 60, draws=200)[:, 0]
        inside += low <= 0 <= high
    assert 0.90 <= inside / 300 <= 0.98


def test_same_seed_same_interval_one_image_no_width_unknown_figures_left_out():
    values = np.random.default_rng(1).normal(size=20)
    first, again, other = (bootstrap_interval(mean_of(values), 20, seed=seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).all()
    assert bootstrap_interval(mean_of(values[:1]), 1).tolist() == [[values[0]], [values[0]]]
    rare = bootstrap_interval(lambda times: np.array([1.0 if times[0] else np.nan]), 20)
    assert rare.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("wrong", [{"images": 0}, {"draws": 0}, {"share": 0.0}, {"share": 1.0}])
def test_what_cannot_be_asked(wrong):
    with pytest.raises(ValueError, match="bootstrap_interval"):
        bootstrap_interval(mean_of(np.ones(3)), **{"images": 3, **wrong})


@pytest.mark.parametrize("kind", ["area", "11point"])
def test_images_that_count_several_times_are_images_that_are_there_several_times(kind):
    rng = np.random.default_rng(0)
    images = []
    for _ in range(6):
        corners = rng.integers(0, 12, (6, 2)).astype(float)
        boxes = np.concatenate([corners, corners + rng.integers(4, 9, (6, 2))], 1)
        images.append(
            ImageResult(
                boxes[:4], rng.permutation(100)[:4] + rng.random(4), np.ones(4, np.int64),
                boxes[4:], np.ones(2, np.int64), rng.random(2) < 0.2, (30, 30),
            )
        )  # fmt: skip
    judged = judge_class(images, 1, iou=0.3)
    aps = set()
    for _ in range(50):
        times = rng.integers(0, 3, 6)
        repeated = [image for image, count in zip(images, times, strict=True) for _ in range(count)]
        expected = voc_average_precision(repeated, 1, iou=0.3, kind=kind)
        found = precision_of(judged, kind, times)
        assert found.objects == expected.objects
        assert found.ap == pytest.approx(expected.ap, nan_ok=True)
        aps.add(found.ap)
    assert len(aps) > 10
