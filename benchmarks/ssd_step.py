"""A training step of SSD300: ours beside torchvision's of the same layers, boxes and losses, in turn, in one run.

Both get the same images and objects (VOC's 20 classes, random boxes) and a step of the same SGD. torchvision resizes
nothing, for images are of its size. On a CPU, seconds are the process's own on one thread, which other work on the
machine disturbs least. Below stands what the time goes into, from a profile of one more call: convolutions, which both
leave to the same library, other layers, and all else, which is ours: matching, losses, decoding, NMS, the optimizer.
`python benchmarks/ssd_step.py --batch 2 --pairs 5`.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD as TorchvisionSSD
from torchvision.models.detection.ssd import _vgg_extractor
from torchvision.models.vgg import vgg16

from lightning_cv.contracts import DetectionTarget
from lightning_cv.models import SSD300

SIZE, CLASSES = 300, 20


def theirs() -> TorchvisionSSD:
    """torchvision's SSD300 with the boxes and thresholds of the paper's VOC net."""
    ratios = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
    scales = [0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05]
    boxes = DefaultBoxGenerator(ratios, scales=scales, steps=[8, 16, 32, 64, 100, 300], clip=False)
    return TorchvisionSSD(
        _vgg_extractor(vgg16(weights=None), highres=False, trainable_layers=5), boxes, (SIZE, SIZE), CLASSES + 1,
        image_mean=[0.48235, 0.45882, 0.40784], image_std=[1 / 255] * 3, score_thresh=0.01, nms_thresh=0.45,
        detections_per_img=200, topk_candidates=400,
    )  # fmt: skip


def scenes(batch: int, device: str, size: int = SIZE) -> tuple[Tensor, list[DetectionTarget]]:
    """Images and, as in VOC, 1 to 6 objects in each."""
    generator = torch.Generator().manual_seed(0)
    targets: list[DetectionTarget] = []
    for index in range(batch):
        count = int(torch.randint(1, 7, (), generator=generator))
        corner = torch.rand(count, 2, generator=generator) * (size - 100)
        side = 20 + torch.rand(count, 2, generator=generator) * 80
        targets.append(
            {
                "image_id": str(index),
                "boxes": torch.cat([corner, corner + side], dim=1).to(device),
                "labels": torch.randint(1, CLASSES + 1, (count,), generator=generator).to(device),
                "difficult": torch.zeros(count, dtype=torch.bool, device=device),
                "original_size": (size, size),
            }
        )
    return torch.rand(batch, 3, size, size, generator=generator).to(device), targets


def training(net: nn.Module, losses: Callable[[], dict[str, Tensor]]) -> Callable[[], None]:
    """One step of the published optimizer; the rate is so small that the weights stay where they are."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-8, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        optimizer.zero_grad()
        torch.stack(list(losses().values())).sum().backward()
        optimizer.step()

    return step


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds of one call."""
    if device == "cpu":
        begun = time.process_time()
        work()
        return time.process_time() - begun
    torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def compare(what: str, ours: Callable[[], object], other: Callable[[], object], pairs: int, batch: int) -> None:
    """Both in turn, the order swapped each time; prints the medians and the median ratio."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    timed(ours, device), timed(other, device)  # warm up
    times = []
    for pair in range(pairs):
        first, second = (ours, other) if pair % 2 == 0 else (other, ours)
        a, b = timed(first, device), timed(second, device)
        times.append((a, b) if pair % 2 == 0 else (b, a))
    mine, its = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(b / a for a, b in times)
    print(
        f"{what}, batch {batch}, {device}: {batch / mine:.2f} images/s, "
        f"torchvision {batch / its:.2f}, ratio {ratio:.2f}"
    )
    for who, work, seconds in (("ours", ours, mine), ("torchvision's", other, its)):
        parts = [
            f"{what} {share:.0%} ({1000 * share * seconds:.0f} ms)" for what, share in shares(work, device).items()
        ]
        print(f"  {who}: {', '.join(parts)}")


LAYERS = {
    "convolutions": ("conv",),
    "other layers": ("relu", "threshold", "clamp_min", "max_pool", "batch_norm", "interpolate", "upsample"),
}
"""What the names of a kind's operations hold."""


def shares(work: Callable[[], object], device: str) -> dict[str, float]:
    """Share of one call's time in each kind of operation, their own time alone: on a GPU that of their kernels."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with profile(activities=activities) as profiled:
        work()
    times = dict.fromkeys([*LAYERS, "all else"], 0.0)
    for event in profiled.key_averages():
        if event.device_type != DeviceType.CPU:  # a kernel by itself, which counts for the operation that starts it
            continue
        kind = next((kind for kind, words in LAYERS.items() if any(word in event.key for word in words)), "all else")
        times[kind] += event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
    return {kind: spent / sum(times.values()) for kind, spent in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    net, other = SSD300(CLASSES).to(device), theirs().to(device)
    images, targets = scenes(arguments.batch, device)
    plain = [{"boxes": target["boxes"], "labels": target["labels"]} for target in targets]
    compare(
        "SSD300 training step",
        training(net.to(memory_format=torch.channels_last), lambda: net.losses(images, targets)),
        training(other, lambda: other(list(images), plain)),
        arguments.pairs,
        arguments.batch,
    )


if __name__ == "__main__":
    main()
