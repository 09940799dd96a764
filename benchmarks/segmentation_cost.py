"""What the lecture's first two ideas of segmentation cost: a classifier at every pixel, and no down-sampling.

`windows`: `SlidingWindow` at steps 1, 2 and 4 beside the same `FullResolution` net over the whole image, untrained, of
11 classes, 16 channels and windows of 15 pixels. Multiply-adds are half of what torch's FlopCounterMode counts; seconds
are the process's own on one thread, the median of 3 after a first pass. The difference is the largest of all logits at
pixels that have a window of their own and lie at least half a window from the border, by the largest logit.

`memory`: one training step (cross-entropy, SGD) of one image, each in a process of its own: `FullResolution` of 7 and
of 19 3x3 convolutions beside `EncoderDecoder`, which has 19 too (bilinear upsampling, 4 pools), all with 16 channels at
the image's own size. "Kept" is exact and the same in each run: bytes of the distinct storages that autograd keeps from
the forward pass for the backward pass, without parameters. "Peak" is measured: how far the process's resident memory
rises during the step (Linux: VmHWM after a reset, less VmRSS before), with what the libraries take on top.

`python benchmarks/segmentation_cost.py` does both; `windows --sizes 64` and `memory --sizes 64 128` do less.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from lightning_cv.models import EncoderDecoder, FullResolution, SlidingWindow
from lightning_cv.models.segmentation import Bilinear

CLASSES, WIDTH, STEPS, REPEATS = 11, 16, (1, 2, 4), 3
SIZES = {"windows": (64, 128), "memory": (64, 128, 256, 512)}
NETS: dict[str, Callable[[], nn.Module]] = {
    "full resolution, 7 convolutions": lambda: FullResolution(CLASSES, WIDTH, depth=7),
    "full resolution, 19 convolutions": lambda: FullResolution(CLASSES, WIDTH, depth=19),
    "encoder-decoder, 19 convolutions": lambda: EncoderDecoder(CLASSES, Bilinear, WIDTH, depth=4),
}


def table(columns: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *rows])


def cpu_seconds(net: nn.Module, image: Tensor) -> float:
    """Of one pass over images (N, 3, H, W), the median of some."""
    times = []
    for _ in range(REPEATS):
        begun = time.process_time()
        net(image)
        times.append(time.process_time() - begun)
    return statistics.median(times)


def seconds_and_macs(net: nn.Module, image: Tensor) -> tuple[float, int]:
    """CPU-seconds of one pass and its multiply-adds."""
    with FlopCounterMode(display=False) as counter:
        net(image)
    return cpu_seconds(net, image), counter.get_total_flops() // 2


def windows(sizes: list[int]) -> str:
    """The table of windows."""
    torch.manual_seed(0)
    full = FullResolution(CLASSES, WIDTH).requires_grad_(False)
    full(torch.rand(4, 3, 64, 64))  # statistics of batches that are not 0 and 1
    full.eval()
    half, rows = full.window // 2, []
    for size in sizes:
        image = torch.rand(1, 3, size, size)
        whole, (seconds, macs) = full(image), seconds_and_macs(full, image)
        rows.append([str(size), "whole image", f"{macs / 1e9:.3f}", "1", f"{seconds:.3f}", "1", ""])
        for step in STEPS:
            net = SlidingWindow(full, step).eval()
            own = torch.arange(-(-half // step) * step, size - half, step)  # interior rows, or columns, with a window
            error = (net(image) - whole)[..., own[:, None], own].abs().max() / whole.abs().max()
            longer, more = seconds_and_macs(net, image)
            name = "every pixel" if step == 1 else f"every {step} pixels"
            cost = [f"{more / 1e9:.3f}", f"{more / macs:.1f}", f"{longer:.3f}", f"{longer / seconds:.1f}"]
            rows.append([str(size), f"window, {name}", *cost, f"{error:.0e}"])
    return table(["pixels a side", "form", "GMACs", "times", "seconds", "times", "difference"], rows)


def training_step(name: str, size: int) -> dict[str, int]:
    """Bytes that a net's step keeps for the backward pass and by which resident memory rises."""
    torch.manual_seed(0)
    net = NETS[name]()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    image, mask = torch.rand(1, 3, size, size), torch.randint(CLASSES, (1, size, size))
    parameters = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    kept: dict[int, int] = {}  # address -> bytes; none is freed before the backward pass

    def keep(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return saved

    def step(image: Tensor, mask: Tensor) -> None:
        optimizer.zero_grad()
        with saved_tensors_hooks(keep, lambda saved: saved):
            loss = F.cross_entropy(net(image), mask)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    step(image[..., :32, :32], mask[..., :32, :32])  # gradients and what libraries set up are there before
    kept.clear()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again at what is resident now
    before = resident("VmRSS")
    step(image, mask)
    return {"kept": sum(kept.values()), "peak": resident("VmHWM") - before}


def resident(field: str) -> int:
    """Bytes, of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) * 1024


def memory(sizes: list[int]) -> str:
    """The table of memory."""
    rows = []
    for size in sizes:
        row = [str(size)]
        for name in NETS:
            command = [sys.executable, __file__, "memory", "--sizes", str(size), "--one", name]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            row += [f"{found[key] / 2**20:.1f}" for key in ("kept", "peak")]
        rows.append(row)
    columns = [f"{name}: {word}, MiB" for name in NETS for word in ("kept", "peak")]
    return table(["pixels a side", *columns], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=SIZES, nargs="?", help="default: both")
    parser.add_argument("--sizes", type=int, nargs="+", help="default: 64 and 128 for windows, 64 to 512 for memory")
    parser.add_argument("--one", choices=NETS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.one:
        print(json.dumps(training_step(asked.one, asked.sizes[0])))
        return
    for part, run in (("windows", windows), ("memory", memory)):
        if asked.part in (None, part):
            print(run(asked.sizes or list(SIZES[part])), flush=True)
            print()


if __name__ == "__main__":
    main()
