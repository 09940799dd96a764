"""What callbacks and loggers cost: epochs of the demo's detector with all its experiment has, and without, in turn.

Run it where nothing else runs. An epoch goes from its first batch to the next one's, validation with pictures of 8
images and the checkpoint included; CPU seconds are those of the process with all its threads.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from lightning import Callback, LightningModule, Trainer

SCENES, EPOCHS, PAIRS = 4000, 2, 3
CLOCK = "LIGHTNING_CV_BENCHMARK_CLOCK"


class EpochClock(Callback):
    """Writes wall and CPU seconds of each epoch into the file that the environment names."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.times.append((time.perf_counter(), time.process_time()))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.times.append((time.perf_counter(), time.process_time()))
        Path(os.environ[CLOCK]).write_text(json.dumps(self.times))


def epochs(folder: Path, *options: str) -> list[tuple[float, float]]:
    """Wall and CPU seconds of each epoch of one run."""
    clock = folder / "clock.json"
    command = [sys.executable, "-m", "lightning_cv", "fit", "--config", "detection/ssd_drawn", f"--runs={folder}"]
    short = [f"--data.train={SCENES}", f"--trainer.max_epochs={EPOCHS}", "--trainer.check_val_every_n_epoch=1"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    environment = os.environ | {
        CLOCK: str(clock),
        "PYTHONPATH": str(Path(__file__).parent),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
    }
    done = subprocess.run([*command, *short, *quiet, *options], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    times = json.loads(clock.read_text())
    return [(end[0] - start[0], end[1] - start[1]) for start, end in pairwise(times)]


def main() -> None:
    with_all = ("--trainer.callbacks+=callback_overhead.EpochClock",)
    without = ("--trainer.callbacks=callback_overhead.EpochClock", "--trainer.logger=false")
    pairs = []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(PAIRS):
            one, other = (epochs(Path(scratch), *options) for options in (with_all, without))
            for epoch, (ours, bare) in enumerate(zip(one, other, strict=True)):
                pairs.append((*ours, *bare))
                wall, cpu = ours[0] / bare[0], ours[1] / bare[1]
                print(f"run {number}, epoch {epoch}: {ours[0]:.1f} s against {bare[0]:.1f} s, ratio {wall:.3f}, "
                      f"CPU {ours[1]:.1f} s against {bare[1]:.1f} s, ratio {cpu:.3f}", flush=True)  # fmt: skip
    wall, cpu = (statistics.median(pair[i] / pair[i + 2] for pair in pairs) for i in (0, 1))
    print(f"median of {len(pairs)} epochs: wall {100 * (wall - 1):+.1f} %, CPU {100 * (cpu - 1):+.1f} %")


if __name__ == "__main__":
    main()
