"""Trials of our own `fit`: resumed where they have a checkpoint, begun again where not, done when they say so."""

import stat
from pathlib import Path

import pytest
import yaml

from lightning_cv.cli.sweep_runs import run_folders
from lightning_cv.sweeps.folder import SweepFolder
from lightning_cv.sweeps.local import LocalLauncher
from lightning_cv.sweeps.progress import RESULTS
from lightning_cv.sweeps.run import SweepLoop
from lightning_cv.sweeps.spec import read_sweep

FIT = """#!/bin/sh
# As lightning-cv: `fit` makes its run in the trial's folder, `resume FOLDER` goes on; plan.txt says how each call ends.
echo "$@" >> calls.txt
plan=$(sed -n "$(wc -l < calls.txt)p" plan.txt)
cd "$LIGHTNING_CV_TRIAL_DIR"
mkdir -p checkpoints
printf 'trainer:\\n  max_epochs: 5\\n' > config.yaml
case "$plan" in
  done) printf '{"val/x": 1}' > results.json ;;
  silent) ;;
  dies-early) exit 3 ;;
  dies-saved) echo "$$" > checkpoints/last.ckpt; exit 3 ;;
  dies-late) exit 3 ;;
esac
"""


@pytest.fixture
def fitting(tmp_path, monkeypatch):
    """Run a sweep of one trial whose calls end as planned; the calls, and the trial's state."""
    program = tmp_path / "bin" / "lightning-cv"
    program.parent.mkdir()
    program.write_text(FIT)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "s.yaml"
    command = ["${program}", "fit", "--config", "x", "${args}"]
    content = {"program": str(program), "command": command, "method": "grid", "parameters": {"a": {"value": 1}}}
    file.write_text(yaml.safe_dump(content))

    def run(*plan: str, retries: int = 9):
        Path("plan.txt").write_text("\n".join(plan) + "\n")
        Path("calls.txt").unlink(missing_ok=True)
        folder = SweepFolder(tmp_path / "sweep")
        sweep = read_sweep(file)
        agreement = folder.agree(sweep, None, None)
        SweepLoop(sweep, folder, agreement, LocalLauncher(1), retries).run()
        calls = Path("calls.txt").read_text().splitlines() if Path("calls.txt").exists() else []
        return [call.split()[0] for call in calls], folder.read(0)

    return run


def test_a_run_is_finished_by_its_results(fitting):
    calls, trial = fitting("done")
    assert (calls, trial.state, trial.epochs) == (["fit"], "finished", 5)
    assert Path("calls.txt").read_text() == "fit --config x --a=1\n"
    assert fitting("done")[0] == []


def test_a_run_that_ends_with_status_0_and_no_results_is_not_finished(fitting):
    calls, trial = fitting("silent", "done")
    assert (calls, trial.state, trial.starts) == (["fit", "fit"], "finished", 2)
    calls, trial = fitting("silent", retries=0)
    assert calls == []


def test_a_run_without_a_checkpoint_begins_again_in_an_empty_folder(fitting):
    calls, trial = fitting("dies-early", "done")
    assert (calls, trial.state) == (["fit", "fit"], "finished")


def test_a_run_with_a_checkpoint_is_resumed_and_begun_again_when_that_gets_it_no_further(fitting, tmp_path):
    calls, trial = fitting("dies-saved", "dies-saved", "dies-late", "done")
    assert calls == ["fit", "resume", "resume", "fit"], "the second resume left no newer checkpoint"
    assert (trial.state, trial.failures, trial.starts) == ("finished", 3, 4)
    sweep = tmp_path / "sweep"
    assert (sweep / f".{trial.id}-3" / "checkpoints" / "last.ckpt").exists(), "what was trained is set aside"
    for run in (sweep / trial.id, sweep / f".{trial.id}-3"):
        (run / "config.yaml").write_text("{model: {}, data: {}}")
    assert list(run_folders(sweep)) == [sweep / trial.id], "and is no second run of the report"


def test_a_run_that_ended_while_its_launcher_was_dead_is_not_run_again(fitting, tmp_path):
    _, trial = fitting("dies-saved", retries=0)
    assert trial.state == "failed"
    folder = SweepFolder(tmp_path / "sweep")
    trial.state, trial.launcher, trial.failures = "running", "dead", 0
    folder.write(trial)
    (folder.path / trial.id / RESULTS).write_text("{}")
    calls, trial = fitting("done")
    assert (calls, trial.state) == ([], "finished")
