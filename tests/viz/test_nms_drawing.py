import numpy as np
import pytest
import torch

from lightning_cv.contracts import Candidates, LabelMap
from lightning_cv.ops.nms import linear_decay
from lightning_cv.viz.nms import best_candidates, iou_picture, nms_picture, overlap_and_nms_picture, soft_nms_picture

LABELS = LabelMap(("disc", "star"), 1, (1, 2))
IMAGE = torch.full((3, 100, 120), 0.5)
FOUND = {
    "boxes": torch.tensor([[10.0, 10, 50, 50], [12, 12, 52, 52], [70, 60, 110, 90]]),
    "scores": torch.tensor([0.9, 0.8, 0.6]),
    "labels": torch.tensor([1, 1, 2]),
}


def colours(drawn: np.ndarray) -> set[tuple[int, int, int]]:
    return {tuple(row) for row in drawn.reshape(-1, 3).tolist()}


def test_the_best_pairs_of_box_and_class_are_candidates():
    boxes = torch.arange(16.0).view(2, 2, 4)
    scores = torch.tensor([[[0.1, 0.9], [0.5, 0.4]], [[0.0, 0.0], [0.0, 0.0]]])
    found = best_candidates(Candidates(boxes, scores), 0, score_threshold=0.2, most=2)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.5])
    assert found["labels"].tolist() == [2, 1]
    assert found["boxes"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(best_candidates(Candidates(boxes, scores), 1, 0.2)["scores"]) == 0


def test_one_line_tells_of_each_box_that_removes_others_and_one_of_the_rest():
    apart = nms_picture(IMAGE, FOUND, 0.99, LABELS)  # none is removed
    together = nms_picture(IMAGE, FOUND, 0.5, LABELS)  # the first removes the second
    line = together.shape[0] - apart.shape[0]
    assert line > 0
    assert apart.shape[0] == 400 + 2 * line  # a heading and one line
    assert together.shape[1] == apart.shape[1] == 2 * 480 + 6


def test_no_candidates_give_the_bare_image_twice():
    none = {name: value[:0] for name, value in FOUND.items()}
    drawn = nms_picture(IMAGE, none, 0.5, LABELS)
    assert (drawn[-400:, :480] == 128).all()
    assert (drawn[-400:, -480:] == 128).all()


def test_a_weakened_box_loses_its_text():
    """Under linear decay the second box keeps 0.8 * (1 - IoU) = 0.14."""
    with_text = soft_nms_picture(IMAGE, FOUND, linear_decay(0.5), LABELS, score_threshold=0.1)
    without = soft_nms_picture(IMAGE, FOUND, linear_decay(0.5), LABELS, score_threshold=0.3)
    assert (with_text != without).any()


def test_what_two_boxes_share_is_filled():
    box = torch.tensor([10.0, 10, 110, 110])
    drawn = iou_picture(box, box + 50, side=200)[-200:]
    assert drawn[80, 80].tolist() == [255, 221, 150]
    assert drawn[40, 40].tolist() == drawn[140, 140].tolist() == [255, 255, 255]
    assert (255, 221, 150) not in colours(iou_picture(box, box + 100, side=300))


def test_the_figure_holds_both_topics():
    drawn = overlap_and_nms_picture(IMAGE, FOUND, 0.5, linear_decay(0.5), LABELS)
    assert drawn.shape[0] > 800
    assert (255, 221, 150) in colours(drawn)
