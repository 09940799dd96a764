"""`--trainer.sync_batchnorm`: the nets are converted as Lightning does it, and a run on CPUs is refused in words."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from lightning_cv.cli.processes import SharedNorms
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


@pytest.mark.timeout(300)
def test_two_processes_without_gpus_are_refused_in_words(tmp_path):
    """torch has it for GPUs only: `SyncBatchNorm` would fail at the first step, DistributedDataParallel says so."""
    arguments = [
        "fit", "--config", "segmentation/fcn_drawn", "--trainer.sync_batchnorm=true", "--trainer.accelerator=cpu",
        "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.enable_progress_bar=false", "--data.train=8",
        "--data.val=4", "--data.test=4", "--data.batch_size=2",
    ]  # fmt: skip
    environment = os.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lightning_cv", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2
    assert "SyncBatchNorm layers only work with GPU modules" in done.stderr
    assert not list(tmp_path.glob("runs/*/*/*")), "an empty run folder stays"
