"""Sweep files: points by hand, and every slip named by file and key."""

import math
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_cv.cli.experiments import shipped_experiments
from lightning_cv.errors import UserError
from lightning_cv.sweeps.check import points_to_try
from lightning_cv.sweeps.main import find_sweep
from lightning_cv.sweeps.parameters import DISTRIBUTIONS, parameters_of
from lightning_cv.sweeps.spec import Hyperband, Sweep, read_sweep, refuse_size

SWEEPS = sorted(shipped_experiments().glob("sweeps/*.yaml"))
BASE: dict[str, Any] = {
    "program": "train.py",
    "method": "grid",
    "parameters": {"a": {"values": [1, 2]}, "b": {"value": 3}},
}


@pytest.fixture
def sweep_of(tmp_path: Path):
    def make(**changes: Any) -> Sweep:
        content = {key: value for key, value in {**BASE, **changes}.items() if value is not None}
        path = tmp_path / "s.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return read_sweep(path)

    return make


def test_a_grid_is_in_the_files_order_and_its_last_parameter_is_fastest(sweep_of):
    sweep = sweep_of(parameters={"z": {"values": ["x", None, True]}, "a": {"min": 2, "max": 3}})
    assert list(sweep.grid()) == [
        {"z": "x", "a": 2}, {"z": "x", "a": 3}, {"z": None, "a": 2}, {"z": None, "a": 3}, {"z": True, "a": 2},
        {"z": True, "a": 3},
    ]  # fmt: skip
    assert sweep.size == 6


def test_nested_parameters_make_nested_values_and_dotted_names_stay_names(sweep_of):
    inner = {"beta": {"values": [1, 4]}, "net": {"parameters": {"width": {"value": 8}}}}
    sweep = sweep_of(parameters={"model": {"parameters": inner}, "data.size": {"value": 16}})
    assert list(sweep.grid()) == [
        {"model": {"beta": beta, "net": {"width": 8}}, "data.size": 16} for beta in (1, 4)
    ]  # fmt: skip
    assert [parameter.key for parameter in sweep.parameters] == ["model.beta", "model.net.width", "data.size"]


def test_a_quantized_range_has_both_ends_and_no_rounding(sweep_of):
    sweep = sweep_of(parameters={"a": {"distribution": "q_uniform", "min": 0.1, "max": 0.4, "q": 0.1}})
    assert [point["a"] for point in sweep.grid()] == [0.1, 0.2, 0.3, 0.4]
    sweep = sweep_of(parameters={"a": {"distribution": "q_uniform", "min": 2, "max": 9, "q": 3}})
    assert [point["a"] for point in sweep.grid()] == [2, 5, 8]
    assert all(type(point["a"]) is int for point in sweep.grid())


def test_run_cap_takes_the_first_points(sweep_of):
    assert [point["a"] for point in sweep_of(run_cap=1).grid()] == [1]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_shipped_sweeps_have_every_point_once_with_an_id_of_its_own(path):
    sweep = read_sweep(path)
    content = yaml.safe_load(path.read_text())["parameters"]
    expected = [
        dict(zip(content, point, strict=True)) for point in product(*(one["values"] for one in content.values()))
    ]
    assert list(sweep.grid()) == expected
    assert len({sweep.trial_id(point) for point in expected}) == sweep.size == len(expected)
    refuse_size(sweep, sure=False)


