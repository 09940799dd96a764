"""Detectors of experiments learn four drawn images by heart, from the file to VOC's figure."""

from pathlib import Path

import pytest
import torch
from experiment_nets import build, net_block, small_experiments

from lightning_cv.cli.experiments import experiment_name
from lightning_cv.contracts import DetectionTarget, Detector
from lightning_cv.datasets.drawn import draw_scene
from lightning_cv.metrics.coco import mask_figures
from lightning_cv.metrics.detection import VOCMeanAP

STEPS, RATE = 250, 1e-3
OTHERS = {"sliding_window_drawn": (80, 5e-3)}
"""Steps and rate: each step classifies 68,136 windows, in a second on one core."""
NAMES = {
    "ssd_drawn", "ssd300_drawn", "ssd300_fpn_drawn", "ssd_focal_drawn", "fcos_drawn", "retinanet_drawn",
    "sliding_window_drawn", "fast_rcnn_drawn", "faster_rcnn_drawn", "mask_rcnn_drawn",
}  # fmt: skip
DETECTORS = [path for path in small_experiments() if path.stem in NAMES and path.parent.name != "segmentation"]


def scenes() -> tuple[torch.Tensor, list[DetectionTarget]]:
    drawn = [draw_scene(seed, size=128, max_objects=4) for seed in range(4)]
    images = torch.stack([torch.from_numpy(scene.image).permute(2, 0, 1) / 255 for scene in drawn])
    targets: list[DetectionTarget] = [
        {
            "image_id": str(number),
            "boxes": torch.as_tensor(scene.boxes, dtype=torch.float32),
            "labels": torch.as_tensor(scene.labels),
            "difficult": torch.zeros(len(scene.labels), dtype=torch.bool),
            "original_size": (128, 128),
            "masks": torch.as_tensor(scene.instance_masks),
        }
        for number, scene in enumerate(drawn)
    ]
    return images, targets


def test_all_are_there() -> None:
    assert sorted(path.stem for path in DETECTORS) == sorted(NAMES)


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes of a busy machine; by itself each takes one or two
@pytest.mark.parametrize("path", DETECTORS, ids=experiment_name)
def test_four_images_are_learned_by_heart(path: Path) -> None:
    torch.manual_seed(0)
    net = build(net_block(path)).to(memory_format=torch.channels_last)
    assert isinstance(net, Detector)
    images, targets = scenes()
    steps, rate = OTHERS.get(path.stem, (STEPS, RATE))
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack(list(net.losses(images, targets).values())).sum().backward()
        optimizer.step()
        schedule.step()
    net.eval()
    metric = VOCMeanAP(net.num_classes, masks=True)
    metric.update(net.detect(images), targets, images.shape[-2:])
    assert metric.compute() >= 0.95
    if path.stem == "mask_rcnn_drawn":
        assert mask_figures(list(metric.records.values()), net.num_classes).figures["AP50"] >= 0.9
