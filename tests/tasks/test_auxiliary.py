"""SegModule with an auxiliary head: the loss it adds, where its gradient goes, and what does not know of it."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
import yaml
from jsonargparse import ArgumentParser
from oracles.toy_training import MASK_LABELS, ToyData, mask_batch, toy_trainer
from torch import nn

from lightning_cv.models import FCN, FPN, EncoderDecoder, SmallBackbone, TimmBackbone
from lightning_cv.models.segmentation import AuxiliaryHead, Bilinear
from lightning_cv.tasks import MultilabelSegModule, SegModule, Task
from lightning_cv.tools.export import exportable

SGD = partial(torch.optim.SGD, lr=0.1)
SMALL = {"width": 4, "blocks": [0, 1, 1, 0], "strides": [8, 16]}
NETS = {
    "stage of a backbone": (lambda: FCN(SmallBackbone(**SMALL), 2, 8), "backbone.stages.1", 8),
    "below a pyramid": (lambda: FCN(FPN(SmallBackbone(**SMALL), 6), 2, 8), "backbone.backbone.stages.1", 8),
    "timm": (lambda: FCN(TimmBackbone("resnet10t", (2, 3)), 2, 8), "backbone.features.layer2", 128),
    "another net": (lambda: EncoderDecoder(2, Bilinear, width=4, depth=2), "down.1", 8),
}


def pixel_net():
    """Two layers of one number each, that hand-made cases can follow: 3 channels, their sum a, logits (0, 2a)."""
    net = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.Conv2d(1, 2, 1, bias=False))
    nn.init.ones_(net[0].weight)
    net[1].weight.data[:] = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1)
    return net


class Scaled(AuxiliaryHead):
    """A head whose logits are (0, a) for a map of one channel a."""

    def __init__(self, weight):
        super().__init__("0", channels=1, num_classes=2, weight=weight)
        self.head = nn.Conv2d(1, 2, 1, bias=False)
        self.head.weight.data[:] = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)


def task_of(name, **options):
    torch.manual_seed(0)
    build, layer, channels = NETS[name]
    return SegModule(build(), SGD, auxiliary=AuxiliaryHead(layer, channels, 2), **options)


@pytest.mark.parametrize("weight", [0.4, 2.0])
def test_the_loss_is_the_nets_plus_the_weight_times_the_heads_by_hand(weight, tmp_path):
    task, batch = SegModule(pixel_net(), SGD, auxiliary=Scaled(weight)), mask_batch(0)
    task.trainer = toy_trainer(tmp_path)
    batch["images"][:] = 1 / 3  # a = 1
    terms = task.training_step(batch, 0)
    # half of the pixels that count are of class 1
    main = (F.softplus(torch.tensor(2.0)) + F.softplus(torch.tensor(-2.0))) / 2
    own = (F.softplus(torch.tensor(1.0)) + F.softplus(torch.tensor(-1.0))) / 2
    assert terms["loss_main"].item() == pytest.approx(main.item())
    assert terms["loss_auxiliary"].item() == pytest.approx(weight * own.item())
    assert terms["loss"].item() == pytest.approx((main + weight * own).item())
    terms["loss"].backward()
    # d(loss)/da: sigmoid(2a) - 1/2, times 2, and sigmoid(a) - 1/2, times the weight; each channel is a third of a
    expected = (2 * (torch.tensor(2.0).sigmoid() - 0.5) + weight * (torch.tensor(1.0).sigmoid() - 0.5)) / 3
    torch.testing.assert_close(task.net[0].weight.grad.flatten(), expected.expand(3))


def test_without_a_head_there_is_one_term(tmp_path):
    task = SegModule(pixel_net(), SGD)
    task.trainer = toy_trainer(tmp_path)
    assert set(task.training_step(mask_batch(0), 0)) == {"loss"}


@pytest.mark.parametrize("name", NETS)
def test_its_gradient_reaches_the_layer_and_what_lies_before_and_nothing_after(name):
    task = task_of(name)
    images, masks = torch.rand(2, 3, 64, 64), torch.randint(0, 2, (2, 64, 64))
    logits, auxiliary = task.auxiliary(task.net, images)
    assert auxiliary.shape == logits.shape == (2, 2, 64, 64)
    task._loss(auxiliary, masks).backward()
    layer = task.auxiliary.layer_of(task.net)
    assert all(parameter.grad is not None for parameter in task.auxiliary.parameters())
    assert all(parameter.grad is not None for parameter in layer.parameters())
    assert next(task.net.parameters()).grad.abs().sum() > 0  # the first layer
    last = task.net.scores if isinstance(task.net, FCN) else task.net.score
    assert all(parameter.grad is None for parameter in last.parameters())


def test_the_pass_is_the_nets_own():
    """One pass serves both: the logits are those of the net alone, and no hook stays."""
    task = task_of("stage of a backbone")
    images = torch.rand(2, 3, 64, 64)
    task.eval()
    logits, auxiliary = task.auxiliary(task.net, images)
    assert torch.equal(logits, task.net(images))
    maps = task.net.backbone(images)[0]  # stride 8 is stage 1
    expected = F.interpolate(task.auxiliary.head(maps), (64, 64), mode="bilinear")
    torch.testing.assert_close(auxiliary, expected)
    assert all(not module._forward_hooks for module in task.net.modules())


def test_evaluation_prediction_and_export_do_not_compute_it(monkeypatch, tmp_path):
    task = task_of("stage of a backbone")
    batch = mask_batch(0, size=32)
    trainer = toy_trainer(tmp_path, max_epochs=1)
    trainer.fit(task, datamodule=ToyData([batch], MASK_LABELS))
    plain = SegModule(task.net, SGD)

    def refuse(*given):
        raise AssertionError("the auxiliary head was run")

    monkeypatch.setattr(task.auxiliary, "forward", refuse)
    monkeypatch.setattr(task.auxiliary.head, "forward", refuse)
    (found,) = trainer.validate(task, datamodule=ToyData([batch], MASK_LABELS), verbose=False)
    (expected,) = toy_trainer(tmp_path).validate(plain, datamodule=ToyData([batch], MASK_LABELS), verbose=False)
    assert found == expected
    assert torch.equal(task.eval().predict_step(batch["images"]), plain.eval().predict_step(batch["images"]))
    subject = exportable(task.net, batch["images"])
    assert not any("auxiliary" in name for name in subject.module.state_dict())


def test_it_is_trained_saved_and_resumed_to_the_bit(tmp_path):
    def data():
        return ToyData([mask_batch(0, size=32), mask_batch(2, size=32)], MASK_LABELS)

    whole = task_of("stage of a backbone")
    whole.auxiliary.head[3].p = 0.0  # dropout draws from the global generator, which toy trainers do not keep
    before = {name: value.clone() for name, value in whole.auxiliary.state_dict().items()}
    toy_trainer(tmp_path, max_epochs=4).fit(whole, datamodule=data())
    assert all(not torch.equal(value, before[name]) for name, value in whole.auxiliary.state_dict().items())

    half, rest = task_of("stage of a backbone"), task_of("stage of a backbone")
    half.auxiliary.head[3].p = rest.auxiliary.head[3].p = 0.0
    trainer = toy_trainer(tmp_path, max_epochs=2)
    trainer.fit(half, datamodule=data())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    toy_trainer(tmp_path, max_epochs=4).fit(rest, datamodule=data(), ckpt_path=tmp_path / "half.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name


def test_lr_scales_reach_it():
    task = task_of("stage of a backbone", lr_scales={"auxiliary": 10.0})
    rates = {id(p): group["lr"] for group in task.configure_optimizers().param_groups for p in group["params"]}
    assert {rates[id(p)] for p in task.auxiliary.parameters()} == {1.0}
    assert {rates[id(p)] for p in task.net.parameters()} == {0.1}


def test_label_planes_have_it_too(tmp_path):
    task = MultilabelSegModule(pixel_net(), SGD, auxiliary=Scaled(0.4))
    task.trainer = toy_trainer(tmp_path)
    batch = mask_batch(0)
    batch["masks"] = torch.stack([batch["masks"], 1 - batch["masks"].clamp(max=1)], dim=1)
    terms = task.training_step(batch, 0)
    torch.testing.assert_close(terms["loss"], terms["loss_main"] + terms["loss_auxiliary"])


def test_settings_name_it_by_class_path():
    model = {
        "class_path": "lightning_cv.tasks.SegModule",
        "init_args": {
            "net": {
                "class_path": "lightning_cv.models.FCN",
                "init_args": {
                    "num_classes": 2,
                    "backbone": {"class_path": "lightning_cv.models.SmallBackbone", "init_args": SMALL},
                },
            },
            "auxiliary": {
                "class_path": "lightning_cv.models.segmentation.AuxiliaryHead",
                "init_args": {"layer": "backbone.stages.1", "channels": 8, "num_classes": 2, "weight": 0.5},
            },
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
        },
    }
    parser = ArgumentParser(exit_on_error=False, parser_mode="omegaconf+")
    parser.add_subclass_arguments(Task, "model")
    task = parser.instantiate(parser.parse_string(yaml.safe_dump({"model": model}))).model
    assert isinstance(task.auxiliary, AuxiliaryHead)
    assert task.auxiliary.weight == 0.5
    assert "auxiliary" not in task.hparams  # plain values only, so that checkpoints load safely


def test_a_layer_that_is_not_there_is_named_before_training():
    with pytest.raises(ValueError, match=r"FCN has no layer 'backbone.stage.1'; where it has no 'stage' it has norm"):
        SegModule(NETS["stage of a backbone"][0](), SGD, auxiliary=AuxiliaryHead("backbone.stage.1", 8, 2))
    with pytest.raises(ValueError, match="no layer '2'; where it has no '2' it has 0, 1"):
        SegModule(pixel_net(), SGD, auxiliary=AuxiliaryHead("2", 8, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("backbone.stages.1", 7, 2), r"must give one map \(N, 7, h, w\), got a tensor \(2, 8, 4, 4\)"),
        (("backbone", 8, 2), r"must give one map \(N, 8, h, w\), got a list"),
        (("dropout", 16, 3), "num_classes is 3, the net has 2 logits"),
        (("backbone.normalise.spare", 8, 2), "nothing: the net does not run it"),
    ],
)
def test_what_does_not_fit_the_layer_is_told_at_the_first_step(arguments, message):
    net = NETS["stage of a backbone"][0]()
    net.backbone.normalise.add_module("spare", nn.Identity())
    head = AuxiliaryHead(*arguments)
    with pytest.raises(ValueError, match=message):
        head(net, torch.rand(2, 3, 32, 32))
    assert all(not module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("options", [{"channels": 0}, {"num_classes": 0}, {"width": 0}, {"weight": 0.0}])
def test_odd_heads_are_refused(options):
    with pytest.raises(ValueError, match=r"AuxiliaryHead: .* must be"):
        AuxiliaryHead(**({"layer": "0", "channels": 8, "num_classes": 2} | options))
