"""Training as jobs of a real SLURM: interrupted in every way it knows, a run ends at its last step in the same bits."""

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from forked import run
from test_cli_resume import BATCHES, DIGITS, EPOCHS, VAE, assert_same_bits, experiment, final_state

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
STEPS = BATCHES * EPOCHS
HALVES = DIGITS | {"init_args": {"size": 8, "batch_size": 100}}
TESTS = Path(__file__).parents[1]
SHIPPED = TESTS.parent / "docs" / "slurm" / "fit.sbatch"


def pace(seconds: float) -> dict[str, Any]:
    return {"class_path": "forked.Pace", "init_args": {"seconds": seconds}}


def fit(cluster: Cluster, folder: Path, *options: str, arguments: Sequence[str] = ()) -> str:
    """Train by the file that docs/cluster.md recommends, with options of sbatch; the job's number."""
    options = (f"--chdir={folder}", "--time=30", *options)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where lightning-cv is
    python_path = f"{TESTS / 'cli'}:{TESTS.parent}"
    variables = {"PATH": path, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1"}
    return cluster.submit(SHIPPED, options, ["--config", "small.yaml", *arguments], **variables)


def steps_made(folder: Path) -> int:
    """Rows of the run's figures so far."""
    files = list(folder.glob("runs/*/small/*/metrics.csv"))
    if not files:
        return 0
    with files[0].open() as file:
        return sum(1 for row in csv.DictReader(file) if row.get("train/loss"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process that nobody stopped, without SLURM."""
    folder = tmp_path_factory.mktemp("whole")
    experiment(folder, VAE, DIGITS, BATCHES, pace(0))
    assert run(["fit", "--config", "small.yaml"], folder) == 0, (folder / "output.txt").read_text()
    return folder


def assert_ends_as(whole: Path, folder: Path, cluster: Cluster, number: str, seconds: float = 600) -> None:
    said = cluster.said(number)
    assert cluster.finished(number, seconds)["JobState"] == "COMPLETED", said
    state = final_state(folder)  # of the only run: a requeued job makes no second one
    assert state["global_step"] == STEPS, said
    assert_same_bits(final_state(whole)["state_dict"], state["state_dict"])
    assert_same_bits(final_state(whole)["optimizer_states"], state["optimizer_states"])
    assert steps_made(folder) == STEPS


def test_usr1_saves_and_requeues_once(cluster: Cluster, whole: Path, tmp_path: Path) -> None:
    experiment(tmp_path, VAE, DIGITS, BATCHES, pace(0.5))
    number = fit(cluster, tmp_path)
    cluster.wait(lambda: steps_made(tmp_path) >= 8, 300)
    cluster.output("scancel", "--signal=USR1", number)
    cluster.wait(lambda: cluster.facts(number)["Restarts"] == "1", 120)
    assert_ends_as(whole, tmp_path, cluster, number)
    said = cluster.said(number)
    assert cluster.facts(number)["Restarts"] == "1"
    assert "interrupted by SIGUSR1" in said
    assert f"job {number} is requeued and will go on" in said
    assert "started again: going on in" in said
    assert "from last.ckpt" in said


def test_a_cancelled_job_saves_and_stays_away(cluster: Cluster, tmp_path: Path) -> None:
    experiment(tmp_path, VAE, DIGITS, 100, pace(0.5))
    number = fit(cluster, tmp_path)
    cluster.wait(lambda: steps_made(tmp_path) >= 2, 300)
    cluster.output("scancel", number)
    cluster.wait(lambda: list(tmp_path.glob("runs/*/small/*/checkpoints/last.ckpt")), 60)
    facts = cluster.finished(number)
    assert facts["JobState"] == "CANCELLED"
    assert facts["Restarts"] == "0"
    assert 2 <= final_state(tmp_path)["global_step"] < STEPS


def test_no_requeue_is_respected(cluster: Cluster, tmp_path: Path) -> None:
    experiment(tmp_path, VAE, DIGITS, 100, pace(0.5))
    number = fit(cluster, tmp_path, "--no-requeue")
    cluster.wait(lambda: steps_made(tmp_path) >= 2, 300)
    cluster.output("scancel", "--signal=TERM", number)
    facts, said = cluster.finished(number), cluster.said(number)
    assert facts["JobState"] == "FAILED", said
    assert (facts["Restarts"], facts["ExitCode"]) == ("0", "75:0")
    assert "interrupted by SIGTERM" in said
    assert "may not be requeued; go on with `lightning-cv resume" in said
    assert 2 <= final_state(tmp_path)["global_step"] < STEPS


@pytest.fixture(scope="module")
def whole_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by two processes, launched by Lightning."""
    folder = tmp_path_factory.mktemp("two")
    experiment(folder, VAE, HALVES, BATCHES, pace(0))
    command = [sys.executable, "-m", "lightning_cv", "fit", "--config", "small.yaml", "--trainer.devices=2"]
    path = f"{TESTS / 'cli'}:{TESTS.parent}"
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=600, capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("nodes", [1, 2])
def test_two_processes_end_at_the_last_step_after_requeues(
    cluster: Cluster, whole_of_two: Path, tmp_path: Path, nodes: int
) -> None:
    """On one node and on two: once asked to save, once requeued without a word, which kills what was not saved."""
    experiment(tmp_path, VAE, HALVES, BATCHES, pace(0.5))
    options = [f"--nodes={nodes}", f"--ntasks-per-node={2 // nodes}"]
    number = fit(cluster, tmp_path, *options)  # devices: auto
    for restarts, (command, steps) in enumerate(
        [(("scancel", "--signal=USR1"), 3), (("scontrol", "requeue"), BATCHES + 2)], start=1
    ):
        cluster.wait(lambda steps=steps: steps_made(tmp_path) >= steps, 300)
        cluster.output(*command, number)
        cluster.wait(lambda restarts=restarts: cluster.facts(number)["Restarts"] == str(restarts), 120)
    assert_ends_as(whole_of_two, tmp_path, cluster, number)
    assert cluster.said(number).count("started again: going on in") == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_time_limit_is_no_end(cluster: Cluster, whole: Path, tmp_path: Path) -> None:
    """Two minutes are too little: SLURM says so ahead of it, the job comes back and has two more."""
    experiment(tmp_path, VAE, DIGITS, BATCHES, pace(6))
    number = fit(cluster, tmp_path, "--time=2", "--signal=USR1@30")
    assert_ends_as(whole, tmp_path, cluster, number, 900)
    assert int(cluster.facts(number)["Restarts"]) >= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_pre_empted_job_comes_back(cluster: Cluster, whole: Path, tmp_path: Path) -> None:
    """A job of another partition wants the node: SLURM asks, takes it away after a while, and starts the job again."""
    experiment(tmp_path, VAE, DIGITS, BATCHES, pace(0.5))
    number = fit(cluster, tmp_path, "--partition=low", "--nodelist=n1")
    cluster.wait(lambda: steps_made(tmp_path) >= 8, 300)
    other = cluster.sbatch("sleep 5\n", "--partition=main", "--nodelist=n1", "--exclusive")
    assert cluster.finished(other)["JobState"] == "COMPLETED"
    assert_ends_as(whole, tmp_path, cluster, number)
    assert int(cluster.facts(number)["Restarts"]) >= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_lost_node_is_replaced(cluster: Cluster, whole: Path, tmp_path: Path) -> None:
    experiment(tmp_path, VAE, DIGITS, BATCHES, pace(0.5))
    number = fit(cluster, tmp_path)
    cluster.wait(lambda: steps_made(tmp_path) >= 8, 300)
    node = cluster.facts(number)["NodeList"]
    cluster.kill_node(node)
    try:
        cluster.wait(lambda: cluster.facts(number)["NodeList"] not in (node, "(null)"), 300)
        assert_ends_as(whole, tmp_path, cluster, number)
        assert int(cluster.facts(number)["Restarts"]) >= 1
    finally:
        cluster.start_node(node)


def test_what_does_not_fit_is_said_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """Lightning would wait for processes that nobody starts, or train with those it knows of."""
    experiment(tmp_path, VAE, HALVES, BATCHES, pace(0))
    alone = f"cd {tmp_path}\n{sys.executable} -m lightning_cv fit --config small.yaml\n"
    path = f"{TESTS / 'cli'}:{TESTS.parent}"
    numbers = {
        "SLURM started 2 process(es) a node": fit(
            cluster, tmp_path, "--ntasks-per-node=2", arguments=["--trainer.devices=1"]
        ),
        "SLURM started this on 2 node(s), trainer.num_nodes is 1": fit(
            cluster, tmp_path, "--nodes=2", arguments=["--trainer.num_nodes=1"]
        ),
        "start it with srun, or ask for one task": cluster.sbatch(
            f"export PYTHONPATH={path}\n{alone}", "--ntasks-per-node=2"
        ),
    }
    for words, number in numbers.items():
        assert cluster.finished(number)["ExitCode"] == "2:0", cluster.said(number)
        assert words in cluster.said(number)
