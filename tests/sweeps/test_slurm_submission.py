"""Jobs that SLURM has taken and nobody has heard of: found again, and never submitted a second time."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm
from launched import Sweeping, wait_for

from lightning_cv.errors import UserError
from lightning_cv.sweeps import slurm
from lightning_cv.sweeps.cluster import Cluster
from lightning_cv.sweeps.folder import SweepFolder, Trial
from lightning_cv.sweeps.launcher import Handle, Job, NotTaken
from lightning_cv.sweeps.run import SweepLoop
from lightning_cv.sweeps.slurm import SlurmLauncher
from lightning_cv.sweeps.spec import read_sweep

pytest.importorskip("submitit")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    made = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(made.bin), prepend=":")
    monkeypatch.setattr(slurm, "_LOOK_S", 0.0)
    return made


def launcher(folder: Path) -> SlurmLauncher:
    return SlurmLauncher(Cluster(), folder, "betas")


def jobs(folder: Path, count: int) -> list[Job]:
    return [Job(f"t{n}", n, ["true"], {}, folder, folder / "log") for n in range(count)]


def give_tasks(folder: Path, *numbers: str) -> None:
    """What submitit does after sbatch has answered."""
    for number in numbers:
        (folder / "slurm" / f"{number}_submitted.pkl").touch()


def ended(handle: Handle) -> tuple[str, str]:
    how = handle.poll()
    return (how.outcome, how.reason) if how else ("", "")


@pytest.mark.parametrize(("count", "number"), [(3, "6_1"), (1, "6")])
def test_a_job_is_found_by_its_comment_and_its_place(
    cluster: FakeSlurm, tmp_path: Path, count: int, number: str
) -> None:
    dead = launcher(tmp_path)
    references = dead.references(count)
    started = dead.start(jobs(tmp_path, count), references)
    assert [one.reference for one in started][-1] == (f"6_{count - 1}" if count > 1 else "6")
    found = launcher(tmp_path).recover(references[count // 2])
    assert found is not None
    assert ended(found) == ("", "")
    assert found.reference == number
    cluster.become(number, "COMPLETED")
    assert ended(found) == ("finished", "")
    assert cluster.calls("scancel") == []


def test_a_job_that_never_got_its_task_is_cancelled_and_waited_for(cluster: FakeSlurm, tmp_path: Path) -> None:
    """submitit hands tasks out after sbatch's answer: a launcher killed between them leaves jobs with nothing to do."""
    dead = launcher(tmp_path)
    references = dead.references(2)
    dead.start(jobs(tmp_path, 2), references)
    (tmp_path / "slurm" / "6_1_submitted.pkl").unlink()
    kept, lost = (launcher(tmp_path).recover(one) for one in references)
    assert kept is not None
    assert lost is not None
    assert (ended(kept), ended(lost)) == (("", ""), ("", ""))
    assert cluster.calls("scancel") == ["6_1"]
    assert ended(lost) == ("interrupted", "its submission was cut short")
    assert ended(kept) == ("", "")


def test_jobs_are_not_given_up_before_the_controller_answers(
    cluster: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = launcher(tmp_path).recover("sweep-abc/0")
    assert found is not None
    cluster.mood("silent")
    monkeypatch.setattr(slurm, "_MAY_APPEAR_S", 0.0)
    assert ended(found) == ("", "")
    cluster.mood()
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(cluster.bin), prepend=":")
    monkeypatch.setattr(slurm, "_LOOK_S", 0.0)
    assert ended(found) == ("", ""), "sbatch may be at it still"
    monkeypatch.setattr(slurm, "_MAY_APPEAR_S", 0.0)
    assert ended(found) == ("interrupted", "SLURM knows it no more")


def test_jobs_that_nobody_wants_any_more_are_cancelled_when_they_appear(cluster: FakeSlurm, tmp_path: Path) -> None:
    found = launcher(tmp_path).recover("sweep-abc/1")
    assert found is not None
    found.stop()
    assert ended(found) == ("", "")
    (tmp_path / "slurm").mkdir(exist_ok=True)
    give_tasks(tmp_path, "9_1")
    (cluster.folder / "queue").write_text("9_0|RUNNING|n1|sweep-abc\n9_1|RUNNING|n1|sweep-abc\n8_1|RUNNING|n1|sweep\n")
    assert ended(found) == ("", "")
    assert cluster.states() == {"9_0": "RUNNING", "9_1": "CANCELLED", "8_1": "RUNNING"}
    assert ended(found) == ("interrupted", "cancelled")


