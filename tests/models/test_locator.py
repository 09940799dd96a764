"""Class and box of one object: boxes by hand, losses by hand, which object counts, and that it can be learnt."""

import pytest
import torch
import torch.nn.functional as F

from lightning_cv.contracts import CandidateDetector
from lightning_cv.models import Locator, SmallBackbone
from lightning_cv.ops.box_losses import GIoULoss


def target(boxes, labels, difficult=None):
    return {
        "image_id": "one",
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.tensor(difficult or [False] * len(labels), dtype=torch.bool),
        "original_size": (64, 64),
    }


def tiny(**arguments):
    torch.manual_seed(0)
    return Locator(SmallBackbone(width=8, strides=(16,)), num_classes=3, grid=2, hidden=16, **arguments)


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (75, 101)])
def test_one_guess_an_image_which_is_the_best_candidate(per_class, height, width):
    net = tiny(per_class=per_class).eval()
    images = torch.rand(3, 3, height, width)
    boxes, scores = net.candidates(images)
    assert isinstance(net, CandidateDetector)
    assert scores.sum(dim=(1, 2)).tolist() == pytest.approx([1] * 3)
    for found, mine, own in zip(net.detect(images), boxes, scores, strict=True):
        assert found["scores"] == own.max()
        row, column = divmod(int(own.argmax()), 3)
        assert torch.equal(found["boxes"][0], mine[row])
        assert found["labels"].tolist() == [column + 1]


def test_a_box_head_of_zeros_says_the_middle_quarter():
    net = tiny()
    torch.nn.init.zeros_(net.box_head[-1].weight)
    torch.nn.init.zeros_(net.box_head[-1].bias)
    _, boxes = net(torch.rand(1, 3, 64, 96))
    assert boxes.tolist() == [[[24, 16, 72, 48]]]


def test_losses_by_hand():
    net = tiny(per_class=True).eval()
    images = torch.rand(2, 3, 64, 96)
    targets = [target([[0, 0, 48, 32]], [3]), target([], [])]
    logits, boxes = net(images)
    found = net.losses(images, targets)
    assert found["class"].item() == pytest.approx(-logits[0].log_softmax(0)[2].item(), rel=1e-5)
    away = boxes[0, 2] / torch.tensor([96, 64, 96, 64]) - torch.tensor([0, 0, 0.5, 0.5])
    expected = torch.where(away.abs() < 0.1, away**2 / 0.2, away.abs() - 0.05).sum() * 10
    assert found["box"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_largest_object_counts_that_is_neither_difficult_nor_a_crowd():
    net = tiny().eval()
    images = torch.rand(1, 3, 64, 64)
    several = target([[0, 0, 60, 60], [0, 0, 50, 50], [0, 0, 20, 20]], [1, 2, 3], [True, False, False])
    one = target([[0, 0, 20, 20]], [3])
    assert net.losses(images, [several])["class"] == net.losses(images, [target([[0, 0, 50, 50]], [2])])["class"]
    several["crowd"] = torch.tensor([False, True, False])
    assert net.losses(images, [several]) == net.losses(images, [one])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_images_without_an_object_give_no_loss_and_every_gradient(dtype):
    net = tiny()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        losses = net.losses(torch.rand(2, 3, 64, 64), [target([], []), target([[1, 1, 9, 9]], [1], [True])])
    assert [value.item() for value in losses.values()] == [0, 0]
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())


def test_boxes_may_be_compared_by_their_overlap():
    net = tiny(box_loss=GIoULoss()).eval()
    images = torch.rand(1, 3, 64, 64)
    _, boxes = net(images)
    same = target(boxes[0].tolist(), [1])
    assert net.losses(images, [same])["box"].item() == pytest.approx(0, abs=1e-4)


@pytest.mark.slow
def test_four_images_are_learnt():
    torch.manual_seed(0)
    net = Locator(SmallBackbone(width=16, strides=(16,)), num_classes=2, hidden=64)
    images = torch.full((4, 3, 64, 64), 0.5)
    targets = []
    for number, (x, y) in enumerate([(4, 8), (30, 6), (10, 34), (32, 30)]):
        images[number, number % 2, y : y + 20, x : x + 24] = 1.0
        targets.append(target([[x, y, x + 24, y + 20]], [1 + number % 2]))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        sum(net.losses(images, targets).values()).backward()
        optimizer.step()
    for found, true in zip(net.detect(images), targets, strict=True):
        assert found["labels"].tolist() == true["labels"].tolist()
        assert F.l1_loss(found["boxes"], true["boxes"]) < 3


@pytest.mark.parametrize("wrong", [{"grid": 0}, {"dropout": 1.0}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="Locator"):
        Locator(SmallBackbone(width=8), **({"num_classes": 2} | wrong))
