"""Segmentation nets of experiments learn four drawn images by heart, from the file to the metric."""

from pathlib import Path
from typing import Any

import pytest
import torch
from experiment_nets import build, net_block, small_experiments
from torch import Tensor

from lightning_cv.cli.experiments import experiment_name
from lightning_cv.datasets.drawn import DrawnLabels, draw_scene, scene_seed
from lightning_cv.metrics.multilabel import MultilabelOverlap
from lightning_cv.metrics.segmentation import SegmentationIoU
from lightning_cv.models import SlidingWindow
from lightning_cv.ops.segmentation_losses import CrossEntropyLoss, predict_masks

COARSE = ("fcn_drawn", "binary_drawn", "multilabel_drawn", "smp_deeplabv3plus_drawn")
SIZES = {"deconvnet_drawn": 128, "fcn16s_vgg_drawn": 128, **dict.fromkeys(COARSE, 96)}
"""Pixels a side where 64 are too few: for the four cells of DeconvNet's fc6, and for maps of fewer cells."""
RATES = {"deconvnet_drawn": 2e-2, "fcn32s_vgg_drawn": 1e-3}
"""Where 1e-2 is not the rate: FCN-32s, whose only way to the pixels is through all of VGG, loses its ReLUs at it."""
LEFT_OUT = {
    "fcn_auxiliary_drawn": "the net of fcn_drawn",
    "deconvnet_stage2_drawn": "the net of deconvnet_stage1_drawn",
}
IDS = list("0123")
NETS = [path for path in small_experiments() if path.match("segmentation/*_drawn.yaml") and path.stem not in LEFT_OUT]
UPSAMPLERS = ["Nearest", "BedOfNails", "MaxUnpool", "Bilinear", "PixelShuffle"]


def scenes(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images (4, 3, size, size), class masks (4, size, size), label planes (4, 10, size, size)."""
    drawn = [draw_scene(scene_seed(0, "train", number), size) for number in range(4)]
    planes = [sample["mask"] for sample in map(DrawnLabels("train", 4, size=size).__getitem__, range(4))]
    images = torch.stack([torch.from_numpy(scene.image).permute(2, 0, 1) / 255 for scene in drawn])
    masks = torch.stack([torch.from_numpy(scene.class_mask).long() for scene in drawn])
    return images, masks, torch.stack([torch.from_numpy(plane).permute(2, 0, 1).long() for plane in planes])


def learn_by_heart(block: dict[str, Any], name: str) -> float:
    """The mean IoU after training on the four images that it is measured on."""
    torch.manual_seed(0)
    net = build(block).to(memory_format=torch.channels_last)
    images, masks, planes = scenes(SIZES.get(name, 64))
    truth = {"multilabel_drawn": planes, "binary_drawn": (masks > 0).long()}.get(name, masks)
    sparse = "BedOfNails" in str(block)  # maps that are mostly zeros
    rate = RATES.get(name, 2e-2 if sparse else 1e-2)
    steps = 900 if name == "deconvnet_drawn" else 500
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    loss = CrossEntropyLoss(weights(masks) if truth is masks else None)
    for _ in range(steps):
        optimizer.zero_grad()
        if isinstance(net, SlidingWindow):  # the windows' own pixels, other ones each time
            down, across = (int(torch.randint(net.step, ())) for _ in "yx")
            logits, wanted = net(images[..., down:, across:]), truth[..., down:, across:]
            logits, wanted = logits[..., :: net.step, :: net.step], wanted[..., :: net.step, :: net.step]
        else:
            logits, wanted = net(images), truth
        loss(logits, wanted).backward()
        optimizer.step()
        schedule.step()
    net.eval()
    if isinstance(net, SlidingWindow):
        net.step = 1  # of its own edges, which larger steps make coarse
    with torch.no_grad():
        logits = net(images)
    if truth is planes:
        overlap = MultilabelOverlap(planes.shape[1])
        overlap.update(logits.sigmoid(), planes, IDS)
        return overlap.compute().iou.item()
    metric = SegmentationIoU(11)
    metric.update(predict_masks(logits), truth, IDS)
    return metric.compute().item()


def weights(masks: Tensor) -> list[float]:
    """Of classes, by the root of how rare they are: the smallest objects are learned as soon as the ground is."""
    pixels = torch.bincount(masks.flatten(), minlength=11)
    return (masks.numel() / (11 * pixels.clamp(min=1))).sqrt().tolist()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NETS, ids=experiment_name)
def test_four_images_are_learned_by_heart(path: Path) -> None:
    assert learn_by_heart(net_block(path), path.stem) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_with_every_other_upsampler(upsampler: str) -> None:
    block = net_block(next(path for path in NETS if path.stem == "encoder_decoder_drawn"))
    block["init_args"]["upsample"] = {"class_path": f"lightning_cv.models.segmentation.{upsampler}"}
    assert learn_by_heart(block, "encoder_decoder_drawn") >= 0.95
