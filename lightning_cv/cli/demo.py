"""`lightning-cv demo`: a beta sweep, a detector and a segmentation net on built-in data, on one page."""

import argparse
import hashlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lightning_cv.cli.experiments import find_experiment, with_bases
from lightning_cv.cli.resume import resume
from lightning_cv.cli.run_folder import CHECKPOINTS, RunLock, write_json

if TYPE_CHECKING:  # draws with matplotlib: heavy
    from lightning_cv.cli.demo_report import Outcome

BETAS = (1.0, 4.0, 16.0)
SEEDS = (0, 1)
_NO_TARGET = "--target=null"
"""For settings that the target of an experiment is not for."""
_QUIET = ("--trainer.enable_model_summary=false",)
_SHORT = (
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    *(f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test")),
    "--trainer.log_every_n_steps=1",
)
_FEW = ("--data.train=16", "--data.val=8", "--data.test=8")


class Job(NamedTuple):
    """One training of the demo: an experiment with the settings that differ, and which checkpoint is tested."""

    experiment: str
    options: tuple[str, ...]
    tested: str
    title: str

    @property
    def point(self) -> str:
        """Names the job's run folder: the same for the same settings, so that a stopped demo can be gone on with."""
        files = [path.read_text() for path in with_bases(find_experiment(self.experiment))]
        return hashlib.sha256(json.dumps([self.options, files]).encode()).hexdigest()[:12]


def jobs(root: Path, fast: bool) -> list[Job]:
    """All trainings, the short ones first. The FCN goes on from the SSD's backbone, as FCN's paper from a classifier's.

    Args:
        root: folder of the demo.
        fast: two batches of everything.
    """
    short, few = (_SHORT, _FEW) if fast else ((), ())
    sweep = [
        # the state after the last step, not that of the best ELBO: the run's own objective counts beta
        Job(
            "vae/beta_vae_digits",
            (
                "--model.beta",
                f"{beta:g}",
                "--seed_everything",
                f"{seed}",
                "--trainer.max_epochs=28",
                _NO_TARGET,
                *short,
            ),
            "last",
            f"beta {beta:g}, seed {seed}",
        )
        for beta in BETAS
        for seed in SEEDS
    ]
    detector = Job("detection/ssd_drawn", (*short, *few), "best", "SSD on drawn scenes")
    backbone = root / detector.experiment / detector.point / CHECKPOINTS / "last.ckpt"
    tuned = (
        f"--model.net.backbone.backbone.weights={backbone}",
        "--trainer.max_epochs=2",
        _NO_TARGET,
        "--trainer.check_val_every_n_epoch=2",
        *short,
        *few,
    )
    return [*sweep, detector, Job("segmentation/fcn_drawn", tuned, "best", "FCN from the SSD's backbone")]


def main(argv: list[str]) -> int:
    """Train what is not trained yet, test it, write results.json and report.html."""
    parser = argparse.ArgumentParser(
        prog="lightning-cv demo",
        description="Train the small systems on built-in data (about 9 minutes on 2 cores) and write a report. "
        "Stopped, it goes on where it was; finished, it writes the report again. Delete the folder to start over.",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/demo"), help="folder of the demo (runs/demo)")
    parser.add_argument("--fast", action="store_true", help="two batches of everything: a check that it all runs")
    options = parser.parse_args(argv)
    from lightning_cv.cli.demo_report import headline_table, results_of, write_demo_report  # heavy, after --help

    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    planned = jobs(options.runs, options.fast)
    outcomes = []
    for number, job in enumerate(planned, start=1):
        print(f"[{number}/{len(planned)}] {job.title}", file=sys.stderr, flush=True)
        outcomes.append(_outcome(job, options.runs))
    results = results_of(outcomes)
    write_json(options.runs / "results.json", results)
    page = write_demo_report(outcomes, results, options.runs / "report.html")
    headline_table(results)
    print(f"report: {page}\nfigures: {options.runs / 'results.json'}")
    return 0


def _outcome(job: Job, root: Path) -> "Outcome":
    """Train and test one job, as far as that has not been done."""
    from lightning_cv.cli.demo_report import Outcome  # heavy, after --help
    from lightning_cv.cli.fit import launch

    folder = root / job.experiment / job.point
    if not _trained(folder):
        if any((folder / CHECKPOINTS).glob("*.ckpt")):
            resume(folder)
        else:
            _set_aside(folder)
            launch("fit", ["--config", job.experiment, "--run_dir", str(folder), *_QUIET, *job.options])
    tests = sorted(folder.glob("test-*/results.json"))
    if not tests:
        launch("test", ["--ckpt", str(folder / CHECKPOINTS / f"{job.tested}.ckpt")])
        tests = sorted(folder.glob("test-*/results.json"))
    return Outcome(job.experiment, job.title, folder, _read(folder / "results.json"), _read(tests[-1]))


def _trained(folder: Path) -> bool:
    return (folder / "results.json").is_file() and "train/images_per_s" in _read(folder / "results.json")


def _set_aside(folder: Path) -> None:
    """A run that was stopped before its first checkpoint has nothing to go on from; it is kept under another name."""
    if folder.is_dir() and any(folder.iterdir()):
        number = 1
        while (aside := folder.with_name(f"{folder.name}.stopped-{number}")).exists():
            number += 1
        with RunLock(folder):  # refused where another process is at work in it
            folder.rename(aside)


def _read(path: Path) -> dict[str, Any]:  # Any: JSON
    content: dict[str, Any] = json.loads(path.read_text())
    return content
