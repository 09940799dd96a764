import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import jaccard_score

from lightning_cv.metrics.segmentation import (
    SegmentationIoU,
    absent_classes,
    accuracy_per_class,
    confusion_matrix,
    dice_per_class,
    frequency_weighted_iou,
    iou_per_class,
    mean_class_accuracy,
    mean_iou,
    pixel_accuracy,
)


def test_by_hand():
    preds = torch.tensor([[0, 1], [1, 1]])
    targets = torch.tensor([[0, 0], [1, 255]])
    matrix = confusion_matrix(preds, targets, 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert iou_per_class(matrix)[:2].tolist() == [0.5, 0.5]
    assert iou_per_class(matrix)[2].isnan()
    assert mean_iou(matrix) == 0.5
    assert pixel_accuracy(matrix) == pytest.approx(2 / 3)


def test_random_masks_agree_with_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    preds = torch.randint(0, 5, (3, 20, 20), generator=generator)
    targets = torch.randint(0, 6, (3, 20, 20), generator=generator)
    targets[targets == 5] = 255
    counted = targets != 255
    truth, guess = targets[counted].numpy(), preds[counted].numpy()
    matrix = confusion_matrix(preds, targets, 5)
    assert np.array_equal(matrix.numpy(), sklearn_confusion(truth, guess, labels=range(5)))
    assert iou_per_class(matrix).numpy() == pytest.approx(jaccard_score(truth, guess, average=None))


def test_empty_and_one_pixel():
    empty = confusion_matrix(torch.zeros(0, 4, 4, dtype=torch.int64), torch.zeros(0, 4, 4, dtype=torch.int64), 2)
    assert empty.sum() == 0
    assert mean_iou(empty).isnan()
    assert mean_iou(confusion_matrix(torch.tensor([[1]]), torch.tensor([[1]]), 2)) == 1


def test_a_class_never_seen_is_left_out_but_a_missed_one_counts_zero():
    matrix = confusion_matrix(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1]), 3)
    assert mean_iou(matrix) == pytest.approx((0.75 + 0.0) / 2)


def test_an_absent_class_can_count_as_zero_like_in_the_devkit():
    matrix = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert mean_iou(matrix).item() == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert mean_iou(matrix, absent="zero").item() == pytest.approx((3 / 4 + 4 / 5) / 3)
    metric = SegmentationIoU(4, absent="zero")
    metric.update(torch.tensor([[[0]]]), torch.tensor([[[0]]]), ["a"])
    assert metric.compute() == 0.25
    assert mean_iou(torch.zeros(2, 2), absent="zero") == 0
    with pytest.raises(ValueError, match="absent must be"):
        SegmentationIoU(3, absent="nan")


def test_accuracies_and_weights_by_hand():
    matrix = torch.tensor([[3, 1, 0], [0, 4, 2], [0, 0, 0]])  # the last class is predicted, never true
    assert accuracy_per_class(matrix)[:2].tolist() == pytest.approx([3 / 4, 4 / 6])
    assert accuracy_per_class(matrix)[2].isnan()
    assert mean_class_accuracy(matrix).item() == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert dice_per_class(matrix).tolist() == pytest.approx([6 / 7, 8 / 11, 0])
    assert dice_per_class(torch.zeros(1, 1)).isnan()
    assert frequency_weighted_iou(matrix).item() == pytest.approx(0.4 * 3 / 4 + 0.6 * 4 / 7)
    assert absent_classes(matrix, ["a", "b", "c"]) == ["c"]
    for figure in (mean_class_accuracy, frequency_weighted_iou):
        assert figure(torch.zeros(3, 3)).isnan()
    with pytest.raises(ValueError, match="2 class names for a matrix of 3"):
        absent_classes(matrix, ["a", "b"])


def test_accuracies_agree_with_pixel_loops():
    generator = torch.Generator().manual_seed(1)
    preds = torch.randint(0, 5, (400,), generator=generator)
    targets = torch.randint(0, 4, (400,), generator=generator)  # class 4 is not in the truth
    pairs = list(zip(targets.tolist(), preds.tolist(), strict=True))
    shares, weighted = [], 0.0
    for k in range(4):
        mine = [guess for true, guess in pairs if true == k]
        either = [pair for pair in pairs if k in pair]
        shares.append(mine.count(k) / len(mine))
        weighted += len(mine) / len(pairs) * pairs.count((k, k)) / len(either)
    matrix = confusion_matrix(preds, targets, 5)
    assert accuracy_per_class(matrix)[:4].tolist() == pytest.approx(shares)
    assert mean_class_accuracy(matrix).item() == pytest.approx(sum(shares) / 4)
    assert frequency_weighted_iou(matrix).item() == pytest.approx(weighted)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_small_integer_masks_do_not_overflow(dtype):
    full = torch.full((8, 8), 20, dtype=dtype)
    assert confusion_matrix(full, full, 21)[20, 20] == 64


def test_bad_masks_are_named():
    with pytest.raises(ValueError, match="target mask holds \\[7\\]"):
        confusion_matrix(torch.tensor([0]), torch.tensor([7]), 3)
    with pytest.raises(ValueError, match="predicted mask holds \\[255\\]"):
        confusion_matrix(torch.tensor([255]), torch.tensor([1]), 3)
    with pytest.raises(ValueError, match="one shape"):
        confusion_matrix(torch.zeros(2, 2), torch.zeros(2, 3), 3)


def test_the_metric_sums_pixels_over_batches_of_any_size_and_forgets():
    metric = SegmentationIoU(2)
    metric.update(torch.zeros(1, 10, 10, dtype=torch.int64), torch.zeros(1, 10, 10, dtype=torch.int64), ["a"])
    metric.update(torch.zeros(1, 2, 1, dtype=torch.int64), torch.tensor([[[0], [1]]]), ["b"])
    assert metric.compute() == pytest.approx((101 / 102 + 0) / 2)
    metric.reset()
    assert metric.records == {}
    assert metric.matrix([]).sum() == 0
    with pytest.raises(ValueError, match="1 predictions, 1 truths and 2 image ids"):
        metric.update(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), ["a", "b"])


@pytest.mark.data
def test_the_expected_confusion_of_real_masks(shared_data):
    folder = shared_data / "golden_pred/VOC2007/Segmentation"
    expected = json.loads((folder / "expected.json").read_text())
    metric = SegmentationIoU(21)
    for path in sorted((folder / "comp5_test_cls").glob("*.png")):
        truth = Image.open(shared_data / "VOCdevkit/VOC2007/SegmentationClass" / path.name)
        guess, true = (torch.from_numpy(np.array(image))[None] for image in (Image.open(path), truth))
        metric.update(guess, true, [path.stem])
    matrix = metric.evaluate_once(metric.matrix)
    assert matrix.tolist() == expected["confusion"]
    assert metric.compute().item() == pytest.approx(expected["miou_over_present"], abs=1e-6)
    assert pixel_accuracy(matrix).item() == pytest.approx(expected["pixel_acc"], abs=1e-6)
    assert mean_iou(matrix, "zero").item() == pytest.approx(expected["miou_over_21"], abs=1e-6)
    assert iou_per_class(matrix).tolist() == pytest.approx(expected["iou"], abs=1e-6)
    assert mean_class_accuracy(matrix).item() == pytest.approx(expected["mean_class_acc"], abs=1e-6)
    assert absent_classes(matrix, [str(k) for k in range(21)]) == ["13"]
