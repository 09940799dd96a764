import pytest
import torch
from oracles.detection import nms_loop

from lightning_cv.ops.nms import class_wise_nms

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
