"""Who may run a trial: one launcher at a time, and after a dead one exactly one other."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lightning_cv.errors import UserError
from lightning_cv.sweeps.folder import SILENT_S, SweepFolder, Trial
from lightning_cv.sweeps.processes import end_group, is_alive, machine, reference
from lightning_cv.sweeps.spec import read_sweep

TRIAL = Trial(3, "abc", {"a": 1})


@pytest.fixture
def folders(tmp_path):
    """Two launchers' views of one folder."""
    path = tmp_path / "s.yaml"
    path.write_text("program: p\nmethod: grid\nparameters: {a: {values: [1, 2, 3, 4]}}\n")
    made = [SweepFolder(tmp_path / "sweep") for _ in range(3)]
    for one in made:
        one.agree(read_sweep(path), None, None)
    return made


def test_a_claim_is_one_launchers_until_the_state_says_that_it_is_over(folders):
    one, other, _ = folders
    with one.alive(), other.alive():
        assert one.claim(3) == 1
        assert (other.claim(3), one.claim(3)) == (None, None)
        assert other.holder(3) == one.token
        one.write(replace(TRIAL, claim=1, state="running"))
        assert other.claim(3) is None
        one.write(replace(TRIAL, claim=1, state="interrupted"))
        assert other.holder(3) is None
        assert other.claim(3) == 2
        assert (one.holds(3, 1), other.holds(3, 2)) == (False, True)
        assert other.claim(0) == 1, "other trials are not touched"


def test_a_dead_launchers_claims_are_free_and_only_one_gets_each(folders):
    dead, one, other = folders
    with dead.alive(), one.alive(), other.alive():
        assert [dead.claim(number) for number in range(4)] == [1, 1, 1, 1]
        (dead.launchers / f"{dead.token}.json").unlink()
        with ThreadPoolExecutor(8) as pool:
            found = list(
                pool.map(lambda job: job[0].claim(job[1]), [(f, n) for n in range(4) for f in (one, other)] * 4)
            )
        assert sorted(claim for claim in found if claim) == [2, 2, 2, 2]
        assert sorted({one.holder(n) for n in range(4)} | {one.token, other.token}) == sorted([one.token, other.token])


def test_a_launcher_of_this_machine_lives_as_long_as_its_process(folders):
    dead, one, _ = folders
    with dead.alive(), one.alive():
        assert dead.claim(3) == 1
        child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
        path = dead.launchers / f"{dead.token}.json"
        path.write_text(path.read_text().replace(reference(os.getpid()), reference(child.pid)))
        os.utime(path, (0, 0))
        assert one.claim(3) is None, "silent, but alive"
        assert one.living() == [dead.token]
        child.communicate()
        assert one.claim(3) == 2


def test_a_launcher_elsewhere_lives_as_long_as_it_gives_signs(folders):
    far, one, _ = folders
    with far.alive(), one.alive():
        assert far.claim(3) == 1
        path = far.launchers / f"{far.token}.json"
        path.write_text(path.read_text().replace(machine(), "elsewhere"))
        os.utime(path, (time.time() - SILENT_S + 20,) * 2)
        assert one.claim(3) is None
        os.utime(path, (time.time() - SILENT_S - 1,) * 2)
        assert one.holder(3) is None
        assert one.claim(3) == 2


def test_a_claim_without_a_name_is_young_or_dead(folders):
    one = folders[0]
    with one.alive():
        path = one.claims / "00003.1"
        path.touch()
        assert one.claim(3) is None
        os.utime(path, (time.time() - SILENT_S - 1,) * 2)
        assert one.claim(3) == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's device that is always full")
def test_a_claim_that_a_full_disk_leaves_without_a_name_is_taken_back(folders, monkeypatch):
    one = folders[0]
    open_file = os.open

    def full(path, *options):
        os.close(open_file(path, *options))
        return open_file("/dev/full", os.O_WRONLY)

    with one.alive():
        monkeypatch.setattr("os.open", full)
        with pytest.raises(UserError, match=r"cannot write .*00003.1: No space left on device"):
            one.claim(3)
        monkeypatch.undo()
        assert one.claim(3) == 1, "at once, and not when two minutes are over"


def test_a_drawn_point_belongs_to_the_first_trial_that_asks(folders):
    one, other, _ = folders
    assert one.is_new("abc", 1)
    assert not other.is_new("abc", 2)
    assert other.is_new("abc", 1)


def test_state_is_read_as_it_was_written(folders):
    one = folders[0]
    assert one.read(3) is None
    trial = replace(TRIAL, state="failed", reason="exit status 3", best=0.1 + 0.2, begun=1.5, asked=7)
    one.write(trial)
    assert folders[1].read(3) == trial


def test_what_cannot_be_written_is_told_with_its_place(folders, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match=r"cannot write .*trials/00003.json: No space left on device"):
        folders[0].write(TRIAL)


def test_a_process_is_known_by_its_number_and_when_it_began():
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, process_group=0)
    told = reference(child.pid)
    assert is_alive(told)
    pid, began, rest = told.split(" ", 2)
    for wrong in (f"{pid} {int(began) + 1} {rest}", f"{pid} {began} elsewhere", "", "x y z"):
        assert not is_alive(wrong)
        end_group(wrong, 1.0)
    assert child.poll() is None, "none of these was the child"
    end_group(told, 1.0)
    assert not is_alive(told)
    assert child.wait() != 0
