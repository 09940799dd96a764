"""A run that is asked to stop saves, says so by its exit status, and goes on as if it had never been stopped."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from forked import SIGNAL_AT, run
from test_cli_resume import BATCHES, DIGITS, EMA, EPOCHS, VAE, assert_same_bits, experiment, final_state, only_run

from lightning_cv.checkpoints import load_checkpoint
from lightning_cv.interrupts import STATUS

SIGNALLING = {"class_path": "forked.SignalAt"}
BEST = {
    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
    "init_args": {"filename": "best", "monitor": "val/elbo", "mode": "max", "enable_version_counter": False},
}
METRICS = {"class_path": "lightning_cv.callbacks.LikelihoodMetrics"}
TIMED = ("images_per_s", "data_wait", "memory_gib")
HALVES = DIGITS | {"init_args": {"size": 8, "batch_size": 100}}
VAL_BATCHES = 2  # of 200 digits


def figures(folder: Path) -> list[dict[str, str]]:
    """All rows of metrics.csv without what a clock says."""
    with (only_run(folder) / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if v and not k.endswith(TIMED)} for row in csv.DictReader(file)]
    return sorted((row for row in rows if len(row) > 2), key=lambda row: (int(row["step"]), sorted(row)))


def assert_same_run(one: Path, other: Path) -> None:
    assert len(figures(one)) >= BATCHES * EPOCHS
    assert figures(one) == figures(other)
    for name in ("last", "best"):
        states = [load_checkpoint(only_run(folder) / "checkpoints" / f"{name}.ckpt") for folder in (one, other)]
        for part in ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers", "current_model_state"):
            assert_same_bits(states[0].get(part), states[1].get(part), part)


@pytest.fixture(scope="module", params=["plain", "ema"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A run that nobody stopped, and the callbacks it had."""
    callbacks = [METRICS, SIGNALLING, BEST, *([EMA] if request.param == "ema" else [])]
    folder = tmp_path_factory.mktemp(request.param)
    experiment(folder, VAE, DIGITS, BATCHES, *callbacks)
    assert run(["fit", "--config", "small.yaml"], folder) == 0, (folder / "output.txt").read_text()
    return folder, callbacks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "step"),
    [
        ("on_train_batch_start:9", 9),
        (f"on_train_batch_start:{2 * BATCHES}", 2 * BATCHES),  # the last batch of an epoch: a validation follows
        (f"on_validation_batch_start:{VAL_BATCHES + 1}", 2 * BATCHES),
        (f"on_validation_batch_start:{VAL_BATCHES + 2}", 2 * BATCHES),  # nobody asks after the last one
        ("on_validation_end:2", 2 * BATCHES),
        ("on_train_epoch_end:1", BATCHES),
    ],
)
def test_an_interrupted_run_is_the_run_that_was_not(
    whole: tuple[Path, list[Any]], tmp_path: Path, place: str, step: int
) -> None:
    experiment(tmp_path, VAE, DIGITS, BATCHES, *whole[1])
    assert run(["fit", "--config", "small.yaml"], tmp_path, **{SIGNAL_AT: f"{place} 0"}) == STATUS
    words = (tmp_path / "output.txt").read_text()
    assert "interrupted by SIGTERM" in words
    assert f"step {step}" in words
    assert f"go on with `lightning-cv resume {only_run(tmp_path).relative_to(tmp_path)}`" in words
    assert final_state(tmp_path)["global_step"] == step
    assert run(["resume", str(only_run(tmp_path))], tmp_path) == 0, (tmp_path / "output.txt").read_text()
    assert_same_run(whole[0], tmp_path)


def test_one_place_is_tried_every_time(tmp_path: Path) -> None:
    """In the middle of a validation, by USR1, with loader workers that get the signal too."""
    data = DIGITS | {"init_args": DIGITS["init_args"] | {"num_workers": 1}}
    experiment(tmp_path, VAE, data, 100, METRICS, SIGNALLING)
    ended, seconds = two_processes(tmp_path, "on_validation_batch_start:1 group SIGUSR1", devices=1)
    assert ended.returncode == STATUS, ended.stderr
    assert seconds < 30
    assert "interrupted by SIGUSR1" in ended.stderr
    assert final_state(tmp_path)["global_step"] == BATCHES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "who", "step"),
    [
        ("setup:1", "both", 0),
        ("on_train_start:1", "group", 0),
        *(("on_train_batch_start:8", who, 8) for who in ("0", "1", "both", "group")),
        *(("on_validation_batch_start:2", who, BATCHES) for who in ("1", "both", "group")),
    ],
)
def test_two_processes_save_and_end_together(tmp_path: Path, place: str, who: str, step: int) -> None:
    """Launched by Lightning, signalled one by one, both, or as a group with all they started."""
    experiment(tmp_path, VAE, HALVES, 100, METRICS, SIGNALLING)
    ended, seconds = two_processes(tmp_path, f"{place} {who}", devices=2)
    assert ended.returncode == STATUS, ended.stderr
    assert seconds < 30, "from the signal to the end of the first process"
    assert "interrupted by " in ended.stderr
    if step == 0:
        assert not list(tmp_path.glob("runs/*/small/*")), "a run that made no step leaves no folder"
    else:
        assert final_state(tmp_path)["global_step"] == step


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_interrupted_processes_go_on_as_two_that_were_not(tmp_path: Path) -> None:
    for name, places in (("whole", []), ("stopped", ["on_train_batch_start:9 1", "on_validation_batch_start:1 group"])):
        (tmp_path / name).mkdir()
        experiment(tmp_path / name, VAE, HALVES, BATCHES, METRICS, SIGNALLING, BEST)
        ended, _ = two_processes(tmp_path / name, places[0] if places else "", devices=2)
        for place in [*places[1:], ""] if places else []:
            assert ended.returncode == STATUS, ended.stderr
            ended, _ = two_processes(tmp_path / name, place, "resume", str(only_run(tmp_path / name)), devices=2)
        assert ended.returncode == 0, ended.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def two_processes(
    folder: Path, signal_at: str, *command: str, devices: int, module: str = "lightning_cv"
) -> tuple["subprocess.CompletedProcess[str]", float]:
    """A command in a process group of its own, as from a shell; also the seconds from the signal to the end."""
    fit = ["fit", "--config", "small.yaml", f"--trainer.devices={devices}", "--trainer.strategy=auto"]
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    environment |= {"OMP_NUM_THREADS": "1", **({SIGNAL_AT: signal_at} if signal_at else {})}
    for name in [name for name in environment if name.startswith("WANDB") and "SERVICE" in name]:
        del environment[name]
    ended = subprocess.run(
        [sys.executable, "-m", module, *(command or fit)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        start_new_session=True,
    )
    moment = folder / "signalled"
    return ended, time.time() - float(moment.read_text()) if moment.exists() else 0.0
