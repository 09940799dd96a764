"""All small systems of a kind on the same drawn scenes after the same budget: the tables of the README.

Each system is an experiment trained in a process of its own, then tested on the same 300 scenes that no training saw:
of 128 pixels, for segmentation of 64, for most of its nets work at the image's own size and would make few steps else.
The budget is of CPU-seconds, those of the process and its children together, looked at after each batch: machines are
shared, and seconds on a clock would count what others do. 600 are five minutes on two idle cores. Reading data and what
callbacks do counts; starting, drawing scenes and the test do not. The learning rate follows the experiments' schedule
(warm-up of 5 %, cosine down to 1 %) over the share of the budget that is used, in place of the share of steps, so that
it ends where the budget does; else all settings are the experiments', but for 8,000 scenes to train on. A system of two
stages has half the budget for each, or the shares that it names.

GMACs are half of what torch's FlopCounterMode counts for one scene, images/s the prediction of one scene at a time on
as many threads as trained, the median of 15; with the experiment's way to look (DeconvNet's stages look at windows of
a scene), decoding and NMS included. With one thread its seconds are the process's own, too.

`python benchmarks/equal_budget.py detection --folder FOLDER` goes on where it stopped: what `FOLDER/SYSTEM.json` holds
is not done again. `--systems ssd yolo_v1` does only these, and `--budget-cpu-seconds 10` tries it out. `--figure PNG`
draws all rows that are there.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import Callback, LightningModule, Trainer
from torch.utils.flop_counter import FlopCounterMode

from lightning_cv.schedules import WarmupCosine

REPEATS = 15
SCHEDULE = WarmupCosine(warmup=0.05, final=0.01)
SCENES = ["--data.train=8000", "--data.val=300", "--data.test=300", "--data.draw_seed=0"]


class System(NamedTuple):
    """A row: its name, the experiments that are its stages, what to ask of each, what a stage hands to the next.

    Stages without a folder are of the row's kind; without shares of the budget all have the same.
    """

    title: str
    stages: tuple[str, ...]
    asked: tuple[str, ...] = ()
    handed_on: str = "model.net.weights"
    shares: tuple[float, ...] = ()


class Kind(NamedTuple):
    """A table: its budget in CPU-seconds, its figures under their titles, best first by the first, and its rows."""

    budget: float
    figures: dict[str, str]
    systems: dict[str, System]
    size: int = 128
    """Of a scene in pixels."""


def _upsampler(title: str, name: str) -> System:
    asked = f"--model.net.upsample=lightning_cv.models.segmentation.{name}"
    return System(f"encoder-decoder, {title}", ("encoder_decoder_drawn",), (asked,))


DETECTORS = {
    "ssd": System("SSD on a feature pyramid", ("ssd_drawn",)),
    "ssd_focal": System("SSD with focal loss", ("ssd_focal_drawn",)),
    "ssd300": System("SSD300, narrow", ("ssd300_drawn",)),
    "ssd300_fpn": System("SSD300 + FPN, narrow", ("ssd300_fpn_drawn",)),
    "yolo_v1": System(
        "YOLO v1 on the trunk of tiny YOLOv2",
        ("yolo_v2_tiny_drawn", "yolo_v1_drawn"),
        handed_on="model.net.backbone.weights",
    ),
    "yolo_v2_tiny": System("tiny YOLOv2, narrow", ("yolo_v2_tiny_drawn",)),
    "cornernet": System("CornerNet, one small hourglass", ("cornernet_drawn",)),
    "fcos": System("FCOS (torchvision)", ("fcos_drawn",)),
    "retinanet": System("RetinaNet (torchvision)", ("retinanet_drawn",)),
}
SEGMENTERS = {
    "sliding_window": System("sliding window, every 4th pixel", ("sliding_window_drawn",)),
    "full_resolution": System("convolutions at full resolution", ("full_resolution_drawn",)),
    "fcn_vgg": System("FCN-8s on VGG-16, narrow", ("fcn_vgg_drawn",)),
    "fcn_vgg_staged": System(
        "FCN-32s, 16s, 8s on VGG-16, in turn", ("fcn32s_vgg_drawn", "fcn16s_vgg_drawn", "fcn_vgg_drawn")
    ),
    "fcn": System("FCN on a feature pyramid", ("fcn_drawn",)),
    "fcn_auxiliary": System("FCN with an auxiliary head", ("fcn_auxiliary_drawn",)),
    "deconvnet": System("DeconvNet, whole scenes", ("deconvnet_drawn",), ("--model.net.kernel=2",)),
    "deconvnet_stages": System("DeconvNet, two stages, windows", ("deconvnet_stage1_drawn", "deconvnet_stage2_drawn")),
    "nearest": _upsampler("nearest", "Nearest"),
    "bed_of_nails": _upsampler("bed of nails", "BedOfNails"),
    "max_unpool": _upsampler("max unpooling", "MaxUnpool"),
    "bilinear": _upsampler("bilinear", "Bilinear"),
    "transposed": _upsampler("transposed convolution", "TransposedConv"),
    "pixel_shuffle": _upsampler("pixel shuffle", "PixelShuffle"),
    "dilated": System("dilated convolutions", ("dilated_drawn",)),
    "smp_unet": System("U-Net (segmentation-models-pytorch)", ("smp_unet_drawn",)),
    "smp_deeplabv3plus": System("DeepLabV3+ (segmentation-models-pytorch)", ("smp_deeplabv3plus_drawn",)),
}
DIVIDERS = {
    "panoptic_fpn": System("Panoptic FPN, narrow", ("panoptic_fpn_drawn",)),
    "panoptic_segformer": System(
        "Panoptic SegFormer, narrow, on the trunk of the SSD",
        ("detection/ssd_drawn", "panoptic_segformer_drawn"),
        handed_on="model.net.features.weights",
        shares=(0.15, 0.85),
    ),
}
KINDS = {
    "detection": Kind(1200.0, {"test/map_50": "mAP@0.5", "test/map": "mAP@[.5:.95]"}, DETECTORS),
    "segmentation": Kind(600.0, {"test/miou": "mIoU"}, SEGMENTERS, size=64),
    "panoptic": Kind(1800.0, {"test/pq": "PQ", "test/sq": "SQ", "test/rq": "RQ"}, DIVIDERS),
}


def cpu_seconds() -> float:
    """Of this process, all its threads, and its children that have ended."""
    return sum(os.times()[:4])


class CPUBudget(Callback):
    """Ends training when it has used its CPU-seconds, and sets the learning rate by the share that is used."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begun = cpu_seconds()
        self.rates = [group["lr"] for group in trainer.optimizers[0].param_groups]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        factor = SCHEDULE(min(1.0, (cpu_seconds() - self.begun) / self.seconds))
        for group, rate in zip(trainer.optimizers[0].param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if cpu_seconds() - self.begun >= self.seconds:
            trainer.should_stop = True


def train(kind: str, system: System, budget: float, folder: Path) -> tuple[Path, int]:
    """The last checkpoint of a system's last stage, and the steps of all stages."""
    from lightning_cv.cli.fit import launch

    checkpoint: Path | None = None
    steps = 0
    shares = system.shares or [1 / len(system.stages)] * len(system.stages)
    for stage, share in zip(system.stages, shares, strict=True):
        seconds = budget * share
        callback = f"{{class_path: equal_budget.CPUBudget, init_args: {{seconds: {seconds}}}}}"
        asked = [*SCENES, f"--data.size={KINDS[kind].size}", *system.asked]
        asked += ["--model.schedule=null", f"--trainer.callbacks+={callback}"]
        asked += ["--trainer.max_epochs=-1", "--trainer.min_epochs=0", "--trainer.limit_val_batches=0"]
        asked += [] if checkpoint is None else [f"--{system.handed_on}={checkpoint}"]
        run = folder / stage
        launch("fit", ["--config", stage if "/" in stage else f"{kind}/{stage}", "--run_dir", str(run), *asked, *QUIET])
        checkpoint = run / "checkpoints" / "last.ckpt"
        steps += torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"]
    assert checkpoint is not None
    return checkpoint, steps


QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


def measure(checkpoint: Path, size: int, threads: int) -> dict[str, float]:
    """Parameters, GMACs and images/s of a trained system, for scenes of `size` pixels."""
    from lightning_cv.cli.predictor import load_model

    task: Any = load_model(checkpoint, "cpu").task  # with the verb of its kind
    task.requires_grad_(False)  # the counter would watch their gradients, which there are none of
    scene = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    torch.set_num_threads(threads)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            task.predict_step(scene)
        clock = time.process_time if threads == 1 else time.perf_counter
        times = []
        for _ in range(REPEATS + 3):
            begun = clock()
            task.predict_step(scene)
            times.append(clock() - begun)
    return {
        "parameters": sum(parameter.numel() for parameter in task.net.parameters()),
        "gmacs": counter.get_total_flops() / 2e9,
        "images_per_s": 1 / statistics.median(times[3:]),
    }


def one_system(kind: str, name: str, budget: float, threads: int, place: Path) -> None:
    """Train, test and measure one system; its figures as JSON."""
    from lightning_cv.cli.fit import launch

    torch.set_num_threads(threads)
    _, figures, systems, size = KINDS[kind]
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.perf_counter()
        checkpoint, steps = train(kind, systems[name], budget, Path(scratch))
        seconds = time.perf_counter() - begun
        tested = launch("test", ["--ckpt", str(checkpoint), "--run_dir", str(Path(scratch) / "test"), *QUIET])
        found: dict[str, Any] = {key: tested.metrics[key] for key in figures}
        found |= {"steps": steps, "seconds": seconds, "budget": budget, **measure(checkpoint, size, threads)}
    part = place.with_suffix(".part")
    part.write_text(json.dumps({"title": systems[name].title, **found}, indent=1))
    part.replace(place)


def table(figures: dict[str, str], found: list[dict[str, Any]]) -> str:
    """The rows in Markdown, best first."""
    columns = ["system", "parameters", "GMACs", "images/s", "steps", *figures.values()]
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for row in sorted(found, key=lambda row: -row[next(iter(figures))]):
        shown = " | ".join(f"{row[key]:.3f}" for key in figures)
        lines.append(
            f"| {row['title']} | {row['parameters'] / 1e6:.2f} M | {row['gmacs']:.2f} | {row['images_per_s']:.1f} "
            f"| {row['steps']:,} | {shown} |"
        )
    return "\n".join(lines)


def figure(figures: dict[str, str], found: list[dict[str, Any]], place: Path) -> None:
    """The rows as bars, best first: what they reached and how fast they are."""
    from PIL import Image

    from lightning_cv.viz.sweep import bars

    rows = sorted(found, key=lambda row: -row[next(iter(figures))])
    panels = {title: {row["title"]: [row[key]] for row in rows} for key, title in figures.items()}
    speed = {"images/s": {row["title"]: [row["images_per_s"]] for row in rows}}
    Image.fromarray(bars(panels | speed)).save(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--folder", type=Path, required=True, help="of the figures, one a kind")
    parser.add_argument(
        "--budget-cpu-seconds",
        type=float,
        help="default: 1,200 for detection, 600 for segmentation, 1,800 for panoptic",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--systems", nargs="+", help="some of the kind's, by name")
    parser.add_argument("--figure", type=Path, help="PNG to draw the rows to")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    default, figures, systems, _ = KINDS[asked.kind]
    budget, names = asked.budget_cpu_seconds or default, asked.systems or list(systems)
    if unknown := set(names) - set(systems):
        parser.error(f"--systems: {', '.join(sorted(unknown))}; known are {', '.join(systems)}")
    if asked.one:
        one_system(asked.kind, asked.one, budget, asked.threads, asked.folder / f"{asked.one}.json")
        return
    asked.folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        place = asked.folder / f"{name}.json"
        if place.exists() and json.loads(place.read_text())["budget"] == budget:
            print(f"{name}: done before", flush=True)
            continue
        command = [sys.executable, __file__, asked.kind, "--one", name, f"--folder={asked.folder.resolve()}"]
        command += [f"--threads={asked.threads}", f"--budget-cpu-seconds={budget}"]
        environment = os.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": str(asked.threads)}
        with (asked.folder / f"{name}.txt").open("w") as log:
            done = subprocess.run(command, env=environment, stdout=log, stderr=log)
        print(f"{name}: {'done' if done.returncode == 0 else f'failed, see {log.name}'}", flush=True)
    places = [asked.folder / f"{name}.json" for name in systems]
    found = [json.loads(place.read_text()) for place in places if place.exists()]
    print(table(figures, found))
    if asked.figure:
        figure(figures, found, asked.figure)


if __name__ == "__main__":
    main()
