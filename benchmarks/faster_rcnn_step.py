"""Faster R-CNN with ResNet-50-FPN: ours beside torchvision's of the same layers and settings, in turn, in one run.

A training step and a detection of the same images, random ones of a square size that neither net changes, with 1 to 6
objects of COCO's classes; the same samples a step, the same frozen layers. Our weights lie channels last, as our runs
have them; torchvision's as it is faster with, channels last or not, which is measured first. Detection is at the score
threshold of both, 0.05; how much each finds is printed, for the time that NMS takes depends on it. On a CPU, seconds
are the process's own on one thread. `python benchmarks/faster_rcnn_step.py --size 320 --batch 2 --pairs 3`.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from ssd_step import compare, scenes, timed, training
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops import FrozenBatchNorm2d

from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD
from lightning_cv.models.detection.torchvision import _AsTheyAre
from lightning_cv.tools.import_torchvision_detectors import build, net_block, our_names


def theirs(classes: int = 81) -> nn.Module:
    """torchvision's net for classes that include background; images keep their size."""
    net = FasterRCNN(_resnet_fpn_extractor(resnet50(norm_layer=FrozenBatchNorm2d), 3), classes)
    net.transform = _AsTheyAre(32)
    net.transform.image_mean, net.transform.image_std = IMAGENET_MEAN, IMAGENET_STD
    return net


LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def lay_out(net: nn.Module, work: Callable[[], object], timed: Callable[[Callable[[], object]], float]) -> str:
    """Lay a net's weights out as `work` takes less time, the better of two calls after one; the layout's name."""
    seconds = {}
    for name, layout in LAYOUTS.items():
        net.to(memory_format=layout)
        work()
        seconds[name] = min(timed(work) for _ in range(2))
    best = min(seconds, key=seconds.__getitem__)
    net.to(memory_format=LAYOUTS[best])
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    other, net = theirs(), build(net_block(with_masks=False))
    net.load_state_dict(our_names(other.state_dict(), range(1, 81)), strict=False)  # what is left normalises images
    net, other = net.to(device, memory_format=torch.channels_last).train(), other.to(device).train()
    torch.set_num_threads(1)
    images, targets = scenes(arguments.batch, device, arguments.size)
    plain = [{"boxes": target["boxes"], "labels": target["labels"]} for target in targets]
    its_time = partial(timed, device=device)
    step = training(other, lambda: other(list(images), plain))
    print(f"training: torchvision's {lay_out(other, step, its_time)}")
    compare(
        "Faster R-CNN training step",
        training(net, lambda: net.losses(images, targets)),
        step,
        arguments.pairs,
        arguments.batch,
    )
    net.eval(), other.eval()
    with torch.no_grad():
        print(f"detection: torchvision's {lay_out(other, lambda: other(list(images)), its_time)}")
        found = [sum(len(one["boxes"]) for one in some) for some in (net.detect(images), other(list(images)))]
        assert min(found) > 0, "nothing reaches NMS"
        print(f"detections: ours {found[0]}, torchvision's {found[1]}")
        compare(
            "Faster R-CNN detection",
            lambda: net.detect(images),
            lambda: other(list(images)),
            arguments.pairs,
            arguments.batch,
        )


if __name__ == "__main__":
    main()
