"""Every segmentation net of an experiment with one logit a pixel: it trains, and says object or background."""

import copy
from functools import partial

import pytest
import torch
from experiment_nets import build, net_block, small_experiments

from lightning_cv.cli.experiments import experiment_name
from lightning_cv.tasks import SegModule

NETS = [path for path in small_experiments() if path.parent.name == "segmentation" and "multilabel" not in path.stem]


def with_one_logit(block):
    """The same net for one class; its own or, in a sliding window, its inner net's."""
    changed = copy.deepcopy(block)
    arguments = changed["init_args"]
    inner = arguments if {"num_classes", "classes"} & set(arguments) else arguments["net"]["init_args"]
    inner["classes" if "classes" in inner else "num_classes"] = 1
    return changed


@pytest.mark.parametrize("path", NETS, ids=experiment_name)
def test_one_logit_is_trained_and_decides_at_zero(path):
    torch.manual_seed(0)
    net = build(with_one_logit(net_block(path))).eval()
    task = SegModule(net, partial(torch.optim.SGD, lr=0.1))
    images = torch.rand(1, 3, 128, 128)
    images[..., 64:] += 1.0
    masks = (images[:, 0] > 1).long()
    logits = task.logits_of(images)
    assert logits.shape == (1, 1, 128, 128)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], masks.float())
    loss = task.loss.forward(logits, masks)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in net.parameters())
    assert torch.equal(task.predict_step(images), (logits[:, 0] > 0).long())
