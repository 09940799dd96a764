import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score

from lightning_cv.metrics.multilabel import MultilabelOverlap, counts_per_image, dice_per_label, iou_per_label


def test_by_hand():
    scores = torch.tensor([[[0.9, 0.9, 0.1, 0.1, 0.9]], [[0.9, 0.1, 0.1, 0.1, 0.1]]])  # two images, one label
    targets = torch.tensor([[[1, 0, 1, 0, 255]], [[1, 0, 0, 0, 255]]])
    by_image = counts_per_image(scores, targets)
    assert by_image.tolist() == [[[1, 1, 1]], [[1, 0, 0]]]
    counts = by_image.sum(0)
    assert iou_per_label(counts).item() == 0.5
    assert dice_per_label(counts).item() == pytest.approx(4 / 6)


def test_a_score_on_the_threshold_is_off_and_logits_have_theirs_at_zero():
    targets = torch.ones(1, 1, 2)
    assert counts_per_image(torch.tensor([[[0.5, 0.6]]]), targets).tolist() == [[[1, 0, 1]]]
    logits = torch.tensor([[[0.4, -0.4]]])
    assert (
        counts_per_image(logits, targets, threshold=0).tolist() == counts_per_image(logits.sigmoid(), targets).tolist()
    )


def test_random_labels_agree_with_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(4, 3, 9, 7, generator=generator)
    targets = torch.randint(0, 3, (4, 3, 9, 7), generator=generator)
    targets[targets == 2] = 255
    metric = MultilabelOverlap(3, threshold=0.3)
    for chosen in ([0], [1, 2, 3]):  # batches of other sizes than the data set
        metric.update(scores[chosen], targets[chosen], [str(number) for number in chosen])
    ious, dices = [], []
    for k in range(3):
        counted = targets[:, k] != 255
        truth, found = targets[:, k][counted].numpy(), (scores[:, k][counted] > 0.3).numpy()
        ious.append(jaccard_score(truth, found))
        dices.append(f1_score(truth, found))
    counts = metric.evaluate_once(metric.counts)
    assert iou_per_label(counts).tolist() == pytest.approx(ious)
    assert dice_per_label(counts).tolist() == pytest.approx(dices)
    overlap = metric.compute()
    assert [value.item() for value in overlap] == pytest.approx([sum(ious) / 3, sum(dices) / 3])


def test_a_label_that_is_never_on_is_left_out():
    metric = MultilabelOverlap(2)
    metric.update(torch.tensor([[[0.9], [0.1]]]), torch.tensor([[[True], [False]]]), ["a"])
    assert [value.item() for value in metric.compute()] == [1, 1]
    metric.reset()
    metric.update(torch.zeros(0, 2, 4), torch.zeros(0, 2, 4), [])
    assert metric.compute().iou.isnan()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="targets must be 0, 1 or 255, got \\[2\\]"):
        counts_per_image(torch.zeros(1, 1, 2), torch.tensor([[[2, 0]]]))
    with pytest.raises(ValueError, match="not a number"):
        counts_per_image(torch.full((1, 1, 2), float("nan")), torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match="shape"):
        counts_per_image(torch.zeros(1, 1, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="expected 1 labels"):
        MultilabelOverlap().update(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4), ["a", "b"])
    with pytest.raises(ValueError, match="num_labels"):
        MultilabelOverlap(0)
