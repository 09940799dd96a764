"""What a process makes of SLURM's word, from its environment and from a stand-in for `scontrol`."""

from pathlib import Path
from typing import Any

import pytest

from lightning_cv.cli import run_folder, slurm
from lightning_cv.errors import UserError
from lightning_cv.interrupts import NO_REQUEUE

RUNNING = "JobId=7 JobState=RUNNING Requeue=1 BatchFlag=1 RunTime=00:10:00 TimeLimit=01:00:00"
STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "fit"}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of a job; its stand-in for `scontrol` says `facts` and notes what it is asked."""
    for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_RUN_ID", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ "$1" = show ] && cat {tmp_path}/facts\nexit 0\n')
    program.chmod(0o755)
    (tmp_path / "facts").write_text(RUNNING)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_a_running_job_is_requeued(job: Path) -> None:
    assert slurm.requeue(made_steps=True) == (True, "job 7 is requeued and will go on")
    assert (job / "asked").read_text().splitlines()[-1] == "requeue 7"


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ("RUNNING", "COMPLETING", "was cancelled"),
        ("RUNNING", "CANCELLED", "was cancelled"),
        ("Requeue=1", "Requeue=0", "may not be requeued"),
        ("BatchFlag=1", "BatchFlag=0", "may not be requeued"),
        (RUNNING, "", "may not be requeued"),  # SLURM does not answer
    ],
)
def test_what_shall_not_come_back_is_left(job: Path, was: str, now: str, words: str) -> None:
    (job / "facts").write_text(RUNNING.replace(was, now))
    done, said = slurm.requeue(made_steps=True)
    assert not done
    assert words in said
    assert "requeue 7" not in (job / "asked").read_text().splitlines()


def test_a_time_limit_is_not_a_cancellation(job: Path) -> None:
    (job / "facts").write_text(RUNNING.replace("RUNNING", "COMPLETING").replace("00:10:00", "01:00:02"))
    assert slurm.requeue(made_steps=True).done


def test_a_job_that_makes_no_step_comes_back_once(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slurm.requeue(made_steps=False).done
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert slurm.requeue(made_steps=True).done
    done, words = slurm.requeue(made_steps=False)
    assert not done
    assert "give it more time" in words


def test_a_user_may_forbid_it(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NO_REQUEUE, "1")
    assert slurm.requeue(made_steps=True) == (False, "")


@pytest.mark.parametrize(
    ("devices", "nodes", "expected"),
    [
        ("auto", 2, 2),
        (2, 2, 2),
        ([0, 1], 2, [0, 1]),
        (4, 2, "2 process(es) a node, trainer.devices is 4"),
        (2, 1, "2 node(s)"),
    ],
)
def test_devices_have_to_be_those_that_slurm_started(job: Path, devices: Any, nodes: int, expected: Any) -> None:
    if not isinstance(expected, str):
        assert slurm.fitting_devices(devices, nodes) == expected
        return
    with pytest.raises(UserError) as refused:
        slurm.fitting_devices(devices, nodes)
    assert expected in str(refused.value)


def test_processes_that_nobody_started_are_missed(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_STEP_ID")
    with pytest.raises(UserError, match="start it with srun"):
        slurm.fitting_devices("auto", 1)
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")  # somebody types
    assert slurm.fitting_devices(2, 1) == 2


def test_where_processes_meet_is_asked_of_slurm_where_the_name_is_none(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NODELIST", "no-such-node-[1-2]")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "2")
    (job / "facts").write_text("NodeName=no-such-node-1 NodeAddr=10.1.2.3 State=IDLE")
    found = slurm.environment()
    assert found is not None
    assert found.main_address == "10.1.2.3"
    assert not found.auto_requeue
    assert "show node -o no-such-node-1" in (job / "asked").read_text()


def test_the_folder_of_a_job_is_found_again(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_folder.new_run_folder(tmp_path / "runs", "vae", "small")
    (first / run_folder.CONFIG).write_text("{}")
    assert not run_folder.goes_on_in(first), "nobody has started it again"
    with pytest.raises(UserError, match="the same command again in one job"):
        run_folder.new_run_folder(tmp_path / "runs", "vae", "small")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert run_folder.new_run_folder(tmp_path / "runs", "vae", "small") == first
    assert run_folder.goes_on_in(first)
    monkeypatch.setattr("sys.argv", ["lightning-cv", "fit", "--model.beta=4"])
    assert run_folder.new_run_folder(tmp_path / "runs", "vae", "small") != first, "another command of the job"


def test_one_process_may_train_twice_in_one_job(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "1")
    first, second = (run_folder.new_run_folder(tmp_path / "runs", "vae", "small") for _ in range(2))
    assert first.name.startswith("slurm-7.0-")
    assert first != second


def test_a_start_that_was_killed_at_once_is_begun_anew(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_folder.new_run_folder(tmp_path / "runs", "vae", "small")
    (first / run_folder.LOCK).touch()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert run_folder.new_run_folder(tmp_path / "runs", "vae", "small") == first
    (first / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(UserError, match="is there already"):  # settings are gone, work is not
        run_folder.new_run_folder(tmp_path / "runs", "vae", "small")
