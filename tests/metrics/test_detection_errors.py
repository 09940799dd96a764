import numpy as np
import pytest
from oracles.detection_errors import KINDS, confusion, split
from oracles.drawn_detections import draw_results

from lightning_cv.metrics.coco import box_figures
from lightning_cv.metrics.confusion import DetectionConfusion, detection_confusion
from lightning_cv.metrics.errors import DetectionErrors, split_errors
from lightning_cv.metrics.matching import take_in_turn
from lightning_cv.metrics.voc import ImageResult

BOX, FAR = [0, 0, 10, 10], [50, 50, 60, 60]
HALF, THIRD, TENTH = [0, 0, 10, 5], [0, 0, 10, 3], [0, 0, 10, 1]  # IoU .5, .3 and .1 with BOX


def image(detections, objects, difficult=None):
    """Detections as (box, score, label), objects as (box, label)."""
    boxes, scores, labels = zip(*detections, strict=True) if detections else ((), (), ())
    true_boxes, true_labels = zip(*objects, strict=True) if objects else ((), ())
    return ImageResult(
        np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(labels, np.int64),
        np.array(true_boxes, float).reshape(-1, 4), np.array(true_labels, np.int64),
        np.array([False] * len(objects) if difficult is None else difficult, bool), (100, 100),
    )  # fmt: skip


def counted(*images):
    counts = split_errors(images, 2).counts._asdict()
    return {kind: number for kind, number in counts.items() if number}


@pytest.mark.parametrize(
    ("detection", "errors"),
    [
        ((BOX, 0.9, 1), {}),
        ((HALF, 0.9, 1), {}),  # t_f itself is enough
        ((THIRD, 0.9, 1), {"localization": 1}),
        ((TENTH, 0.9, 1), {"localization": 1}),
        ((BOX, 0.9, 2), {"classification": 1}),
        ((THIRD, 0.9, 2), {"both": 1, "missed": 1}),
        ((TENTH, 0.9, 2), {"background": 1, "missed": 1}),
        ((FAR, 0.9, 1), {"background": 1, "missed": 1}),
    ],
)
def test_each_kind_by_hand(detection, errors):
    assert counted(image([detection], [(BOX, 1)])) == errors


def test_a_second_hit_is_a_duplicate_unless_another_class_lies_there():
    assert counted(image([(BOX, 0.9, 1), (BOX, 0.8, 1)], [(BOX, 1)])) == {"duplicate": 1}
    both = image([(BOX, 0.9, 1), (BOX, 0.8, 1)], [(BOX, 1), (BOX, 2)])
    assert counted(both) == {"classification": 1}


def test_of_two_that_point_at_an_object_the_better_is_mended_and_the_other_vanishes():
    found = split_errors([image([(BOX, 0.9, 2), (THIRD, 0.8, 1)], [(BOX, 1)])], 2)
    assert (found.counts.classification, found.counts.localization, found.counts.missed) == (1, 1, 0)
    assert (found.cost.classification, found.cost.localization) == (1.0, 0.0)


def test_costs_by_hand():
    # the hit comes second: precision 1/2 at both objects' half of the recall
    found = split_errors([image([(FAR, 0.9, 1), (BOX, 0.8, 1)], [(BOX, 1), ([80, 80, 90, 90], 1)])], 1)
    assert found.ap == pytest.approx(51 / 101 / 2)
    assert found.cost.background == pytest.approx(51 / 101 - 51 / 101 / 2)
    assert found.cost.missed == pytest.approx(1 / 2 - 51 / 101 / 2)


def test_a_difficult_object_excuses_one_detection_and_is_never_missed():
    assert counted(image([(BOX, 0.9, 1), (BOX, 0.8, 1)], [(BOX, 1)], [True])) == {"background": 1}
    assert counted(image([], [(BOX, 1)], [True])) == {}


def test_nothing_found_and_nothing_to_find():
    nothing = split_errors([image([], [(BOX, 1)])], 1)
    assert (nothing.ap, nothing.counts.missed) == (0.0, 1)
    for images in ([], [image([(BOX, 0.9, 1)], [])]):
        empty = split_errors(images, 1)
        assert np.isnan([empty.ap, *empty.cost]).all()
        assert empty.counts.background == len(images)


@pytest.mark.parametrize("ties", [False, True])
def test_drawn_detections_agree_with_the_loops(ties):
    rng = np.random.default_rng(5)
    totals = np.zeros(len(KINDS))
    for _ in range(80):
        images = draw_results(rng, int(rng.integers(1, 6)), 3, ties)
        if not any((~one.difficult).any() for one in images):
            continue
        ap, counts, costs = split(images, 3, most=6)
        ours = split_errors(images, 3, max_detections=6)
        assert ours.ap == pytest.approx(ap, abs=1e-12)
        assert ours.counts._asdict() == counts
        assert ours.cost._asdict() == pytest.approx(costs, abs=1e-12)
        totals += list(ours.counts)
    assert totals.min() > 20  # the cases are not trivial


def test_the_average_precision_is_cocos():
    rng = np.random.default_rng(6)
    for _ in range(30):
        images = draw_results(rng, 4, 2)
        expected = box_figures(images, 2).figures["AP50"]
        assert split_errors(images, 2).ap == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_taking_in_turn_by_hand():
    assert take_in_turn(np.zeros((2, 0)), 0.5).tolist() == [-1, -1]
    assert take_in_turn(np.zeros((0, 2)), 0.5).tolist() == []
    assert take_in_turn(np.array([[0.5]]), 0.5).tolist() == [0]


def test_confusion_by_hand():
    images = [
        image([(BOX, 0.9, 2), (FAR, 0.8, 1), (FAR, 0.1, 2)], [(BOX, 1), ([80, 80, 90, 90], 2)]),
        image([(BOX, 0.9, 1), (FAR, 0.7, 2)], [(BOX, 1), (FAR, 2)], [False, True]),
    ]
    assert detection_confusion(images, 2).tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    twice = image([(BOX, 0.9, 1), (BOX, 0.8, 1), (FAR, 0.7, 2)], [(BOX, 1), (FAR, 1)], [True, False])
    assert detection_confusion([twice], 2).tolist() == [
        [0, 1, 0],
        [0, 0, 0],
        [0, 0, 0],
    ]  # any number may
    crowd = image([([0, 0, 2, 2], 0.9, 1), ([8, 0, 12, 2], 0.8, 1), (FAR, 0.7, 1)], [(BOX, 2)])
    crowd = crowd._replace(crowd=np.array([True]))
    assert detection_confusion([crowd], 2).tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]  # in it, half in it, outside
    assert detection_confusion([], 1).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("ties", [False, True])
def test_drawn_confusions_agree_with_the_loops(ties):
    rng = np.random.default_rng(8)
    for score in (0.0, 0.25, 0.6):
        images = draw_results(rng, 40, 3, ties)
        ours = detection_confusion(images, 3, iou=0.4, score=score)
        assert ours.tolist() == confusion(images, 3, 0.4, score)
        assert ours[:3, :3].sum() > 20


def test_settings_are_checked():
    for low, high in ((0.0, 0.5), (0.5, 0.5), (0.1, 1.5)):
        with pytest.raises(ValueError, match="need 0 < background_iou < iou <= 1"):
            DetectionErrors(2, iou=high, background_iou=low)
    with pytest.raises(ValueError, match="max_detections"):
        DetectionErrors(2, max_detections=0)
    with pytest.raises(ValueError, match="iou must be above 0"):
        DetectionConfusion(2, iou=0)
