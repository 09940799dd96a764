"""Sweeps of a quick program: every point once, whatever is killed, cancelled or launched twice."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from launched import wait_for

from lightning_cv.sweeps.folder import SweepFolder, Trial
from lightning_cv.sweeps.local import Place, places
from lightning_cv.sweeps.spec import read_sweep


def test_every_point_runs_once_in_order_and_again_nothing_runs(sweeping):
    sweeping.write({"a": {"values": [1, 2]}, "b": {"values": ["x", "y"]}})
    first = sweeping.run("s.yaml")
    assert (first.returncode, first.stderr) == (0, "")
    assert [one["argv"] for one in sweeping.notes()] == [[f"--a={a}", f"--b={b}"] for a in (1, 2) for b in "xy"]
    assert "4 finished" in first.stdout
    assert sweeping.run("s.yaml").returncode == 0
    assert len(sweeping.notes()) == 4


def test_a_trial_knows_its_id_its_folder_its_threads_and_its_cores(sweeping):
    sweeping.write({"a": {"values": [1, 2]}})
    assert sweeping.run("s.yaml", "--jobs", "2", "--threads", "3").returncode == 0
    for one in sweeping.notes():
        seen = json.loads((sweeping.folder / one["id"] / "seen.json").read_text())
        assert seen["WANDB_RUN_ID"] == one["id"]
        assert (seen["OMP_NUM_THREADS"], seen["WANDB_RUN_GROUP"]) == ("3", "s")
        assert len(seen["cores"]) == max(1, len(os.sched_getaffinity(0)) // 2)
    assert sweeping.status()["threads"] == 3
    refused = sweeping.run("s.yaml", "--threads", "1")
    assert refused.returncode == 2
    assert "was begun with --threads 3" in refused.stderr


def test_gpus_are_shared_out(sweeping):
    sweeping.write({"a": {"values": [1, 2, 3, 4]}, "sleep": {"value": 0.3}})
    assert sweeping.run("s.yaml", "--gpus", "5,7").returncode == 0
    devices = [json.loads(path.read_text())["CUDA_VISIBLE_DEVICES"] for path in sweeping.folder.glob("*/seen.json")]
    assert sorted(devices) == ["5", "5", "7", "7"]
    begun, ended = sweeping.notes("begins"), sweeping.notes("ends")
    assert begun[1]["at"] < ended[0]["at"], "two at once, one a GPU"
    assert begun[2]["at"] > ended[0]["at"]


def test_places_share_cores_evenly_and_jobs_beyond_them_take_turns():
    assert places(2, None, [4, 5, 6]) == [Place(None, (4,)), Place(None, (5,))]
    assert places(3, None, [0, 1]) == [Place(None, (0,)), Place(None, (1,)), Place(None, (0,))]
    assert places(3, ["0", "1"], [0, 1]) == [Place("0", ()), Place("1", ()), Place("0", ())]
    assert places(1, None, []) == [Place(None, ())]


def test_a_failure_is_tried_again_as_often_as_asked_and_once_more_by_retry(sweeping):
    sweeping.write({"status": {"values": [3, 0]}})
    done = sweeping.run("s.yaml", "--retries", "2")
    assert done.returncode == 1
    assert [one["argv"] for one in sweeping.notes()] == [["--status=3"], ["--status=0"], ["--status=3"], ["--status=3"]]
    failed, finished = sweeping.status()["trials"]
    assert (failed["state"], failed["reason"], failed["starts"]) == ("failed", "exit status 3", 3)
    assert finished["state"] == "finished"
    assert sweeping.run("s.yaml", "--retries", "2").returncode == 1
    assert len(sweeping.notes()) == 4, "no retries are left"
    assert "1 trials will run again" in sweeping.run("retry", "s.yaml").stdout
    assert sweeping.run("s.yaml", "--retries", "0").returncode == 1
    assert len(sweeping.notes()) == 5


def test_two_launchers_on_one_folder_never_run_a_point_twice(sweeping):
    sweeping.write({"a": {"values": list(range(20))}})
    launchers = [sweeping.start("s.yaml", "--jobs", "2") for _ in range(2)]
    said = [one.communicate(timeout=60)[0] for one in launchers]
    assert [one.returncode for one in launchers] == [0, 0]
    assert sorted(one["argv"][0] for one in sweeping.notes()) == sorted(f"--a={a}" for a in range(20))
    assert all(text.count(": started") > 1 for text in said), "both had a share"
    assert sweeping.states() == ["finished"] * 20


@pytest.mark.parametrize("deaf", [False, True])
def test_a_launcher_killed_at_work_loses_nothing_and_nothing_runs_beside_itself(sweeping, deaf):
    """Its trials get SIGTERM from the system; those that do not listen are ended by the next launcher."""
    sweeping.write({"a": {"values": [1, 2, 3]}, "sleep": {"value": 3.0}, "deaf": {"value": deaf}})
    launcher = sweeping.start("s.yaml", "--jobs", "2")
    wait_for(lambda: len(sweeping.notes()) == 2)
    wait_for(
        lambda: [path.read_text().count('"running"') for path in sweeping.folder.glob("state/trials/*.json")] == [1, 1]
    )
    launcher.kill()
    launcher.communicate()
    assert sweeping.states()[:2] == ["lost", "lost"]
    assert sweeping.run("s.yaml", "--jobs", "2", "--grace", "0.1").returncode == 0
    assert sweeping.states() == ["finished"] * 3
    assert len(sweeping.notes("ends")) == 3, "what the dead launcher had started was ended"
    assert len({one["id"] for one in sweeping.notes()}) == 3


def test_sigterm_ends_trials_and_the_same_command_goes_on(sweeping):
    sweeping.write({"a": {"values": [1, 2]}, "sleep": {"value": 1.0}})
    launcher = sweeping.start("s.yaml")
    wait_for(sweeping.notes)
    launcher.terminate()
    out, err = launcher.communicate(timeout=20)
    assert launcher.returncode == 130
    assert "interrupted (stopped, ended by SIGTERM)" in out
    assert "the same command goes on with it" in err
    assert sweeping.states() == ["interrupted", "waiting"]
    assert sweeping.run("s.yaml").returncode == 0
    assert [one["starts"] for one in sweeping.status()["trials"]] == [2, 1]


@pytest.mark.parametrize("twice", [False, True])
def test_a_trial_that_does_not_listen_is_killed_after_its_grace_or_at_the_second_signal(sweeping, twice):
    sweeping.write({"deaf": {"value": True}, "sleep": {"value": 60}})
    launcher = sweeping.start("s.yaml", "--grace", "60" if twice else "0.3")
    wait_for(sweeping.notes)
    begun = time.monotonic()
    launcher.send_signal(signal.SIGINT)
    if twice:
        time.sleep(0.2)
        launcher.send_signal(signal.SIGINT)
    assert "ended by SIGKILL" in launcher.communicate(timeout=20)[0]
    assert time.monotonic() - begun < 10


def test_cancel_stops_what_is_at_work_and_leaves_out_the_rest_until_retry(sweeping):
    sweeping.write({"sleep": {"values": [60, 0, 61]}})
    launcher = sweeping.start("s.yaml")
    wait_for(sweeping.notes)
    assert "2 trials cancelled" in sweeping.run("cancel", "s.yaml", "1", "3").stdout
    out, _ = launcher.communicate(timeout=50)
    assert launcher.returncode == 0, out
    assert sweeping.states() == ["cancelled", "finished", "cancelled"]
    assert [one["argv"] for one in sweeping.notes()] == [["--sleep=60"], ["--sleep=0"]]
    assert "2 trials will run again" in sweeping.run("retry", "s.yaml").stdout
    assert sweeping.states() == ["waiting", "finished", "waiting"]
    assert "1 trials cancelled" in sweeping.run("cancel", "s.yaml", "3").stdout
    launcher = sweeping.start("s.yaml")
    wait_for(lambda: len(sweeping.notes()) == 3)
    launcher.terminate()
    launcher.communicate(timeout=50)
    assert sweeping.states() == ["interrupted", "finished", "cancelled"]


def test_a_trial_is_named_by_id_or_number_and_others_are_refused(sweeping):
    sweeping.write({"a": {"values": [1, 2]}})
    assert sweeping.run("s.yaml").returncode == 0
    refused = sweeping.run("cancel", "s.yaml", "7")
    assert refused.returncode == 2
    assert "has no trial 7" in refused.stderr
    one = sweeping.status()["trials"][0]["id"]
    assert "0 trials cancelled" in sweeping.run("cancel", str(sweeping.folder), one).stdout, "it is finished"


def test_another_sweep_in_the_folder_is_refused(sweeping):
    sweeping.write({"a": {"values": [1]}})
    assert sweeping.run("s.yaml").returncode == 0
    sweeping.write({"a": {"values": [1, 2]}})
    refused = sweeping.run("s.yaml")
    assert refused.returncode == 2
    assert "runs/sweeps/s holds another sweep, of s.yaml; name another folder with --folder" in refused.stderr
    assert len(sweeping.notes()) == 1


def test_damaged_state_is_named_before_anything_starts(sweeping):
    sweeping.write({"a": {"values": [1, 2]}, "status": {"value": 1}})
    assert sweeping.run("s.yaml", "--retries", "0").returncode == 1
    state = sweeping.folder / "state/trials/00001.json"
    for content in ('{"number": 1,', "[]", '{"number": 1}'):
        state.write_text(content)
        for words in (("s.yaml",), ("status", "s.yaml")):
            refused = sweeping.run(*words)
            assert refused.returncode == 2
            assert "state/trials/00001.json is damaged" in refused.stderr
    (sweeping.folder / "sweep.json").write_text("{}")
    assert "sweep.json is damaged" in sweeping.run("status", "s.yaml").stderr
    assert len(sweeping.notes()) == 2


def test_a_file_where_the_folder_should_be_and_a_missing_program_are_told(sweeping):
    sweeping.write({"a": {"values": [1]}})
    (sweeping.root / "taken").write_text("")
    refused = sweeping.run("s.yaml", "--folder", "taken/here")
    assert refused.returncode == 2
    assert "cannot write taken/here" in refused.stderr
    sweeping.write({"a": {"values": [1]}}, command=["no-such-program", "${args}"])
    refused = sweeping.run("s.yaml")
    assert refused.returncode == 2
    assert "s.yaml: command: no program no-such-program on the path" in refused.stderr
    assert not sweeping.folder.exists()
    assert "is no sweep's folder" in sweeping.run("status", str(sweeping.root)).stderr


@pytest.mark.parametrize("option", ["--jobs=0", "--threads=0", "--retries=-1", "--count=0"])
def test_numbers_that_cannot_be_are_refused(sweeping, option):
    sweeping.write({"a": {"values": [1]}})
    refused = sweeping.run("s.yaml", option)
    assert refused.returncode == 2
    assert "must be at least" in refused.stderr


def test_status_tells_progress_best_and_what_is_left(sweeping):
    curve = json.dumps([3.0, 1.0, 2.0])
    parameters = {"curve": {"values": [curve]}, "sleep": {"values": [0, 60]}}
    sweeping.write(parameters, metric={"name": "val/x", "goal": "minimize"})
    launcher = sweeping.start("s.yaml")
    wait_for(lambda: [path.read_text().count("\n") for path in sweeping.folder.glob("*/metrics.csv")] == [4, 4])
    second = sweeping.notes()[1]["id"]
    (sweeping.folder / second / "config.yaml").write_text("trainer:\n  max_epochs: 9\n")
    found = sweeping.status()
    first, at_work = found["trials"]
    assert (first["state"], first["best"], first["epoch"], first["eta"]) == ("finished", 1.0, 3, None)
    assert (at_work["state"], at_work["best"], at_work["epoch"], at_work["epochs"]) == ("running", 1.0, 3, 9)
    assert at_work["eta"] == pytest.approx(at_work["seconds"] / 3 * 6, abs=0.2)
    assert found["states"] == {"finished": 1, "running": 1}
    shown = sweeping.run("status", "s.yaml").stdout
    assert "best val/x" in shown
    assert "3/9" in shown
    assert "s: 2 trials: 1 finished, 1 running" in shown
    launcher.terminate()
    launcher.communicate(timeout=20)


def test_status_and_the_loop_import_nothing_heavy():
    code = (
        "import sys; import lightning_cv.sweeps.main, lightning_cv.sweeps.run, lightning_cv.sweeps.status;"
        "import lightning_cv.sweeps.local, lightning_cv.sweeps.search, lightning_cv.sweeps.check;"
        "print([m for m in ('torch', 'lightning', 'wandb', 'optuna', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_status_of_a_thousand_trials_takes_under_a_second(sweeping):
    """Of processor time, the start of Python included: waiting for a busy machine is not counted."""
    sweeping.write({"a": {"min": 1, "max": 1000}})
    sweep, folder = read_sweep(sweeping.file), SweepFolder(sweeping.folder)
    folder.agree(sweep, None, None)
    for number, point in enumerate(sweep.grid()):
        folder.write(Trial(number, sweep.trial_id(point), point, "finished", 1, 1, best=float(number)))
    before = os.times()
    said, _ = sweeping.start("status", "s.yaml").communicate()
    after = os.times()
    assert "s: 1000 trials: 1000 finished" in said
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1.0
