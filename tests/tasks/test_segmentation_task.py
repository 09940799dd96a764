"""SegModule with the losses a YAML can name: what it trains on, what it predicts, what its checkpoints hold."""

import pytest
import torch
import torch.nn.functional as F
import yaml
from jsonargparse import ArgumentParser
from oracles.toy_training import MASK_LABELS, ToyData, mask_batch, toy_trainer
from torch import nn

from lightning_cv.callbacks import SegmentationMetrics
from lightning_cv.checkpoints import load_checkpoint
from lightning_cv.contracts import LabelMap, SegmentationNet
from lightning_cv.ops.segmentation_losses import CrossEntropyLoss
from lightning_cv.tasks import SegModule, Task

OURS = "lightning_cv.ops.segmentation_losses."
SMP = "segmentation_models_pytorch.losses."
MULTICLASS = {"mode": "multiclass", "ignore_index": 255}

CE_AND_DICE = """
class_path: lightning_cv.ops.segmentation_losses.SumOfLosses
init_args:
  losses:
    - class_path: lightning_cv.ops.segmentation_losses.CrossEntropyLoss
      init_args: {class_weights: [1.0, 2.0]}
    - class_path: lightning_cv.ops.segmentation_losses.DiceLoss
  weights: [1.0, 0.5]
"""


def block(class_path, **arguments):
    return {"class_path": class_path, "init_args": arguments}


def pixel_net(classes):
    return block("torch.nn.Conv2d", in_channels=3, out_channels=classes, kernel_size=3, padding=1)


def task_of(loss=None, classes=2):
    """A `SegModule` from settings as a YAML holds them."""
    model = block(
        "lightning_cv.tasks.SegModule",
        net=pixel_net(classes),
        optimizer=block("torch.optim.SGD", lr=0.1),
        **({} if loss is None else {"loss": loss}),
    )
    parser = ArgumentParser(exit_on_error=False, parser_mode="omegaconf+")
    parser.add_subclass_arguments(Task, "model")
    torch.manual_seed(0)
    task = parser.instantiate(parser.parse_string(yaml.safe_dump({"model": model}))).model
    assert isinstance(task, SegModule)
    return task


def place_batch(first):
    """`mask_batch` with images that show where class 1 is."""
    batch = mask_batch(first)
    batch["images"][:, 0] = (batch["masks"] == 1).float()
    return batch


def fitted(task, folder, epochs=1):
    trainer = toy_trainer(folder, max_epochs=epochs, callbacks=[SegmentationMetrics()])
    trainer.fit(task, datamodule=ToyData([place_batch(0), place_batch(2)], MASK_LABELS))
    return trainer


def test_the_default_is_the_mean_cross_entropy_bit_for_bit():
    task, batch = task_of(), mask_batch(0)
    logits = task(batch["images"])
    total = F.cross_entropy(logits, batch["masks"], ignore_index=255, reduction="sum")
    expected = total / (batch["masks"] != 255).sum().clamp(min=1)
    loss = task._loss(logits, batch["masks"])
    assert torch.equal(loss, expected)
    ours = torch.autograd.grad(loss, task.net.weight, retain_graph=True)[0]
    assert torch.equal(ours, torch.autograd.grad(expected, task.net.weight)[0])
    assert set(task.state_dict()) == {"net.weight", "net.bias"}


LOSSES = [
    yaml.safe_load(CE_AND_DICE),
    block(OURS + "FocalLoss", gamma=2.0, alpha=[0.5, 1.0]),
    block(OURS + "LovaszLoss"),
    block(OURS + "TverskyLoss", alpha=0.3, beta=0.7),
    block("torch.nn.CrossEntropyLoss", ignore_index=255),
    block(SMP + "DiceLoss", **MULTICLASS),
    block(SMP + "JaccardLoss", **MULTICLASS),
    block(SMP + "TverskyLoss", **MULTICLASS),
    block(SMP + "FocalLoss", **MULTICLASS),
    block(OURS + "SumOfLosses", losses=[block(OURS + "CrossEntropyLoss"), block(SMP + "DiceLoss", **MULTICLASS)]),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss["class_path"].rpartition(".")[2])
def test_a_loss_by_class_path_fits_and_its_checkpoint_loads(loss, tmp_path):
    if SMP in str(loss):
        pytest.importorskip("segmentation_models_pytorch")
    task = task_of(loss)
    before = task._loss(task(place_batch(0)["images"]), place_batch(0)["masks"]).item()
    trainer = fitted(task, tmp_path, epochs=10)
    assert trainer.callback_metrics["val/loss"].item() < before
    assert trainer.callback_metrics["val/miou"].item() > 0.4
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    content = load_checkpoint(tmp_path / "one.ckpt")  # weights only
    assert set(content["state_dict"]) == {"net.weight", "net.bias"}
    assert "loss" not in content["hyper_parameters"]
    again = task_of(loss)
    again.on_load_checkpoint(content)
    again.load_state_dict(content["state_dict"])
    assert torch.equal(again.net.weight, task.net.weight)


