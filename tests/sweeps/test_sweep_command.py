"""Our command line against the one that W&B's own agent would start, and our files against its own readers."""

import json
import queue
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from wandb import wandb_agent
from wandb.sdk.sweeps.scheduler.optuna import sweep_parameter_to_distribution

from lightning_cv.cli.experiments import shipped_experiments
from lightning_cv.sweeps.command import command_line, fit_of, resume_line
from lightning_cv.sweeps.parameters import parameters_of
from lightning_cv.sweeps.search import distribution_of
from lightning_cv.sweeps.spec import read_sweep

SWEEPS = sorted(shipped_experiments().glob("sweeps/*.yaml"))
POINT = {
    "model.beta": 0.1,
    "flag": True,
    "off": False,
    "none": None,
    "net": {"width": 8},
    "text": "a b",
    "list": [1, 2],
}


@pytest.fixture
def agents_line(monkeypatch, tmp_path):
    """What `wandb agent` would start, from its own code, with its process taken away."""
    started = []
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_RUN_ID", "")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "")
    monkeypatch.setattr(wandb_agent.AgentProcess, "__init__", lambda self, command=None, **_: started.append(command))

    def line(command, program, point):
        agent = wandb_agent.Agent(api=None, queue=queue.Queue())
        agent._sweep_command = list(command)
        arguments = {name: {"value": value} for name, value in point.items()}
        agent._command_run({"run_id": "r", "args": arguments, "program": program})
        return started[-1]

    return line


@pytest.mark.parametrize(
    "command",
    [
        ["${env}", "${interpreter}", "${program}", "${args}"],
        ["${program}", "fit", "--config", "x", "${args}"],
        ["${program}", "${args_no_equals}"],
        ["${program}", "${args_no_hyphens}"],
        ["${program}", "${args_no_boolean_flags}", "last"],
        ["${program}", "${args_json}"],
        ["${program}", "${args_append_hydra}", "${args_override_hydra}"],
        ["${envvar:SOME_PLACE}/bin", "x=${envvar:NOT_THERE}", "${envvar:SOME_PLACE}", "${args}"],
    ],
    ids=lambda command: command[1],
)
def test_the_command_line_is_the_agents(agents_line, monkeypatch, command):
    monkeypatch.setenv("SOME_PLACE", "/opt")
    assert command_line(command, "train.py", POINT) == agents_line(command, "train.py", POINT)


def test_the_json_file_says_what_the_agents_says(agents_line, tmp_path):
    command = ["${program}", "${args_json_file}"]
    (tmp_path / "wandb/sweep-None").mkdir(parents=True)
    theirs = agents_line(command, "train.py", POINT)
    ours = command_line(command, "train.py", POINT, tmp_path / "args.json")
    assert ours[0] == theirs[0]
    assert json.loads(Path(ours[1]).read_text()) == json.loads(Path(theirs[1]).read_text()) == POINT


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_shipped_sweeps_run_what_the_agent_would_run(agents_line, path):
    sweep = read_sweep(path)
    for point in sweep.grid():
        ours = command_line(sweep.command, sweep.program, point)
        assert ours == agents_line(yaml.safe_load(path.read_text())["command"], sweep.program, point)
        assert fit_of(ours) == 1


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_shipped_sweeps_pass_wandbs_schema(path):
    """By the file that W&B's server checks with; its package asks for an older NumPy, so that it is no dependency."""
    jsonschema = pytest.importorskip("jsonschema")
    try:
        package = distribution("sweeps")
    except PackageNotFoundError:
        pytest.skip("the package `sweeps`, which holds W&B's schema, is not installed (pip install --no-deps sweeps)")
    schema = json.loads(Path(str(package.locate_file("sweeps/config/schema.json"))).read_text())
    validator = jsonschema.Draft7Validator(schema)
    content = yaml.safe_load(path.read_text())
    assert [error.message for error in validator.iter_errors(content)] == []
    assert not validator.is_valid(content | {"method": "gird"})


@pytest.mark.parametrize(
    "block",
    [
        {"value": 3},
        {"values": ["a", "b"]},
        {"min": 1, "max": 5},
        {"min": 1, "max": 5.5},
        {"distribution": "uniform", "min": 0, "max": 2},
        {"distribution": "int_uniform", "min": 0, "max": 2},
        {"distribution": "log_uniform_values", "min": 1, "max": 9},
    ],
    ids=str,
)
def test_parameters_are_drawn_as_wandbs_own_optuna_scheduler_draws_them(block):
    (parameter,) = parameters_of({"a": block}, "f")
    theirs, ours = sweep_parameter_to_distribution(block), distribution_of(parameter)
    if ours is None:
        assert theirs.choices == (parameter.values[0],)
    elif hasattr(theirs, "choices"):
        assert tuple(parameter.values[index] for index in ours.choices) == theirs.choices
    else:
        assert ours == theirs


def test_our_fit_is_known_in_every_way_of_calling_it_and_resumed_the_same_way():
    lines = {
        ("lightning-cv", "fit", "--config", "x"): 1,
        ("/opt/bin/lightning-cv", "fit", "x"): 1,
        ("/usr/bin/env", "python", "-m", "lightning_cv", "fit", "--a=1"): 4,
        ("lightning-cv", "rcnn", "fit"): None,
        ("python", "train.py", "fit"): None,
        ("python", "-m", "lightning_cv"): None,
    }
    assert {line: fit_of(line) for line in lines} == lines
    assert resume_line(["python", "-m", "lightning_cv", "fit", "--a=1"], Path("r")) == [
        "python", "-m", "lightning_cv", "resume", "r",
    ]  # fmt: skip
