"""The beta sweep on digits, small: the same bits with one job and with two that are killed on the way."""

import csv
import json
import os
import signal
from itertools import product
from pathlib import Path

import pytest
import torch
import yaml
from launched import REPOSITORY, wait_for

from lightning_cv.checkpoints import load_checkpoint
from lightning_cv.cli import main
from lightning_cv.cli.sweep_runs import read_runs

EPOCHS = 12
EXPERIMENT = {
    "base": [str(REPOSITORY / "experiments/vae/beta_vae_digits.yaml")],
    "data": {"init_args": {"size": 8, "batch_size": 100}},
    "trainer": {
        "max_epochs": EPOCHS,
        "check_val_every_n_epoch": 4,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
    },
    "model": {
        "init_args": {
            "net": {
                "class_path": "lightning_cv.models.ConvVAE",
                "init_args": {"image_size": 8, "latent_size": 3, "width": 4, "hidden": 32},
            },
        }
    },
}
SWEEP = {
    "program": "lightning-cv",
    "command": ["${interpreter}", "-m", "lightning_cv", "fit", "--config", "small.yaml", "${args}"],
    "method": "grid",
    "metric": {"name": "val/elbo", "goal": "maximize"},
    "parameters": {"model.beta": {"values": [1, 4, 16]}, "seed_everything": {"values": [0, 1]}},
}


def at_work(folder: Path) -> list[dict]:
    """Trials that are running and have a checkpoint."""
    states = [json.loads(path.read_text()) for path in sorted(folder.glob("state/trials/[0-9]*.json"))]
    return [
        one for one in states if one["state"] == "running" and (folder / one["id"] / "checkpoints/last.ckpt").exists()
    ]


def figures(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without those that say what it took."""
    took = ("train/data_wait", "train/images_per_s", "train/memory_gib")
    with (run / "metrics.csv").open() as file:
        rows = [{key: value for key, value in row.items() if key not in took} for row in csv.DictReader(file)]
    return [row for row in rows if any(value for key, value in row.items() if key not in ("step", "epoch"))]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_same_six_results_whatever_is_killed(sweeping):
    (sweeping.root / "small.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    sweeping.file.write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    launcher = sweeping.start("s.yaml", "--folder", "calm")
    out, err = launcher.communicate(timeout=1500)
    assert launcher.returncode == 0, out + err
    calm, wild = sweeping.root / "calm", sweeping.root / "wild"

    launcher = sweeping.start("s.yaml", "--folder", "wild", "--jobs", "2")
    wait_for(lambda: at_work(wild), 600)
    killed = at_work(wild)[0]
    os.kill(int(killed["reference"].split()[0]), signal.SIGKILL)
    wait_for(lambda: [one for one in at_work(wild) if one["starts"] == 1 and one["id"] != killed["id"]], 600)
    launcher.kill()
    launcher.communicate()
    launcher = sweeping.start("s.yaml", "--folder", "wild", "--jobs", "2")
    out, err = launcher.communicate(timeout=1500)
    assert launcher.returncode == 0, out + err
    assert "started again from its checkpoint" in out

    runs = {run.folder.name: run for run in read_runs([wild])}
    assert {run.state for run in runs.values()} == {"finished"}
    points = sorted((run.settings["model.beta"], run.settings["seed_everything"]) for run in runs.values())
    assert points == sorted(product([1, 4, 16], [0, 1])), "no point twice, none lost"
    states = [json.loads(path.read_text()) for path in wild.glob("state/trials/[0-9]*.json")]
    assert {one["state"] for one in states} == {"finished"}
    assert max(one["starts"] for one in states) >= 2
    assert (wild / "logs" / f"{killed['id']}.log").read_text().count("resuming") >= 1
    for name in runs:
        first, second = (load_checkpoint(root / name / "checkpoints/last.ckpt") for root in (calm, wild))
        assert first["epoch"] == EPOCHS - 1
        assert first["state_dict"].keys() == second["state_dict"].keys()
        assert all(torch.equal(first["state_dict"][key], second["state_dict"][key]) for key in first["state_dict"]), (
            name
        )
        assert figures(calm / name) == figures(wild / name), name
    assert len({figures(calm / name)[-1]["val/elbo"] for name in runs}) == 6, "they are six results"
    assert main(["report", str(wild)]) == 0
    assert {"parallel.png", "importance.png", "runs.csv"} <= {path.name for path in (wild / "report").iterdir()}