@pytest.mark.parametrize("loss", [None, *LOSSES[:2]], ids=["default", "sum", "focal"])
def test_a_batch_of_void_leaves_the_net_as_it_is(loss, tmp_path):
    task, batch = task_of(loss), mask_batch(0)
    batch["masks"].fill_(255)
    before = task.net.weight.clone()
    toy_trainer(tmp_path).fit(task, datamodule=ToyData([batch], MASK_LABELS))
    assert torch.equal(task.net.weight, before)


def test_something_else_than_a_loss_is_refused():
    with pytest.raises(Exception, match="loss"):
        task_of(pixel_net(2))


def test_a_loss_sees_full_precision_under_autocast():
    class Seen(nn.Module):
        def forward(self, logits, masks):
            seen.append((logits.dtype, (logits[0, :, 0] @ logits[0, :, 0].T).dtype))
            return logits.sum()

    seen = []
    task, batch = SegModule(nn.Conv2d(3, 2, 1), torch.optim.SGD, loss=Seen()), mask_batch(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = task(batch["images"])
        task._loss(logits, batch["masks"])
    assert logits.dtype == torch.bfloat16
    assert seen == [(torch.float32, torch.float32)]


@pytest.mark.parametrize(
    "loss", [None, block(OURS + "DiceLoss"), block(OURS + "LovaszLoss")], ids=["default", "dice", "hinge"]
)
def test_one_logit_learns_two_classes(loss, tmp_path):
    task = task_of(loss, classes=1)
    trainer = fitted(task, tmp_path, epochs=40)
    assert trainer.callback_metrics["val/miou"].item() > 0.8
    found = task.predict_step(place_batch(0)["images"])
    assert found.dtype == torch.int64
    assert found.shape == (2, 16, 16)
    assert set(found.unique().tolist()) == {0, 1}
    assert torch.equal(found, (task(place_batch(0)["images"])[:, 0].sigmoid() > 0.5).long())


def test_one_logit_serves_two_classes_and_no_more():
    net = nn.Conv2d(3, 1, 1)
    net.num_classes = 1
    task = SegModule(net, torch.optim.SGD)
    task.check_classes(MASK_LABELS)
    three = LabelMap(("background", "disc", "star"), 0, (0, 1, 2))
    with pytest.raises(ValueError, match="num_classes is 1, but the data has 3"):
        task.check_classes(three)
    net.num_classes = 2
    with pytest.raises(ValueError, match="num_classes is 2, but the data has 3"):
        task.check_classes(three)


def test_a_net_that_does_not_say_its_classes_is_refused_by_its_logits():
    """As other libraries' nets are: torch's words would be "Target 2 is out of bounds"."""
    task, batch = task_of(), mask_batch(0)
    task.label_map = LabelMap(("background", "disc", "star"), 0, (0, 1, 2))
    with pytest.raises(ValueError, match=r"model.net gives 2 logits a pixel, but the data has 3 classes"):
        task.training_step(batch, 0)


def test_masks_of_several_labels_are_refused():
    """The losses take them; argmax, metrics and pictures would take them for something else."""
    task, batch = task_of(), mask_batch(0)
    labels = torch.stack([batch["masks"], batch["masks"]], dim=1)
    assert CrossEntropyLoss()(task(batch["images"]), labels).isfinite()
    with pytest.raises(ValueError, match=r"needs class masks \(N, H, W\), got \(2, 2, 16, 16\)"):
        task.training_step(batch | {"masks": labels}, 0)


class Untyped(nn.Conv2d):
    """As other libraries write their nets."""

    def forward(self, x):
        return super().forward(x)


def test_a_net_without_types_is_taken_and_one_without_a_forward_is_named():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=SegmentationNet)
    arguments = {"in_channels": 3, "out_channels": 2, "kernel_size": 1}
    net = {"class_path": f"{__name__}.Untyped", "init_args": arguments}
    SegModule(parser.instantiate(parser.parse_object({"net": net})).net, torch.optim.SGD)
    with pytest.raises(ValueError, match=r"Module is no SegmentationNet \(contracts\.py\): it has no forward"):
        SegModule(nn.Module(), torch.optim.SGD)
