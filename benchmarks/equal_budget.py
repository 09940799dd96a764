"""Every small experiment of a folder, trained from scratch with the same amount of computing: one table.

    python benchmarks/equal_budget.py detection --folder FOLDER

A budget is in CPU seconds of one process with one thread: training and reading, without validation and test. 1,200 are
ten minutes of two cores. Seconds of a clock would tell more of the machine's other work than of the nets. A few steps
tell the pace, which gives the number of steps that fit; the learning rate's schedule ends with the last of them. Then
the run is tested as always, and the net's speed is that of single images: CPU seconds again, threads again one.

Each system's figures are kept in FOLDER as soon as it is done, and a later call goes on with those that are missing.
Nothing of other commits is mixed in: remove the file of a system to measure it again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lightning_cv.cli.fit import launch
from lightning_cv.cli.predictor import load_model

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
FIGURES = {
    "detection": {"test/map_50": "mAP@0.5", "test/map": "mAP@[.5:.95]"},
    "segmentation": {"test/miou": "mIoU"},
}
SIZE, WARM, PACE, IMAGES = 128, 40, 120, 60
ALONE = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--data.num_workers=0"]


class Pace(Callback):
    """Notes the CPU seconds of training steps after the first few."""

    begun: ClassVar[float] = 0.0
    seconds: ClassVar[float] = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == WARM:
            type(self).begun = time.process_time()
        if trainer.global_step == PACE:
            type(self).seconds = (time.process_time() - self.begun) / (PACE - WARM)


class Spent(Callback):
    """Notes the CPU seconds from the first batch to the end of the training."""

    begun: ClassVar[float] = 0.0
    seconds: ClassVar[float] = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        type(self).begun = time.process_time()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        type(self).seconds = time.process_time() - self.begun


def run(experiment: str, runs: Path, steps: int, callback: type[Callback]) -> Path:
    """A training of so many steps without validation; its folder."""
    asked = [f"--trainer.max_steps={steps}", "--trainer.max_epochs=-1", "--trainer.limit_val_batches=0"]
    noting = [f"--trainer.callbacks+=equal_budget.{callback.__name__}"]
    return launch("fit", ["--config", experiment, "--runs", str(runs), *asked, *ALONE, *noting]).run_dir


def measure(experiment: str, folder: Path, budget: float) -> dict[str, object]:
    """Figures of one system, in this process."""
    import equal_budget  # the module that the command line imports by this name, with classes of its own

    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
    torch.set_num_threads(1)
    run(experiment, folder / "pace", PACE, equal_budget.Pace)
    steps = int(budget / equal_budget.Pace.seconds)
    trained = run(experiment, folder / "runs", steps, equal_budget.Spent)
    checkpoint = trained / "checkpoints" / "last.ckpt"
    found = launch("test", ["--ckpt", str(checkpoint), *ALONE]).metrics
    net = load_model(checkpoint).task.net
    return {
        "steps": steps,
        "cpu_seconds": equal_budget.Spent.seconds,
        "parameters": sum(weight.numel() for weight in net.parameters()),
        "gmacs": multiply_adds(net) / 1e9,
        "images_per_cpu_second": images_per_second(net),
    } | {key: found[key] for key in FIGURES[experiment.split("/")[0]]}


def use(net: nn.Module, images: torch.Tensor) -> None:
    """What the net is there for."""
    if hasattr(net, "detect"):
        net.detect(images)
    else:
        net(images)


@torch.inference_mode()
def multiply_adds(net: nn.Module) -> float:
    """Of the convolutions and matrix products for one image."""
    with FlopCounterMode(display=False) as counter:
        use(net, torch.rand(1, 3, SIZE, SIZE))
    return counter.get_total_flops() / 2


@torch.inference_mode()
def images_per_second(net: nn.Module) -> float:
    """One by one, decoding and NMS included."""
    images = torch.rand(IMAGES, 1, 3, SIZE, SIZE)
    for image in images[:10]:
        use(net, image)
    begun = time.process_time()
    for image in images:
        use(net, image)
    return IMAGES / (time.process_time() - begun)


def table(kind: str, folder: Path) -> str:
    """The systems that are measured, best first, in Markdown."""
    figures = FIGURES[kind]
    rows = [(place.stem, json.loads(place.read_text())) for place in sorted(folder.glob("*.json"))]
    rows.sort(key=lambda row: -row[1][next(iter(figures))])
    lines = [
        "| experiment | steps | parameters | GMACs | images/s of a core | " + " | ".join(figures.values()) + " |",
        "| --- " * (5 + len(figures)) + "|",
    ]
    for name, one in rows:
        shown = [f"{one[key]:.3f}" for key in figures]
        lines.append(
            f"| `{name}` | {one['steps']:,} | {one['parameters']:,} | {one['gmacs']:.2f} | "
            f"{one['images_per_cpu_second']:.0f} | " + " | ".join(shown) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=FIGURES)
    parser.add_argument("systems", nargs="*", help="names of experiments (default: all that end in _drawn)")
    parser.add_argument("--folder", type=Path, required=True, help="of runs and figures")
    parser.add_argument("--budget", type=float, default=1200, help="CPU seconds a system (default: %(default)s)")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    every = [place.stem for place in sorted((EXPERIMENTS / options.kind).glob("*_drawn.yaml"))]
    for name in options.systems or every:
        result = options.folder / f"{name}.json"
        if options.measure:
            found = measure(f"{options.kind}/{name}", options.folder, options.budget)
            partial = result.with_suffix(".part")
            partial.write_text(json.dumps(found, indent=2))
            partial.replace(result)
        elif not result.exists():
            print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
            own = [options.kind, name, "--folder", str(options.folder), "--budget", str(options.budget), "--measure"]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            options.folder.mkdir(parents=True, exist_ok=True)
            with (options.folder / f"{name}.log").open("w") as log:
                subprocess.run([sys.executable, __file__, *own], check=True, env=environment, stdout=log, stderr=log)
    if not options.measure:
        print(table(options.kind, options.folder))


if __name__ == "__main__":
    main()
