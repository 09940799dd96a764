"""The fault table: whatever happens to a run, it goes on to the bits of a run that nothing happened to.

Signals to one and both processes: test_cli_interrupted.py. USR1, time limit and lost node under SLURM: tests/slurm.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import SEED
from forked import KILL_AT, run
from test_cli_resume import BATCHES, DIGITS, EPOCHS, VAE, assert_same_bits, experiment, final_state, only_run

PACED = {"class_path": "forked.Pace", "init_args": {"seconds": 0.04}}
SOMETIME = {"class_path": "faults.KilledSometime", "init_args": {"seconds": 0.5}}
IN_WRITE = {"class_path": "faults.KilledInWrite"}
FULL = {"class_path": "faults.FullDisk"}
BEST = {
    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
    "init_args": {"filename": "best", "monitor": "train/loss", "enable_version_counter": False},
}
EVERY = 2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    experiment(folder, VAE, DIGITS, EVERY)
    assert run(["fit", "--config", "small.yaml"], folder) == 0, (folder / "output.txt").read_text()
    return folder


@pytest.fixture
def other_file_system() -> Iterator[Path]:
    """Room for temporary files on another file system than the run's, as on clusters."""
    place = Path("/dev/shm") / f"lightning-cv-{os.getpid()}"
    place.mkdir(exist_ok=True)
    yield place
    shutil.rmtree(place)


def resume_and_compare(folder: Path, whole: Path) -> None:
    assert run(["resume", str(only_run(folder))], folder) == 0, (folder / "output.txt").read_text()
    state, expected = final_state(folder), final_state(whole)
    assert state["global_step"] == BATCHES * EPOCHS
    assert_same_bits(expected["state_dict"], state["state_dict"])
    assert_same_bits(expected["optimizer_states"], state["optimizer_states"])


@pytest.mark.parametrize("number", range(10))
def test_killed_at_a_random_moment(whole: Path, tmp_path: Path, number: int) -> None:
    experiment(tmp_path, VAE, DIGITS, EVERY, PACED, SOMETIME)
    assert run(["fit", "--config", "small.yaml"], tmp_path, **{SEED: str(number)}) == -9
    assert final_state(tmp_path)["global_step"] < BATCHES * EPOCHS
    resume_and_compare(tmp_path, whole)


@pytest.mark.parametrize("number", range(10))
def test_killed_while_it_writes_a_checkpoint(whole: Path, tmp_path: Path, other_file_system: Path, number: int) -> None:
    experiment(tmp_path, VAE, DIGITS, EVERY, IN_WRITE)
    environment = {SEED: str(number), "TMPDIR": str(other_file_system)}
    assert run(["fit", "--config", "small.yaml"], tmp_path, **environment) == -9
    state = final_state(tmp_path)  # which loads: the file is the old one or the new one
    assert EVERY <= state["global_step"] < BATCHES * EPOCHS
    resume_and_compare(tmp_path, whole)
    assert not list(only_run(tmp_path).glob("checkpoints/.*")), "what a killed write left is cleared away"


@pytest.mark.parametrize("damage", ["empty", "cut", "overwritten"])
def test_a_damaged_last_checkpoint_is_passed_over(whole: Path, tmp_path: Path, damage: str) -> None:
    experiment(tmp_path, VAE, DIGITS, EVERY, BEST)
    assert run(["fit", "--config", "small.yaml"], tmp_path, **{KILL_AT: "11"}) == -9
    last = only_run(tmp_path) / "checkpoints" / "last.ckpt"
    content = last.read_bytes()
    half = len(content) // 2
    last.write_bytes({"empty": b"", "cut": content[:half], "overwritten": bytes(half) + content[half:]}[damage])
    resume_and_compare(tmp_path, whole)
    words = (tmp_path / "output.txt").read_text()
    assert "skipped last.ckpt" in words
    assert "from best.ckpt" in words


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk to fill: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_ends_a_run_that_can_go_on(whole: Path, small_disk: Path, tmp_path: Path) -> None:
    experiment(tmp_path, VAE, DIGITS, EVERY, FULL)
    command = ["fit", "--config", "small.yaml", "--runs", str(small_disk / "runs")]
    quiet = {"WANDB_MODE": "disabled"}  # whose own writer would only complain
    status = run(command, tmp_path, **{SEED: str(BATCHES + 3)}, **quiet)
    words = (tmp_path / "output.txt").read_text()
    assert status == 2, words
    assert "no space left" in words.lower(), words
    (small_disk / "filler").unlink()
    assert final_state(small_disk)["global_step"] == BATCHES + 2
    resume_and_compare(small_disk, whole)
