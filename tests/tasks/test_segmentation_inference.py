"""How SegModule looks at images once it is trained."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from lightning_cv.ops.dense_inference import Averaged, Tiles
from lightning_cv.tasks import MultilabelSegModule, SegModule


def task_with(inference, classes=3, kind=SegModule):
    torch.manual_seed(0)
    net = nn.Conv2d(3, classes, 3, padding=1)
    return kind(net, partial(torch.optim.SGD, lr=0.1), inference=inference)


@pytest.mark.parametrize(("kind", "classes"), [(SegModule, 3), (SegModule, 1), (MultilabelSegModule, 2)])
def test_one_look_predicts_what_the_net_says(kind, classes):
    images = torch.rand(2, 3, 8, 12)
    plain = task_with(None, classes, kind)
    once = task_with(Averaged((1.0,), flip=False), classes, kind)
    torch.testing.assert_close(once.predict_step(images), plain.predict_step(images))
    torch.testing.assert_close(once.probabilities(once.logits_of(images)), plain.probabilities(plain.net(images)))


def test_probabilities_are_averaged_not_logits():
    task = task_with(Averaged((1.0,)), classes=2)
    images = torch.rand(1, 3, 4, 4)
    plain, mirrored = task.net(images).softmax(1), task.net(images.flip(-1)).flip(-1).softmax(1)
    torch.testing.assert_close(task.probabilities(task.logits_of(images)), (plain + mirrored) / 2)


def test_tiles_and_training_do_not_meet():
    task = task_with(Tiles(4, 4))
    shapes, forward = [], task.net.forward

    def noted(images):
        shapes.append(tuple(images.shape[-2:]))
        return forward(images)

    task.net.forward = noted
    task.predict_step(torch.rand(1, 3, 8, 8))
    assert shapes == [(4, 4)] * 4
    shapes.clear()
    task.forward(torch.rand(1, 3, 8, 8))
    assert shapes == [(8, 8)]


@pytest.mark.slow
def test_a_test_may_look_otherwise_than_the_training_did(tmp_path):
    def lightning_cv(*arguments):
        environment = os.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "lightning_cv", *arguments, "--trainer.enable_progress_bar=false"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    small = ["--data.train=8", "--data.val=4", "--data.test=4", "--data.batch_size=4", "--trainer.max_epochs=1"]
    lightning_cv("fit", "--config", "segmentation/fcn_drawn", *small)
    (checkpoint,) = tmp_path.glob("runs/*/*/*/checkpoints/last.ckpt")
    averaged = ["--model.inference", "lightning_cv.ops.dense_inference.Averaged", "--model.inference.scales=[1.0,1.5]"]
    assert lightning_cv("test", "--ckpt", str(checkpoint)) != lightning_cv("test", "--ckpt", str(checkpoint), *averaged)
