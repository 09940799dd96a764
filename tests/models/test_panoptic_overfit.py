"""Panoptic nets of experiments learn four drawn images by heart, from the file to panoptic quality."""

from pathlib import Path

import numpy as np
import pytest
import torch
from experiment_nets import build, net_block, small_experiments
from panoptic_nets import scenes

from lightning_cv.callbacks.panoptic import in_one_size
from lightning_cv.cli.experiments import experiment_name
from lightning_cv.contracts import PanopticNet
from lightning_cv.metrics.panoptic import PanopticQuality

STEPS = {"panoptic_fpn_drawn": 150, "panoptic_segformer_drawn": 300}
NETS = [path for path in small_experiments() if path.parent.name == "panoptic"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NETS, ids=experiment_name)
def test_four_images_are_learned_by_heart(path: Path) -> None:
    torch.manual_seed(0)
    net = build(net_block(path)).to(memory_format=torch.channels_last)
    assert isinstance(net, PanopticNet)
    images, targets = scenes()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1.5e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=STEPS[path.stem])
    for _ in range(STEPS[path.stem]):
        optimizer.zero_grad()
        torch.stack(list(net.losses(images, targets).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    net.eval()
    metric = PanopticQuality(np.arange(net.num_classes) < 10)
    for found, target in zip(net.segments(images), targets, strict=True):
        guess, truth = in_one_size(found, target)
        metric.update([guess], [truth], [target["image_id"]])
    assert metric.compute() >= 0.85