def test_an_id_is_of_the_sweep_and_the_point_and_nothing_else(sweep_of):
    one = sweep_of(name="x", project="p", run_cap=1)
    same = sweep_of(name="y")
    other = sweep_of(program="other.py")
    point = {"a": 1, "b": 3}
    assert one.trial_id(point) == same.trial_id({"b": 3, "a": 1}) != other.trial_id(point)
    assert re.fullmatch("[0-9a-f]{12}", one.trial_id(point))
    assert (
        one.trial_id(point) == "6de4890b0284"
    )  # of our own first run: an id that changes would run every trial of a begun sweep again
    assert sweep_of(parameters={"b": {"value": 3}, "a": {"values": [1, 2]}}).fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metod": "grid"}, "s.yaml: no key metod; did you mean method?"),
        ({"method": "gird"}, "s.yaml: method: one of grid, random, bayes is expected, got 'gird'"),
        ({"method": None}, "method: one of grid, random, bayes is expected, there is none"),
        ({"job": "j"}, "job: a W&B Launch job cannot be run here"),
        ({"parameters": None}, "parameters: there are none"),
        ({"parameters": {}}, "parameters: a mapping of names to values is expected"),
        ({"parameters": {"a": {"values": []}}}, "parameters.a.values: the list is empty"),
        ({"parameters": {"a": {"values": [1, 2, 1.0]}}}, "parameters.a.values: 1.0 stands there twice"),
        ({"parameters": {"a": {"values": 3}}}, "parameters.a.values: a list is expected, got 3"),
        ({"parameters": {"a": 3}}, "parameters.a: write `{value: 3}`"),
        ({"parameters": {"a": {}}}, "parameters.a: write value, values, min and max, or a distribution; got nothing"),
        ({"parameters": {"a": {"vaules": [1]}}}, "parameters.a: no key vaules; did you mean values?"),
        ({"parameters": {"a": {"value": 1, "q": 2}}}, "parameters.a: constant has no q"),
        ({"parameters": {"a": {"distribution": "unifrom", "min": 0, "max": 1}}}, "did you mean uniform?"),
        ({"parameters": {"a": {"min": 0.0, "max": 1}}}, "parameters.a: a grid needs values, not uniform"),
        ({"parameters": {"a": {"min": 3, "max": 1}}}, "parameters.a: min must be below max, got 3 and 1"),
        (
            {"method": "random", "parameters": {"a": {"min": "1e-3", "max": 1}}},
            "parameters.a.min: a number is expected, got '1e-3': YAML reads this as text, write 0.001",
        ),
        (
            {"method": "random", "parameters": {"a": {"distribution": "log_uniform_values", "min": 0, "max": 1}}},
            "parameters.a.min: log_uniform_values is above 0",
        ),
        ({"method": "random", "parameters": {"a": {"distribution": "normal", "sigma": 0}}}, "a.sigma: must be above 0"),
        (
            {"method": "random", "parameters": {"a": {"values": [1, 2], "probabilities": [0.5, 0.4]}}},
            "parameters.a.probabilities: none below 0 and a sum of 1 are expected, the sum is 0.9",
        ),
        (
            {"method": "random", "parameters": {"a": {"values": [1, 2], "probabilities": [1.0]}}},
            "parameters.a.probabilities: as many as values are expected (2)",
        ),
        (
            {"parameters": {"m.b": {"value": 1}, "m": {"parameters": {"b": {"value": 2}}}}},
            "parameters.m.b: stands there twice, dotted and nested",
        ),
        ({"method": "bayes"}, "metric: bayes needs one, there is none"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 2}}, "metric: early_terminate needs one"),
        ({"metric": {"name": "x", "goal": "max"}}, "metric.goal: minimize or maximize is expected, got 'max'"),
        ({"metric": {"name": "x", "target": 1}}, "metric.target: a sweep that ends at a value cannot be run here"),
        ({"metric": {"nam": "x"}}, "metric: `{name: val/loss, goal: minimize}` is expected"),
        ({"metric": {"name": "x", "gaol": "maximize"}}, "metric: no key gaol; did you mean goal?"),
        ({"early_terminate": {"type": "median"}}, "early_terminate: `{type: hyperband, min_iter: 3}` is expected"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate: min_iter, or max_iter and s, are expected"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 1}}, "early_terminate.eta: a number above 1"),
        ({"run_cap": 0}, "run_cap: a whole number of at least 1 is expected, got 0"),
        ({"program": None}, "program: the command has ${program}, and there is none"),
        ({"command": ["${program}", "${arg}"]}, "command: no macro ${arg}; did you mean ${args}?"),
        ({"command": ["${program}"]}, "command: without ${args} no parameter would reach the program"),
        ({"command": "train.py"}, "command: a list of words is expected"),
        ({"name": "a/b"}, "name: it names a folder"),
    ],
)
def test_a_slip_is_told_with_file_and_key(sweep_of, changes, words):
    with pytest.raises(UserError, match=re.escape(words)) as told:
        sweep_of(**changes)
    assert "s.yaml" in str(told.value)


def test_a_file_that_is_no_yaml_or_no_mapping_is_told(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("method: grid\nparameters: [")
    with pytest.raises(UserError, match=r"bad\.yaml, line 2: not valid YAML"):
        read_sweep(path)
    path.write_text("method: grid\nparameters:\n  a: {values: [1]}\n  ? [b]\n  : {value: 1}\n  a: {values: [2]}\n")
    with pytest.raises(UserError, match=r"bad\.yaml, line 6: not valid YAML: the key a stands there twice"):
        read_sweep(path)
    path.write_text("- 1")
    with pytest.raises(UserError, match="a mapping of keys is expected, this is list"):
        read_sweep(path)
    with pytest.raises(UserError, match="cannot read"):
        read_sweep(tmp_path / "none.yaml")


def test_more_than_10000_points_need_a_yes_and_a_search_an_end(sweep_of):
    many = {"a": {"min": 1, "max": 10_001}}
    with pytest.raises(UserError, match="10,001 trials; --yes"):
        refuse_size(sweep_of(parameters=many), sure=False)
    refuse_size(sweep_of(parameters=many), sure=True)
    refuse_size(sweep_of(parameters=many, run_cap=10_000), sure=False)
    with pytest.raises(UserError, match="run_cap: random has no end of its own"):
        refuse_size(sweep_of(method="random"), sure=True)


def test_hyperbands_first_look_is_counted_back_from_its_last(sweep_of):
    metric = {"name": "x"}
    back = sweep_of(metric=metric, early_terminate={"type": "hyperband", "max_iter": 27, "s": 2, "eta": 3})
    assert back.stopping == Hyperband(3, 3.0)
    ahead = sweep_of(metric=metric, early_terminate={"type": "hyperband", "min_iter": 5, "strict": True})
    assert ahead.stopping == Hyperband(5, 3.0)


def test_the_check_tries_every_word_and_the_ends_of_numbers(sweep_of):
    sweep = sweep_of(parameters={"seed": {"values": list(range(1000))}, "net": {"values": ["x", "y", "z"]}})
    tried = points_to_try(sweep)
    assert [point["seed"] for point in tried] == [0, 999, 0]
    assert [point["net"] for point in tried] == ["x", "y", "z"]


def test_sweeps_are_found_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_sweep("beta_dsprites") == SWEEPS[1]
    assert find_sweep("sweeps/beta_dsprites.yaml") == find_sweep("experiments/sweeps/beta_dsprites.yaml") == SWEEPS[1]
    with pytest.raises(UserError, match="no sweep file beta_x; the package has beta_celeba"):
        find_sweep("beta_x")


def test_every_distribution_reads_with_its_documented_keys_alone():
    given = {"min": 1, "max": 4, "value": 1, "values": [1, 2], "probabilities": [0.5, 0.5]}
    for name, (needs, defaults) in DISTRIBUTIONS.items():
        block = {"distribution": name} | {key: given[key] for key in needs}
        (parameter,) = parameters_of({"a": block}, "f")
        assert parameter.distribution == name
        assert {key: parameter.numbers[key] for key in defaults} == defaults
        assert all(math.isfinite(number) for number in parameter.numbers.values())
