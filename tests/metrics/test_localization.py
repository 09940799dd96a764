import math

import pytest
import torch
from oracles.detection import iou_of

from lightning_cv.metrics.localization import LocalizationAccuracy, localization, paired_iou

BOX = [0.0, 0.0, 4.0, 4.0]


def updated(metric, boxes, labels, true_boxes, true_labels, ids):
    metric.update(*map(torch.tensor, (boxes, labels, true_boxes, true_labels)), ids)
    return metric


def test_by_hand():
    boxes = [BOX, BOX, [0.0, 0.0, 4.0, 2.0], [8.0, 8.0, 9.0, 9.0]]
    metric = updated(LocalizationAccuracy(), boxes, [1, 2, 1, 1], [BOX] * 4, [1] * 4, list("abcd"))
    figures = metric.compute()
    assert figures.accuracy == 0.5  # IoU 0.5 is enough
    assert figures.class_accuracy == 0.75
    assert figures.mean_iou == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    stricter = updated(LocalizationAccuracy(iou=0.6), boxes, [1, 2, 1, 1], [BOX] * 4, [1] * 4, list("abcd"))
    assert stricter.compute().accuracy == 0.25


def test_an_image_passed_in_twice_counts_once():
    metric = updated(LocalizationAccuracy(), [BOX, BOX], [1, 2], [BOX, BOX], [1, 1], ["a", "b"])
    once = metric.compute()
    assert updated(metric, [BOX], [1], [BOX], [1], ["a"]).compute() == once
    assert len(metric.records) == 2


def test_overlaps_of_pairs_agree_with_the_loop():
    generator = torch.Generator().manual_seed(0)
    boxes, others = torch.randint(0, 12, (2, 200, 4), generator=generator).double()
    for part in (boxes, others):
        part[:, 2:] += part[:, :2]
    expected = [iou_of(a, b) for a, b in zip(boxes.tolist(), others.tolist(), strict=True)]
    assert paired_iou(boxes, others).tolist() == pytest.approx(expected)
    assert paired_iou(torch.zeros(0, 4), torch.zeros(0, 4)).tolist() == []
    assert paired_iou(torch.tensor([[4.0, 4, 0, 0]]), torch.tensor([BOX])).tolist() == [0]  # corners swapped


def test_nothing_seen():
    assert all(math.isnan(value) for value in localization([]))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="labels of 1 images must have shape \\(1,\\), got \\(2,\\)"):
        updated(LocalizationAccuracy(), [BOX], [1, 1], [BOX], [1], ["a"])
    with pytest.raises(ValueError, match="image b: the true box is empty"):
        updated(LocalizationAccuracy(), [BOX] * 2, [1] * 2, [BOX, [3.0, 3.0, 3.0, 5.0]], [1] * 2, ["a", "b"])
    with pytest.raises(ValueError, match="image a: the box is not of numbers"):
        updated(LocalizationAccuracy(), [[math.nan] * 4], [1], [BOX], [1], ["a"])
    with pytest.raises(ValueError, match="iou must be"):
        LocalizationAccuracy(iou=0)
