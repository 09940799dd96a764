"""What it costs to look everywhere: all boxes of a picture, a detector's sliding windows, and two ways to run it.

The net is that of `detection/sliding_window_drawn`, untrained, on pictures of noise. "All boxes" are those of whole
pixels, H (H + 1) / 2 * W (W + 1) / 2: of 800 x 600 there are 57.8 thousand million; the lecture's slides say 58
million, which is off by a thousand. "Windows" are those that the net looks at.

Seconds are the process's own on one thread, for all windows of one picture up to their logits, without NMS. "As a
convolution" is the median of 3 passes after a first one. "Crop by crop" cuts each window out of the resized picture
and classifies up to 1024 together, once. Of a picture with more than `--crops` windows at most that many are
classified, equally many of each level and spread evenly over it; these stand for the rest of their level, and the table
says "about".

`python benchmarks/sliding_window_cost.py` does 128 x 128 and 800 x 600; `--sizes 64x48` does others, width first.
"""

import argparse
import time

import torch
import torch.nn.functional as F
from segmentation_cost import cpu_seconds, table
from torch import Tensor

from lightning_cv.cli.experiments import find_experiment, read_yaml
from lightning_cv.models import CropClassifier, SlidingWindowDetector
from lightning_cv.models.detection.sliding_window import Level
from lightning_cv.ops.windows import number_of_boxes

EXPERIMENT = "detection/sliding_window_drawn"
AT_ONCE = 1024


def detector() -> SlidingWindowDetector:
    """The experiment's net."""
    settings = read_yaml(find_experiment(EXPERIMENT))["model"]["init_args"]["net"]["init_args"]
    classifier = CropClassifier(**settings.pop("net")["init_args"])
    return SlidingWindowDetector(classifier, **settings).requires_grad_(False).eval()


def crop_by_crop(net: SlidingWindowDetector, image: Tensor, most: int) -> float:
    """CPU-seconds of all windows of an image (1, 3, H, W), of each level those of `most` of its own in proportion."""
    seconds = 0.0
    for level in net.levels(*image.shape[-2:]):
        count = level.down * level.across
        begun = time.process_time()
        resized = F.interpolate(image, (level.height, level.width), mode="bilinear", align_corners=False)
        ready = time.process_time()
        taken = torch.linspace(0, count - 1, min(count, most)).long()
        for places in torch.split(taken, AT_ONCE):
            net.net(cut_out(net, resized, level, places))
        seconds += ready - begun + (time.process_time() - ready) * count / len(taken)
    return seconds


def cut_out(net: SlidingWindowDetector, resized: Tensor, level: Level, places: Tensor) -> Tensor:
    """Crops (P, 3, w, w) of a level's picture, whose places (P,) are counted row by row."""
    side, step = net.net.window, net.net.step
    crops = resized[0].unfold(1, side, step).unfold(2, side, step).permute(1, 2, 0, 3, 4)  # (h, v, 3, w, w)
    return crops[places // level.across, places % level.across]


def row(net: SlidingWindowDetector, height: int, width: int, crops: int) -> list[str]:
    """Of the table."""
    image, windows, levels = torch.rand(1, 3, height, width), net.crops(height, width), net.levels(height, width)
    is_sampled = windows > crops
    net(image)  # warms up
    together = cpu_seconds(net, image)
    single = crop_by_crop(net, image, max(1, crops // len(levels)) if is_sampled else windows)
    about = "about " if is_sampled else ""
    return [
        f"{width} x {height}",
        f"{number_of_boxes(height, width):,}",
        f"{windows:,}",
        f"{about}{single:.1f}",
        f"{together:.2f}",
        f"{about}{single / together:.1f}",
    ]


def size(text: str) -> tuple[int, int]:
    """Width and height of "800x600"."""
    width, height = (int(side) for side in text.split("x"))
    return width, height


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=size, nargs="+", default=[(128, 128), (800, 600)], help="such as 800x600")
    parser.add_argument("--crops", type=int, default=20_000, help="to classify one by one at most, of a picture")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = detector()
    columns = ["picture", "all boxes", "windows", "crop by crop, s", "as a convolution, s", "times"]
    rows = [row(net, height, width, asked.crops) for width, height in asked.sizes]
    print(table(columns, rows))


if __name__ == "__main__":
    main()
