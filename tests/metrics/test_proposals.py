import numpy as np
import pytest
import torch
from oracles.detection import iou_of
from oracles.drawn_detections import draw_results
from oracles.proposals import coco_recall, greedy_recall

from lightning_cv.metrics.proposals import NEVER, THRESHOLDS, ProposalRecall, finding_ranks, proposal_recall
from lightning_cv.metrics.voc import ImageResult

BOX, FAR = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]


def target(image_id, boxes, difficult=None, size=(100, 100), **more):
    difficult = torch.tensor([False] * len(boxes) if difficult is None else difficult, dtype=torch.bool)
    return {"image_id": image_id, "boxes": torch.tensor(boxes).reshape(-1, 4), "difficult": difficult,
            "labels": torch.ones(len(boxes), dtype=torch.int64), "original_size": size} | more  # fmt: skip


def updated(metric, boxes, scores, *targets):
    metric.update([torch.tensor(boxes).reshape(-1, 4)], [torch.tensor(scores)], targets, (100, 100))
    return metric


def test_ranks_by_hand():
    boxes = np.array([[0, 0, 10, 6], [0, 0, 10, 10], [50, 50, 60, 59]], float)
    ranks = finding_ranks(boxes, np.array([BOX, FAR]), np.array([0.5, 0.8, 0.95]))
    assert ranks.tolist() == [[0, 2], [1, 2], [1, NEVER]]
    recall = proposal_recall([ranks], [1, 2, 3])
    assert recall.tolist() == [[0.5, 0.5, 1.0], [0.0, 0.5, 1.0], [0.0, 0.5, 0.5]]


def test_a_proposal_falls_back_on_an_object_still_free():
    boxes = np.array([BOX, BOX])
    assert finding_ranks(boxes, np.array([BOX, [2.0, 0.0, 12.0, 10.0]]), np.array([0.5])).tolist() == [[0, 1]]


def test_of_objects_overlapped_alike_the_last_is_taken_as_by_cocos_evaluation():
    boxes, wanted = np.array([[0.0, 0, 20, 10], [0, 0, 10, 10]]), np.array([[0.0, 0, 10, 10], [10, 0, 20, 10]])
    ranks = finding_ranks(boxes, wanted)
    assert ranks[0].tolist() == [1, 0]
    image = ImageResult(
        boxes, np.array([0.9, 0.8]), np.ones(2, np.int64), wanted, np.ones(2, np.int64), np.zeros(2, bool), (50, 50)
    )
    assert proposal_recall([ranks], [1, 2]) == pytest.approx(coco_recall([image], [1, 2]))


def test_empty_input():
    none = np.zeros((0, 4))
    assert finding_ranks(none, np.array([BOX])).tolist() == [[NEVER]] * 10
    assert finding_ranks(np.array([BOX]), none).shape == (10, 0)
    assert np.isnan(proposal_recall([], [10])).all()
    metric = updated(ProposalRecall(), [], [], target("a", [BOX]))
    assert metric.compute().average_recall.tolist() == [0, 0, 0, 0]


def test_drawn_proposals_agree_with_pycocotools_and_the_loop():
    rng = np.random.default_rng(2)
    for _ in range(15):
        images = draw_results(rng, 8, 1)
        ranks = []
        for image in images:
            order = np.argsort(-image.scores, kind="stable")
            wanted = image.true_boxes[~image.difficult]
            ranks.append(finding_ranks(image.boxes[order], wanted))
            for t, threshold in enumerate(THRESHOLDS):
                if len(wanted):
                    share = greedy_recall(image.boxes[order].tolist()[:3], wanted.tolist(), threshold, iou_of)
                    assert (ranks[-1][t] < 3).mean() == pytest.approx(share)
        limits = [1, 3, 5, 100]
        assert proposal_recall(ranks, limits) == pytest.approx(coco_recall(images, limits))


def test_the_metric_sorts_scales_skips_difficult_objects_and_counts_an_image_once():
    half_size = target("a", [[0.0, 0.0, 5.0, 5.0], FAR], [False, True], size=(200, 200))
    metric = updated(ProposalRecall(limits=[1, 2]), [FAR, [0.0, 0.0, 5.0, 5.0]], [0.1, 0.9], half_size)
    figures = metric.compute()
    assert figures.limits == (1, 2)
    assert figures.average_recall.tolist() == figures.recall_50.tolist() == [1, 1]
    crowd = target("b", [BOX, FAR], crowd=torch.tensor([True, False]))
    updated(metric, [BOX], [0.5], crowd)
    assert metric.compute().recall_50.tolist() == [0.5, 0.5]
    updated(metric, [BOX], [0.5], crowd)
    assert metric.compute().recall_50.tolist() == [0.5, 0.5]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="image x: need boxes"):
        updated(ProposalRecall(), [BOX], [float("nan")], target("x", [BOX]))
    with pytest.raises(ValueError, match="but 2 targets"):
        updated(ProposalRecall(), [BOX], [0.5], target("x", [BOX]), target("y", [BOX]))
    with pytest.raises(ValueError, match="limits"):
        ProposalRecall(limits=[0, 10])
