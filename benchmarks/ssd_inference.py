"""SSD300 from images to detections: ours beside torchvision's of the same layers, boxes and thresholds, in turn.

Both nets have the same weights (copied by order), biased so that, as after training, most boxes are background and some
of every class pass the threshold of 0.01. On a CPU: `python benchmarks/ssd_inference.py --batch 2 --pairs 5`.
"""

import argparse

import torch
from ssd_step import CLASSES, compare, scenes, theirs

from lightning_cv.models import SSD300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    net, other = SSD300(CLASSES).to(device).eval(), theirs().to(device).eval()
    with torch.no_grad():
        copy_weights(net, other)
    images, _ = scenes(arguments.batch, device)
    net.to(memory_format=torch.channels_last)
    with torch.no_grad():
        found, its = net.detect(images), other(list(images))
        print(f"detections of the first image: {len(found[0]['scores'])} and {len(its[0]['scores'])}")
        compare(
            "SSD300 inference with decoding and NMS",
            lambda: net.detect(images),
            lambda: other(list(images)),
            arguments.pairs,
            arguments.batch,
        )


def copy_weights(net: SSD300, other: torch.nn.Module) -> None:
    """torchvision's net gets ours; both list backbone, class head and box head in the same order, but for the scale."""
    ours = dict(net.named_parameters())
    for name, value in ours.items():
        if name.startswith("class_head") and name.endswith("bias"):
            value.view(-1, CLASSES + 1)[:, 0] += 6.0  # background
    backbone = [value for name, value in ours.items() if name.startswith("features.") and "norm4" not in name]
    parts = [
        ([ours["features.backbone.norm4.scale"], *backbone], other.backbone),
        (list(net.class_head.parameters()), other.head.classification_head),
        (list(net.box_head.parameters()), other.head.regression_head),
    ]
    for values, module in parts:
        for value, parameter in zip(values, module.parameters(), strict=True):
            parameter.copy_(value)


if __name__ == "__main__":
    main()
