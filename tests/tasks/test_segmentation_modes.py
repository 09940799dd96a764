"""Binary and multilabel segmentation where one class a pixel cannot be right, with answers known by hand."""

import pytest
import torch
from oracles.toy_training import MASK_LABELS, PLANE_LABELS, ToyData, mask_batch, plane_batch, toy_trainer
from torch import nn

from lightning_cv.callbacks import MultilabelMetrics, SegmentationMetrics
from lightning_cv.contracts import LabelMap
from lightning_cv.metrics.multilabel import MultilabelOverlap
from lightning_cv.ops.net_product import NetProduct, ScoreProduct
from lightning_cv.ops.segmentation_losses import DiceLoss, FocalLoss, LovaszLoss
from lightning_cv.tasks import MultilabelSegModule, SegModule

TWO = LabelMap(("disc", "star"), 1, (1, 2))
TWO_AND_GROUND = LabelMap(("background", "disc", "star"), 0, (0, 1, 2))


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.1)


def fitted(task, batch, label_map, folder, callback, epochs=60):
    trainer = toy_trainer(folder, max_epochs=epochs, check_val_every_n_epoch=epochs, callbacks=[callback])
    trainer.fit(task, datamodule=ToyData([batch], label_map))
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def square(size=16):
    """An image whose red channel shows a square of 8 x 8 pixels, and where it is."""
    inside = torch.zeros(1, size, size, dtype=torch.int64)
    inside[:, 4:12, 4:12] = 1
    images = torch.zeros(1, 3, size, size)
    images[:, 0] = inside
    return images, inside


@pytest.mark.parametrize("loss", [None, DiceLoss(), FocalLoss(), LovaszLoss()])
def test_two_labels_on_the_same_pixels_need_a_sigmoid_each(loss, tmp_path):
    images, inside = square()
    planes = torch.stack([inside, inside], dim=1)  # (1, 2, H, W): disc and star are the same square
    torch.manual_seed(0)
    several = MultilabelSegModule(nn.Conv2d(3, 2, 1), adam, loss=loss)
    batch = {"images": images, "masks": planes, "image_ids": ["a"]}
    assert fitted(several, batch, TWO, tmp_path, MultilabelMetrics())["val/iou"] == 1.0

    torch.manual_seed(0)
    one = SegModule(nn.Conv2d(3, 3, 1), adam, loss=loss)
    batch = {"images": images, "masks": inside * 2, "image_ids": ["a"]}  # the star is in front
    assert (
        fitted(one, batch, TWO_AND_GROUND, tmp_path, SegmentationMetrics())["val/miou"] > 0.6
    )  # all there is to learn
    found = one.predict_step(images)
    assert overlap(found, planes) == pytest.approx(0.5)


def overlap(class_masks, planes):
    """Mean IoU over two labels of class masks, 1 and 2, as label planes."""
    metric = MultilabelOverlap(2)
    metric.update(torch.stack([class_masks == 1, class_masks == 2], dim=1).float(), planes, ["a"])
    return metric.compute().iou.item()


def test_no_class_mask_at_all_is_better_than_a_half_there():
    """Of S pixels a and b are given to the labels, a + b <= S: the mean IoU is at most (a / S + b / S) / 2."""
    _, inside = square()
    planes = torch.stack([inside, inside], dim=1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        share = torch.rand((), generator=generator)
        split = 1 + (torch.rand(inside.shape, generator=generator) > share).long()
        assert overlap(inside * split, planes) <= 0.5 + 1e-6


def test_classes_that_share_their_votes_lose_to_the_ground(tmp_path):
    """Every pixel looks alike; 4 of 10 columns are ground, 2 each of three classes: 0.4 beats 0.2, 0.6 beats 0.4."""
    images = torch.ones(1, 3, 10, 10)
    classes = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 3, 3]).expand(1, 10, 10).contiguous()
    label_map = LabelMap(("background", "disc", "star", "ring"), 0, (0, 1, 2, 3))
    torch.manual_seed(0)
    four = SegModule(nn.Conv2d(3, 4, 1), adam)
    fitted(four, {"images": images, "masks": classes, "image_ids": ["a"]}, label_map, tmp_path, SegmentationMetrics())
    assert (four.predict_step(images) == 0).all()

    torch.manual_seed(0)
    one = SegModule(nn.Conv2d(3, 1, 1), adam)
    batch = {"images": images, "masks": (classes > 0).long(), "image_ids": ["a"]}
    figures = fitted(one, batch, MASK_LABELS, tmp_path, SegmentationMetrics(per_class=True))
    assert figures["val/iou_disc"] == pytest.approx(0.6)
    assert torch.sigmoid(one(images)).mean().item() == pytest.approx(0.6, abs=0.02)