@pytest.mark.parametrize("taken", [True, False])
def test_a_controller_that_is_busy_does_not_end_the_sweep(
    cluster: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    one = launcher(tmp_path)
    references = one.references(2)
    cluster.mood("busy", *([] if taken else ["lost"]))
    handles = one.start(jobs(tmp_path, 2), references)
    assert [handle.reference for handle in handles] == references
    assert one.room == 1000 - 2
    monkeypatch.setattr(slurm, "_MAY_APPEAR_S", 0.0)
    if taken:
        assert [ended(handle) for handle in handles] == [("", "")] * 2
        assert cluster.states() == {"6_0": "CANCELLED", "6_1": "CANCELLED"}, "they have no tasks"
    assert {ended(handle)[0] for handle in handles} == {"interrupted"}
    assert one.room == 1000
    for _ in range(3):
        one.start(jobs(tmp_path, 1), one.references(1))
    with pytest.raises(UserError, match=r"does not answer to 5 submissions: .*Socket timed out") as gave_up:
        one.start(jobs(tmp_path, 1), one.references(1))
    assert not isinstance(gave_up.value, NotTaken), "the jobs may be there"


@pytest.fixture
def sweep(sweeping: Sweeping) -> Sweeping:
    sweeping.write({"a": {"values": [1, 2, 3]}})
    return sweeping


def loop(sweep: Sweeping) -> SweepLoop:
    folder, read = SweepFolder(sweep.folder), read_sweep(sweep.file)
    return SweepLoop(read, folder, folder.agree(read, None, None), launcher(sweep.folder), 0)


def kept(sweep: Sweeping) -> list[Trial]:
    folder = SweepFolder(sweep.folder)
    return [trial for number in range(3) if (trial := folder.read(number))]


def test_refused_trials_are_as_they_were(cluster: FakeSlurm, sweep: Sweeping) -> None:
    cluster.mood("full")
    begun = loop(sweep)
    begun.folder.write(replace(begun._new(1), state="interrupted", starts=4))
    with pytest.raises(UserError, match=r"SLURM does not take the jobs: .*Invalid qos"):
        begun.run()
    assert [(trial.state, trial.starts, trial.reference) for trial in kept(sweep)] == [
        ("waiting", 0, ""), ("interrupted", 4, ""), ("waiting", 0, ""),
    ]  # fmt: skip
    assert SweepFolder(sweep.folder).claim(0) == 2, "its claim is over"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's device that is always full")
def test_nothing_is_submitted_that_cannot_be_kept_before(
    cluster: FakeSlurm, sweep: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = loop(sweep)

    def full(*_: object) -> None:
        raise UserError("cannot write: No space left on device")

    monkeypatch.setattr(begun.folder, "write", full)
    with pytest.raises(UserError, match="No space left"):
        begun.run()
    assert cluster.calls("sbatch") == []


def test_a_launcher_killed_within_sbatch_leaves_jobs_that_the_next_one_takes_over(
    cluster: FakeSlurm, sweep: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.mood("kill")
    killed = sweep.start("s.yaml", "--launcher", "slurm")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    left = kept(sweep)
    assert [(trial.state, trial.starts) for trial in left] == [("running", 1)] * 3
    assert [trial.reference.partition("/")[2] for trial in left] == ["0", "1", "2"]
    cluster.mood()
    give_tasks(sweep.folder, "6_0", "6_1")
    cluster.become("6_1", "COMPLETED")
    cluster.become("6_0", "RUNNING")
    again = sweep.start("s.yaml", "--launcher", "slurm")
    try:
        wait_for(lambda: len(cluster.calls("sbatch")) == 2)  # of the third, which had no task
        wait_for(lambda: [trial.reference for trial in kept(sweep)] == ["6_0", "6_1", "7"])
        assert cluster.states() == {"6_0": "RUNNING", "6_1": "COMPLETED", "6_2": "CANCELLED", "7": "PENDING"}
        cluster.become("6_0", "COMPLETED")
        cluster.become("7", "COMPLETED")
        said, _ = again.communicate(timeout=60)
    finally:
        again.kill()
    assert again.returncode == 0, said
    assert [(trial.state, trial.starts) for trial in kept(sweep)] == [("finished", 1), ("finished", 1), ("finished", 2)]
    assert len(cluster.calls("sbatch")) == 2


def test_a_living_launchers_submission_is_not_touched(cluster: FakeSlurm, sweep: Sweeping) -> None:
    other = loop(sweep)
    with other.folder.alive():
        ready = [taken for number in range(3) if (taken := other._take(number))]
        assert len(ready) == 3
        other._start(ready)
        mine = loop(sweep)
        with mine.folder.alive():
            assert not mine._fill()
        assert mine.held == [0, 1, 2]
    assert len(cluster.calls("sbatch")) == 1
    assert cluster.calls("scancel") == []
