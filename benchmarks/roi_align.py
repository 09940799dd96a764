"""RoIAlign on a CPU and its gradient: ours beside torchvision's, of the same regions and maps, in turn, in one run.

As Faster R-CNN with a feature pyramid trains: 1,024 regions of two images, four maps of 256 channels, 7 x 7 cells of
four samples. Seconds are the process's own on one thread, the best of some calls; cells and gradients are compared.
`python benchmarks/roi_align.py`.
"""

import argparse
import time

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from lightning_cv.ops.roi import align_on_levels, pyramid_level, with_image_index

STRIDES = [4, 8, 16, 32]
CHANNELS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=1024)
    parser.add_argument("--size", type=int, default=320, help="of the images")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    maps = [torch.randn(2, CHANNELS, asked.size // s, asked.size // s, requires_grad=True) for s in STRIDES]
    corner = torch.rand(asked.regions, 2) * asked.size * 0.6
    boxes = torch.cat([corner, corner + 8 + torch.rand(asked.regions, 2) * asked.size * 0.4], dim=1)
    parts = list(boxes.tensor_split(2))
    regions = with_image_index(parts)
    pooler = MultiScaleRoIAlign([str(s) for s in STRIDES], 7, 2)
    last = [x.to(memory_format=torch.channels_last) for x in maps]  # as our nets have them
    named = {str(s): x for s, x in zip(STRIDES, maps, strict=True)}
    slopes = torch.randn(asked.regions, CHANNELS, 7, 7)

    def ours() -> Tensor:
        return align_on_levels(last, STRIDES, regions, pyramid_level(boxes, STRIDES), 7).contiguous()

    def theirs() -> Tensor:
        found: Tensor = pooler(named, parts, [(asked.size, asked.size)] * 2)
        return found

    found = {}
    for name, align in (("ours", ours), ("torchvision", theirs)):
        seconds = []
        for _ in range(asked.repeats):
            begun = time.process_time()
            cells = align()
            middle = time.process_time()
            gradients = torch.autograd.grad(cells, maps, slopes)
            seconds.append((middle - begun, time.process_time() - middle))
        found[name] = [cells.detach(), *gradients]
        forward, backward = (min(part) for part in zip(*seconds, strict=True))
        print(f"{name}: {1000 * forward:.0f} ms, gradient {1000 * backward:.0f} ms")
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


if __name__ == "__main__":
    main()
