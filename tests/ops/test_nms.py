import pytest
import torch
from oracles.detection import agnostic_nms_loop, nms_loop, soft_nms_loop, suppressor_loop

from lightning_cv.ops.nms import (
    class_agnostic_nms,
    class_wise_nms,
    gaussian_decay,
    linear_decay,
    soft_nms,
    suppressors,
)

PAPER = {"score_threshold": 0.01, "iou_threshold": 0.45, "top_before": 400, "top_after": 200}


def random_candidates(seed: int, count: int = 40, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + 5 + torch.rand(count, 2, generator=generator) * 20], dim=1)
    return boxes, torch.rand(count, classes, generator=generator)


def test_a_weaker_overlapping_box_of_the_same_class_goes():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40]])
    scores = torch.tensor([[0.8, 0.0], [0.9, 0.7], [0.0, 0.6]])
    found = class_wise_nms(boxes, scores, **PAPER)
    assert found["labels"].tolist() == [1, 2, 2]  # box 0 is thinned in class 1; box 1 counts in both classes
    assert found["scores"].tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert found["boxes"].tolist() == [[1, 0, 11, 10], [1, 0, 11, 10], [30, 30, 40, 40]]


def test_an_overlap_equal_to_the_threshold_stays():
    boxes = torch.tensor([[0.0, 0, 2, 1], [0.0, 0, 1, 1]])  # overlap exactly 1/2
    scores = torch.tensor([[0.9], [0.8]])
    assert len(class_wise_nms(boxes, scores, **{**PAPER, "iou_threshold": 0.5})["scores"]) == 2
    assert len(class_wise_nms(boxes, scores, **{**PAPER, "iou_threshold": 0.49})["scores"]) == 1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("before", "after"), [(400, 200), (10, 200), (400, 7), (5, 3)])
def test_random_candidates_equal_the_loop(seed, before, after):
    boxes, scores = random_candidates(seed)
    found = class_wise_nms(boxes, scores, score_threshold=0.3, iou_threshold=0.4, top_before=before, top_after=after)
    expected = nms_loop(boxes.tolist(), scores.tolist(), 0.3, 0.4, before, after)
    assert found["labels"].tolist() == [label for _, label, _ in expected]
    assert found["scores"].tolist() == pytest.approx([score for score, _, _ in expected])
    assert found["boxes"].tolist() == [boxes[a].tolist() for _, _, a in expected]


def test_a_box_for_each_class():
    boxes, scores = random_candidates(0, count=12)
    own = torch.stack([boxes, boxes + 100, boxes + 200], dim=1)  # (12, 3, 4)
    found = class_wise_nms(own, scores, **PAPER)
    offset = (found["labels"] - 1) * 100.0
    same = class_wise_nms(boxes, scores, **PAPER)
    torch.testing.assert_close(found["boxes"] - offset[:, None], same["boxes"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [0, 3])
def test_nothing_above_the_threshold(count):
    found = class_wise_nms(torch.rand(count, 4), torch.zeros(count, 5), **PAPER)
    assert found["boxes"].shape == (0, 4)
    assert found["scores"].shape == (0,)
    assert found["labels"].dtype == torch.int64


def test_one_candidate():
    found = class_wise_nms(torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[0.2, 0.005]]), **PAPER)
    assert (found["boxes"].tolist(), found["labels"].tolist()) == ([[1, 2, 3, 4]], [1])


def labelled(seed: int, count: int = 30) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    boxes, scores = random_candidates(seed, count)
    return boxes, scores[:, 0], (scores[:, 1] * 3).long() + 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [0, 1, 30])
def test_class_agnostic_nms_and_who_suppresses_equal_the_loops(seed, count):
    boxes, scores, labels = labelled(seed, count)
    found = class_agnostic_nms(boxes, scores, labels, 0.3)
    kept = agnostic_nms_loop(boxes.tolist(), scores.tolist(), 0.3)
    assert found["boxes"].tolist() == boxes[kept].tolist()
    assert found["labels"].tolist() == labels[kept].tolist()
    by = suppressors(boxes, scores, labels, 0.3)
    assert by.tolist() == suppressor_loop(boxes.tolist(), scores.tolist(), labels.tolist(), 0.3)


def test_of_equal_scores_the_first_stays_and_a_removed_box_removes_none():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    ones = torch.ones(4, dtype=torch.long)
    assert suppressors(boxes, torch.tensor([0.5, 0.5, 0.4, 0.3]), ones, 0.4).tolist() == [-1, 0, 0, -1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("least", [0.001, 0.3])
def test_soft_nms_of_all_classes_at_once_equals_the_loop_over_classes(seed, gaussian, least):
    boxes, scores, labels = labelled(seed)
    parameter = 0.5 if gaussian else 0.3
    decay = (gaussian_decay if gaussian else linear_decay)(parameter)
    expected = soft_nms_loop(boxes.tolist(), scores.tolist(), labels.tolist(), gaussian, parameter, least)
    found = soft_nms(boxes, scores, labels, decay, score_threshold=least)
    assert found["scores"].tolist() == pytest.approx([score for score, _ in expected], rel=1e-5)
    assert found["boxes"].tolist() == [boxes[a].tolist() for _, a in expected]
    assert found["labels"].tolist() == [int(labels[a]) for _, a in expected]
    few = soft_nms(boxes, scores, labels, decay, score_threshold=least, top_after=4)
    assert few["scores"].tolist() == found["scores"][:4].tolist()


def test_a_box_that_equals_a_better_one_loses_all_of_its_score_only_under_linear_decay():
    boxes, ones = torch.tensor([[0.0, 0, 4, 4]] * 3), torch.ones(3, dtype=torch.long)
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert soft_nms(boxes, scores, ones, linear_decay(0.3))["scores"].tolist() == pytest.approx([0.9])
    e = torch.e
    expected = [0.9, 0.8 * e**-2, 0.7 * e**-4]
    assert soft_nms(boxes, scores, ones, gaussian_decay(0.5))["scores"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("count", [0, 3])
def test_soft_nms_of_nothing_is_empty(count):
    labels = torch.ones(count, dtype=torch.long)
    found = soft_nms(torch.rand(count, 4), torch.zeros(count), labels, gaussian_decay())
    assert (found["boxes"].shape, found["scores"].shape, found["labels"].dtype) == ((0, 4), (0,), torch.int64)


def test_a_decay_without_width_is_refused():
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        gaussian_decay(0)