def test_one_logit_trains_as_two_of_which_the_first_is_zero():
    batch = mask_batch(0)
    torch.manual_seed(0)
    one, two = SegModule(nn.Conv2d(3, 1, 3, padding=1), adam), SegModule(nn.Identity(), adam)
    logits = one(batch["images"])
    as_two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    losses = [one._loss(logits, batch["masks"]), two._loss(as_two, batch["masks"])]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    slopes = [torch.autograd.grad(loss, one.net.weight, retain_graph=True)[0] for loss in losses]
    assert torch.allclose(*slopes, atol=1e-7)
    assert torch.equal(one.predictions(logits), two.predictions(as_two))


def test_each_task_refuses_the_other_ones_masks():
    task = MultilabelSegModule(nn.Conv2d(3, 3, 1), adam)
    with pytest.raises(ValueError, match=r"needs label planes \(N, K, H, W\), got \(2, 16, 16\): class masks are for"):
        task.training_step(mask_batch(0), 0)
    with pytest.raises(ValueError, match=r"needs class masks \(N, H, W\), got \(2, 3, 16, 16\): label planes are for"):
        SegModule(nn.Conv2d(3, 3, 1), adam).training_step(plane_batch(0), 0)


def test_a_net_has_a_logit_for_each_label():
    net = nn.Conv2d(3, 4, 1)
    net.num_classes = 4
    with pytest.raises(ValueError, match="num_classes is 4, but the data has 3"):
        MultilabelSegModule(net, adam).check_classes(PLANE_LABELS)
    net.num_classes = 1
    with pytest.raises(ValueError, match="num_classes is 1, but the data has 2"):
        MultilabelSegModule(net, adam).check_classes(TWO)


def test_predictions_are_the_probability_of_each_label():
    task = MultilabelSegModule(nn.Conv2d(3, 3, 1), adam)
    nn.init.zeros_(task.net.weight)
    with torch.no_grad():
        task.net.bias.copy_(torch.tensor([0.0, 1.0986123, -1.0986123]))  # log 3
    scores = task.predict_step(torch.rand(2, 3, 4, 5))
    assert scores.shape == (2, 3, 4, 5)
    assert scores[1, :, 2, 2].tolist() == pytest.approx([0.5, 0.75, 0.25])


def test_void_of_one_label_leaves_the_others_to_count():
    task, batch = MultilabelSegModule(nn.Conv2d(3, 3, 1), adam), plane_batch(0)
    batch["masks"][:, 1] = 255
    loss = task._loss(task(batch["images"]), batch["masks"])
    slope = torch.autograd.grad(loss, task.net.bias)[0]
    assert slope[1] == 0
    assert (slope[[0, 2]] != 0).all()


def test_a_product_of_probabilities_is_refused_for_labels_that_overlap():
    """Logarithms of shares are below zero: no label would ever be there. Scores are not."""
    for product, told in (
        (NetProduct, "model.inference: NetProduct is for classes that exclude each"),
        (ScoreProduct, ""),
    ):
        task = MultilabelSegModule(nn.Conv2d(3, 2, 1), adam, inference=product(nn.Conv2d(3, 2, 1)))
        if told:
            with pytest.raises(ValueError, match=told):
                task.check_classes(TWO)
        else:
            task.check_classes(TWO)
