"""cluster.yaml and its flags, and how a job's state becomes a trial's."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from lightning_cv import interrupts
from lightning_cv.errors import UserError
from lightning_cv.sweeps import slurm
from lightning_cv.sweeps.cluster import Cluster, read_cluster
from lightning_cv.sweeps.slurm import SlurmLauncher, Standing


@pytest.mark.parametrize(
    ("time", "minutes"), [("90", 90), ("2:00:00", 120), ('"0:30:01"', 31), ("1-12:00:00", 2160), ("4320", 4320)]
)
def test_a_time_limit_may_be_a_clock_or_minutes(tmp_path: Path, time: str, minutes: int) -> None:
    (tmp_path / "cluster.yaml").write_text(f"time: {time}\npartition: gpu\n")
    assert read_cluster(tmp_path / "cluster.yaml", {}).minutes == minutes


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("partition: gpu\ngpus: 4\nnodes: 2\nmemory: 32GB\n")
    cluster = read_cluster(tmp_path / "cluster.yaml", {"gpus": 2, "partition": None, "parallelism": 8})
    parameters = cluster.parameters()
    assert parameters["partition"] == "gpu"
    assert parameters["gpus_per_node"] == parameters["ntasks_per_node"] == 2, "a process for each GPU of several nodes"
    assert parameters["array_parallelism"] == 8
    assert parameters["mem"] == "32GB"
    assert parameters["signal_delay_s"] == 90
    assert Cluster(gpus=2).parameters()["ntasks_per_node"] == 1, "on one machine Lightning starts the others"
    assert Cluster(time=1).parameters()["signal_delay_s"] == 30, "ahead of the limit, not of the beginning"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partion: gpu", "no key partion; did you mean partition?"),
        ("queue: 0", "queue: a whole number from 1 up is expected, got 0"),
        ("nodes: 0", "nodes: a whole number from 1 up is expected, got 0"),
        ("gpus: many", "gpus: a whole number from 0 up is expected, got 'many'"),
        ("memory: lots", "memory: a size such as 16GB is expected, got 'lots'"),
        ("time: soon", "time: minutes or hours:minutes:seconds are expected, got 'soon'"),
        ("time: 0", "time: at least a minute is expected"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    with pytest.raises(UserError) as refused:
        read_cluster(tmp_path / "cluster.yaml", {})
    assert words in str(refused.value)
    assert "cluster.yaml" in str(refused.value)


def test_without_a_cluster_it_says_where_to_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no sbatch on this machine"):
        SlurmLauncher(Cluster(), tmp_path, "betas")


def test_every_partition_of_a_list_has_to_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a cluster: stand-ins for its commands, of which one is asked, and hides a partition as clusters do."""
    for name in ("sbatch", "squeue", "scancel", "scontrol", "sinfo"):
        script = tmp_path / name
        script.write_text('#!/bin/sh\necho gpu; echo cpu; case "$*" in *-a*) echo mine ;; esac\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    pytest.importorskip("submitit")
    slurm.refuse_cluster(Cluster(partition="gpu,mine"))
    slurm.refuse_cluster(Cluster())
    with pytest.raises(UserError, match="flags: partition: no gup; there are cpu, gpu, mine"):
        slurm.refuse_cluster(Cluster(partition="gpu,gup"))


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SlurmLauncher:
    """One whose cluster is not asked: states are set by hand."""
    monkeypatch.setattr(slurm, "refuse_cluster", lambda cluster: None)
    monkeypatch.setattr(slurm, "_LOOK_S", 1e9)
    made = SlurmLauncher(Cluster(), tmp_path, "betas")
    made._asked = 1e18
    return made


def test_no_more_jobs_wait_than_the_cluster_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(slurm, "refuse_cluster", lambda cluster: None)
    (tmp_path / "cluster.yaml").write_text("queue: 40\n")
    few = read_cluster(tmp_path / "cluster.yaml", {})
    assert SlurmLauncher(few, tmp_path, "betas").room == 40
    assert SlurmLauncher(few, tmp_path, "betas", most=8).room == 8, "a search asks for fewer"
    assert SlurmLauncher(few, tmp_path, "betas", most=256).room == 40
    assert SlurmLauncher(Cluster(), tmp_path, "betas").room == 1000


@pytest.mark.parametrize(
    ("state", "status", "outcome", "reason"),
    [
        ("PENDING", 0, None, ""),
        ("RUNNING", 0, None, ""),
        ("COMPLETING", 0, None, ""),
        ("REQUEUED", 0, None, ""),
        ("COMPLETED", 0, "finished", ""),
        ("FAILED", 1, "failed", "exit status 1"),
        ("FAILED", interrupts.STATUS, "interrupted", "exit status 75"),
        ("CANCELLED", 0, "interrupted", "cancelled"),
        ("TIMEOUT", 0, "failed", "time limit"),
        ("OUT_OF_MEMORY", 0, "failed", "out of memory"),
    ],
)
def test_states_of_jobs(
    launcher: SlurmLauncher, monkeypatch: pytest.MonkeyPatch, state: str, status: int, outcome: str | None, reason: str
) -> None:
    monkeypatch.setattr(slurm, "exit_status", lambda job: status)
    launcher._queue = {"5_1": Standing(state, "n1")}
    handle = launcher._handle("5_1")
    ended = handle.poll()
    assert (ended and ended.outcome, ended.reason if ended else "") == (outcome, reason)
    assert handle.node == "n1"
    taken_over = launcher.recover("5_1")
    assert taken_over is not None
    assert taken_over.poll() == ended, "also of a job that ended while no launcher looked"
    assert launcher.recover("6_0") is None, "SLURM knows no such job"


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL", None])
def test_a_job_that_may_come_back_is_waited_for(
    launcher: SlurmLauncher, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    """SLURM puts it back into the queue itself: to start the trial elsewhere meanwhile would run it twice."""
    handle = launcher._handle("5_1")
    launcher._queue = {"5_1": Standing(state, "")} if state else {}
    assert handle.poll() is None
    launcher._queue = {"5_1": Standing("PENDING", "")}
    assert handle.poll() is None
    launcher._queue = {"5_1": Standing(state, "")} if state else {}
    monkeypatch.setattr(slurm, "_MAY_RETURN_S", 0.0)
    ended = handle.poll()
    assert ended is not None
    assert ended.outcome == "interrupted"


def test_jobs_are_not_given_up_while_the_controller_is_away(
    launcher: SlurmLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([(1, ""), (0, "5_1|RUNNING|n2|\n5_2|PENDING||a | b\n"), (1, "")])
    monkeypatch.setattr(
        slurm, "_ask", lambda *_: SimpleNamespace(**dict(zip(("returncode", "stdout"), next(answers), strict=True)))
    )
    monkeypatch.setattr(slurm, "_LOOK_S", 0.0)
    monkeypatch.setattr(slurm, "_MAY_RETURN_S", 0.0)
    launcher._asked = -1.0
    handle = launcher._handle("5_1")
    assert handle.poll() is None
    assert handle.poll() is None
    assert handle.node == "n2"
    assert handle.poll() is None
