"""A sweep as a job array of a real SLURM: disturbed in three ways, it gives what it gives on one machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cluster import Cluster
from test_cli_resume import BATCHES, DIGITS, EPOCHS, VAE, assert_same_bits, experiment
from test_slurm_fit import TESTS, pace

from lightning_cv.checkpoints import load_checkpoint

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
SWEEP = {
    "command": ["${interpreter}", "-m", "lightning_cv", "fit", "--config", "small.yaml", "${args}"],
    "method": "grid",
    "name": "betas",
    "metric": {"name": "train/loss", "goal": "minimize"},
    "parameters": {"model.beta": {"values": [1, 2, 4]}, "seed_everything": {"values": [0, 1]}},
}


def begin(folder: Path, environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    """The command `sweep` in a folder, running."""
    environment = environment | {"PYTHONPATH": f"{TESTS / 'cli'}:{TESTS.parent}", "WANDB_MODE": "offline"}
    with (folder / "output.txt").open("a") as output:
        command = [sys.executable, "-m", "lightning_cv", "sweep", "sweep.yaml", *arguments]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output, text=True)


def prepared(folder: Path, seconds: float) -> Path:
    folder.mkdir()
    experiment(folder, VAE, DIGITS, BATCHES, pace(seconds))
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    return folder


def trials(folder: Path) -> list[dict[str, str]]:
    """What `sweep status` says of each."""
    command = [sys.executable, "-m", "lightning_cv", "sweep", "status", "runs/sweeps/betas", "--json"]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    listed: list[dict[str, str]] = json.loads(done.stdout)["trials"] if done.returncode == 0 else []
    return listed


def steps_of(folder: Path, trial: str) -> int:
    file = folder / "runs" / "sweeps" / "betas" / trial / "metrics.csv"
    return len(file.read_text().splitlines()) - 1 if file.exists() else 0


def process_of(trial: str) -> int:
    """The process that trains a trial."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words, environment = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
        except OSError:
            continue
        if b"lightning_cv\0fit" in words and f"WANDB_RUN_ID={trial}\0".encode() in environment:
            return int(place.name)
    raise AssertionError(f"no process of {trial}")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_disturbed_array_gives_the_results_of_one_machine(cluster: Cluster, tmp_path: Path) -> None:
    """One pre-emption, one requeue, one kill -9: no trial twice, none lost, the same bits."""
    local, array = prepared(tmp_path / "local", 0), prepared(tmp_path / "array", 0.7)
    whole = begin(local, dict(os.environ), "--launcher", "local", "--jobs", "1")
    assert whole.wait(900) == 0, (local / "output.txt").read_text()
    launcher = begin(array, cluster.environment, "--launcher", "slurm", "--partition", "low", "--jobs", "3")
    try:
        cluster.wait(lambda: sum(steps_of(array, one["id"]) >= 3 for one in trials(array)) >= 3, 600)
        first, second, third = [one for one in trials(array) if steps_of(array, one["id"]) >= 3][:3]
        os.kill(process_of(first["id"]), signal.SIGKILL)
        cluster.output("scontrol", "requeue", job_of(array, second["id"]))
        node = cluster.facts(job_of(array, third["id"]))["NodeList"]
        other = cluster.sbatch("sleep 3\n", "--partition=main", f"--nodelist={node}", "--exclusive")
        assert cluster.finished(other)["JobState"] == "COMPLETED"
        assert launcher.wait(900) == 0, (array / "output.txt").read_text()
    finally:
        launcher.terminate()
        launcher.wait(60)
    ended = trials(array)
    assert [one["state"] for one in ended] == ["finished"] * 6
    assert [one["id"] for one in ended] == [one["id"] for one in trials(local)]
    for one in ended:
        states = [
            load_checkpoint(folder / "runs" / "sweeps" / "betas" / one["id"] / "checkpoints" / "last.ckpt")
            for folder in (local, array)
        ]
        assert [state["global_step"] for state in states] == [BATCHES * EPOCHS] * 2
        assert_same_bits(states[0]["state_dict"], states[1]["state_dict"])
    restarts = {one["id"]: int(cluster.facts(job_of(array, one["id"]))["Restarts"]) for one in (second, third)}
    assert min(restarts.values()) >= 1, restarts
    assert (array / "output.txt").read_text().count("started again") == 1, "only the one that was killed"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_long_trial_outlives_time_outs_and_its_launcher(cluster: Cluster, tmp_path: Path) -> None:
    """submitit would give up at the fourth signal; a launcher that is started anew takes over the job of a dead one."""
    folder = prepared(tmp_path / "long", 1.0)
    one = SWEEP | {"parameters": {"model.beta": {"value": 4}}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(one))
    arguments = ("--launcher", "slurm", "--time", "20")
    launcher = begin(folder, cluster.environment, *arguments)
    try:
        for turn in range(1, 5):
            cluster.wait(lambda turn=turn: any(steps_of(folder, one["id"]) >= 3 * turn for one in trials(folder)), 300)
            (trial,) = trials(folder)
            job = job_of(folder, trial["id"])
            cluster.output("scancel", "--signal=USR2", job)
            cluster.wait(lambda turn=turn, job=job: cluster.facts(job)["Restarts"] == str(turn), 120)
            if turn == 2:
                launcher.kill()
                launcher.wait(10)
                launcher = begin(folder, cluster.environment, *arguments)
        assert launcher.wait(600) == 0, (folder / "output.txt").read_text()
    finally:
        launcher.terminate()
        launcher.wait(60)
    (trial,) = trials(folder)
    assert trial["state"] == "finished"
    assert trial["node"] in ("n1", "n2")
    assert cluster.facts(job)["Restarts"] == "4"
    place = folder / "runs" / "sweeps" / "betas" / trial["id"]
    assert load_checkpoint(place / "checkpoints" / "last.ckpt")["global_step"] == BATCHES * EPOCHS
    assert (folder / "output.txt").read_text().count(": started") == 1, "the second launcher started nothing"


