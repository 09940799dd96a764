"""Sweeps of our own experiments: what is refused before anything starts, and where a trial's run goes."""

import io
import json
import subprocess

import pytest
import yaml
from forked import run

from lightning_cv.cli import main
from lightning_cv.sweeps import check

COMMAND = ["${program}", "fit", "--config", "vae/beta_vae_digits", "${args}"]


@pytest.fixture
def checked_here(monkeypatch):
    """The check in this process, which has the heavy imports already."""

    def here(command, input, **_):
        out = io.StringIO()
        monkeypatch.setattr("sys.stdin", io.StringIO(input))
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", out)
            status = check.main()
        return subprocess.CompletedProcess(command, status, out.getvalue(), "")

    monkeypatch.setattr(check.subprocess, "run", here)


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    """`lightning-cv sweep` on parameters: exit status and the error's text; nothing may have been made."""
    monkeypatch.chdir(tmp_path)

    def launch(parameters, command=COMMAND):
        content = {"program": "true", "command": command, "method": "grid", "parameters": parameters}
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(content, sort_keys=False).replace("${program}", "lightning-cv"))
        status = main(["sweep", "s.yaml"])
        assert not (tmp_path / "runs").exists()
        return status, capsys.readouterr().err

    return launch


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"model.beat": {"values": [1, 4]}}, "s.yaml: parameters: no key model.beat; did you mean model.beta?"),
        (
            {"model": {"parameters": {"beat": {"values": [1, 4]}}}},
            "beat",
        ),
        (
            {"model.beta": {"values": [1, "much", 4]}},
            "s.yaml: parameters: model.beta: Expected a float. Got value: much",
        ),
        ({"seed_evrything": {"value": 1}}, "s.yaml: parameters: no key seed_evrything; did you mean seed_everything?"),
        ({"model.net.widht": {"value": 8}}, "did you mean model.net.width?"),
    ],
    ids=["unknown", "nested", "type", "top", "deep"],
)
def test_a_parameter_that_fit_would_refuse_is_refused_before_any_trial(checked_here, sweep, parameters, words):
    status, told = sweep(parameters)
    assert status == 2
    assert words in told
    assert len(told.splitlines()) <= 5


def test_an_experiment_that_is_not_there_is_refused(checked_here, sweep):
    command = ["${program}", "fit", "--config", "vae/beta_vae_digist", "${args}"]
    status, told = sweep({"model.beta": {"value": 1}}, command)
    assert status == 2
    assert "did you mean vae/beta_vae_digits?" in told


@pytest.mark.slow
def test_the_check_runs_in_a_process_of_its_own(sweep):
    status, told = sweep({"model.beat": {"values": [1, 4]}})
    assert (status, told) == (
        2,
        "lightning-cv sweep: s.yaml: parameters: no key model.beat; did you mean model.beta?\n",
    )


def test_a_trials_run_is_in_the_folder_that_the_sweep_names(tmp_path):
    trial = tmp_path / "sweep" / "0123456789ab"
    trial.mkdir(parents=True)
    words = ["fit", "--config", "vae/beta_vae_digits", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu"]
    environment = {"LIGHTNING_CV_TRIAL_DIR": str(trial), "WANDB_RUN_ID": trial.name}
    assert run([*words, *quiet], tmp_path, **environment) == 0
    assert json.loads((trial / "results.json").read_text())["seconds"] > 0
    assert not (tmp_path / "runs").exists()
    (log,) = (trial / "wandb").glob("offline-run-*")
    assert log.name.endswith(f"-{trial.name}")
