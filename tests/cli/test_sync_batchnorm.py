"""`--trainer.sync_batchnorm`: the nets are converted as Lightning does it, and a run on CPUs is refused in words."""

from functools import partial

import pytest
import torch
from torch import nn

from lightning_cv.cli import main
from lightning_cv.cli.processes import SharedNorms, plugins
from lightning_cv.errors import UserError
from lightning_cv.models import FCN, DeconvNet, EncoderDecoder, SmallBackbone, TimmBackbone
from lightning_cv.models.segmentation import AuxiliaryHead, Bilinear
from lightning_cv.tasks import SegModule

NETS = {
    "FCN": (lambda: FCN(SmallBackbone(width=4, blocks=(0, 1, 1, 0), strides=(8, 16)), 3, 8), "backbone.stages.1", 8),
    "EncoderDecoder": (lambda: EncoderDecoder(3, Bilinear, width=4, depth=2), "down.1", 8),
    "DeconvNet": (lambda: DeconvNet(3, width=4, hidden=16, kernel=1), None, 0),
}


@pytest.mark.parametrize("name", NETS)
def test_every_batch_norm_is_converted_and_says_the_same_in_one_process(name):
    build, layer, channels = NETS[name]
    torch.manual_seed(0)
    head = None if layer is None else AuxiliaryHead(layer, channels, 3)
    task = SegModule(build(), partial(torch.optim.SGD, lr=0.1), auxiliary=head)
    images = torch.rand(2, 3, 32, 32)
    norms = [key for key, module in task.named_modules() if isinstance(module, nn.BatchNorm2d)]
    before = {key: value.clone() for key, value in task.state_dict().items()}
    with torch.no_grad():
        expected = task.eval().net(images)
    converted = SharedNorms().apply(task)
    assert converted is task
    assert norms
    assert [key for key, module in task.named_modules() if isinstance(module, nn.SyncBatchNorm)] == norms
    assert not any(isinstance(module, nn.BatchNorm2d) for module in task.modules())
    assert all(torch.equal(value, before[key]) for key, value in task.state_dict().items())
    with torch.no_grad():
        assert torch.equal(task.eval().net(images), expected)
    task.train().net(images)  # alone, there is nobody to meet
    if head is not None:
        task.auxiliary(task.net, images)


@pytest.mark.slow
def test_activations_within_norms_and_frozen_norms_stay():
    """timm's EfficientNet-Lite0 has its activations in its batch norms; frozen, these keep their statistics."""
    torch.manual_seed(0)
    net = TimmBackbone("tf_efficientnet_lite0", [2, 3], freeze_norm=True)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = net(images)
        SharedNorms().apply(net).train()
        for one, other in zip(net(images), expected, strict=True):
            assert torch.equal(one, other)
    norms = [module for module in net.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert norms
    assert not any(norm.training for norm in norms)


def test_several_processes_without_gpus_are_refused_before_they_start(tmp_path, monkeypatch, capsys):
    """torch has it for GPUs only: one process would fail and the other might wait for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    arguments = ["fit", "--config", "segmentation/fcn_drawn", "--trainer.sync_batchnorm=true"]
    assert main([*arguments, "--trainer.accelerator=cpu", "--trainer.devices=2"]) == 2
    assert "trainer.sync_batchnorm needs GPUs" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*/*/*"))


@pytest.mark.parametrize("devices", ["auto", 1, "1"])
def test_one_process_has_nobody_to_share_with(devices):
    settings = {"sync_batchnorm": True, "devices": devices, "num_nodes": 1, "accelerator": "cpu"}
    (plugin,) = plugins(settings)
    assert isinstance(plugin, SharedNorms)
    assert plugins(settings | {"sync_batchnorm": False}) == []
    with pytest.raises(UserError, match="needs GPUs"):
        plugins(settings | {"num_nodes": 2})