KILLED_WHILE_RECORDING = """
import os, signal, sys
from lightning_cv.cli import main
from lightning_cv.sweeps.run import SweepLoop
SweepLoop._watch = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""
KILLING_SBATCH = """#!/bin/sh
{sbatch} "$@"
kill -9 $PPID
"""


@pytest.mark.slow
@pytest.mark.parametrize("values", [[1, 2, 3], [1]], ids=["array", "single job"])
@pytest.mark.parametrize("moment", ["before sbatch's answer", "before the numbers are kept"])
def test_a_launcher_killed_right_after_sbatch_runs_no_trial_twice(
    cluster: Cluster, tmp_path: Path, moment: str, values: list[int]
) -> None:
    """A program without a memory, unlike `fit`: a second run of a point would show."""
    notes = tmp_path / "notes.jsonl"
    command = [sys.executable, "-S", "-E", "${program}", "${args}"]
    parameters = {"a": {"values": values}, "sleep": {"value": 8}}
    sweep = {"program": str(TESTS / "sweeps/fake_program.py"), "command": command, "method": "grid", "name": "betas"}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep | {"parameters": parameters}))
    environment = cluster.environment | {"NOTES": str(notes), "PYTHONPATH": str(TESTS.parent)}
    words = ["sweep", "sweep.yaml", "--launcher", "slurm"]
    if moment == "before sbatch's answer":
        stand_in = tmp_path / "bin" / "sbatch"
        stand_in.parent.mkdir()
        stand_in.write_text(KILLING_SBATCH.format(sbatch=shutil.which("sbatch")))
        stand_in.chmod(0o755)
        path = {"PATH": f"{stand_in.parent}:{environment['PATH']}"}
        killed = [sys.executable, "-m", "lightning_cv", *words]
    else:
        path = {}
        killed = [sys.executable, "-c", KILLED_WHILE_RECORDING, *words]
    first = subprocess.run(killed, cwd=tmp_path, env=environment | path, capture_output=True, text=True, check=False)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert [one["state"] for one in trials(tmp_path)] == ["lost"] * len(values)
    launcher = begin(tmp_path, environment, "--launcher", "slurm")
    assert launcher.wait(300) == 0, (tmp_path / "output.txt").read_text()
    assert [one["state"] for one in trials(tmp_path)] == ["finished"] * len(values)
    begun = [note["id"] for note in map(json.loads, notes.read_text().splitlines()) if note["what"] == "begins"]
    assert sorted(begun) == sorted(one["id"] for one in trials(tmp_path))
    said = (tmp_path / "output.txt").read_text()
    assert said.count("taken over from a launcher that died") == len(values)
    again = 0 if path == {} else len(values)  # without sbatch's answer, submitit has not handed the tasks out
    assert said.count("started again") == again


def job_of(folder: Path, trial: str) -> str:
    """Number of the job that a trial is, as the sweep's folder keeps it."""
    for file in (folder / "runs" / "sweeps" / "betas").rglob("*.json"):
        content = json.loads(file.read_text())
        if isinstance(content, dict) and content.get("id") == trial and content.get("reference"):
            return str(content["reference"])
    raise AssertionError(f"no job of {trial}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--partition", "gpu"], "no gpu; there are low, main"),
        (["--time", "soon"], "time: minutes or hours:minutes:seconds are expected, got 'soon'"),
        (["--gpus", "0,1"], "--gpus is a number of GPUs a machine"),
        (["--nodes", "0"], "nodes: a whole number from 1 up is expected, got 0"),
    ],
)
def test_what_the_cluster_has_not_is_refused_before_a_job_starts(
    cluster: Cluster, tmp_path: Path, arguments: list[str], words: str
) -> None:
    folder = prepared(tmp_path / "sweep", 0)
    assert begin(folder, cluster.environment, "--launcher", "slurm", *arguments).wait(400) == 2
    assert words in (folder / "output.txt").read_text()
    assert not (folder / "runs").exists()
