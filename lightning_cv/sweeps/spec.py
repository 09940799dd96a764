"""A W&B sweep file: read, checked, and expanded into the points of its grid."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from lightning_cv.cli.experiments import read_yaml
from lightning_cv.errors import UserError
from lightning_cv.sweeps.command import DEFAULT_COMMAND, refuse_command
from lightning_cv.sweeps.parameters import ENUMERABLE, Parameter, Value, no_such, parameters_of

Method = Literal["grid", "random", "bayes"]
Goal = Literal["minimize", "maximize"]
Point = dict[str, Value]
"""Value of each top-level name; of a nested parameter a dict of those below it, as W&B hands it on."""

MOST_POINTS = 10_000
METHODS = ("grid", "random", "bayes")
_KEYS = (
    "program", "command", "project", "entity", "name", "description", "method", "metric", "parameters",
    "early_terminate", "run_cap", "apiVersion", "kind", "controller",
)  # fmt: skip
_OF_METRIC = ("name", "goal", "target", "impute", "impute_while_running")
_OF_STOPPING = ("type", "min_iter", "max_iter", "s", "eta", "strict")
_RUNS_ELSEWHERE = {
    "job": "a W&B Launch job", "image_uri": "a W&B Launch image", "scheduler": "a scheduler of W&B's server",
    "metrics": "several metrics",
}  # fmt: skip


class Metric(NamedTuple):
    """What a sweep is for."""

    name: str
    goal: Goal


class Hyperband(NamedTuple):
    """When trials are stopped early: after `first` values of the metric, then `eta` times as many, and so on.

    W&B's `strict` is accepted and changes nothing: which trials go on is the search's rule (`search.py`).
    """

    first: int
    eta: float


class Sweep(NamedTuple):
    """A sweep file."""

    file: str
    name: str
    program: str | None
    command: tuple[str, ...]
    method: Method
    metric: Metric | None
    parameters: tuple[Parameter, ...]
    stopping: Hyperband | None
    run_cap: int | None

    @property
    def fingerprint(self) -> str:
        """16 hex digits of all that decides what the trials are. Not the number of trials: a sweep may be prolonged."""
        told = [self.program, self.command, self.method, self.metric, self.parameters, self.stopping]
        return _hash(told)

    @property
    def size(self) -> int:
        """How many trials there are."""
        if self.method != "grid":
            assert self.run_cap is not None
            return self.run_cap
        points = math.prod(len(parameter.grid()) for parameter in self.parameters)
        return points if self.run_cap is None else min(points, self.run_cap)

    def grid(self) -> Iterator[Point]:
        """The points in the order of the file, the last parameter fastest."""
        assert self.method == "grid"
        columns = product(*(parameter.grid() for parameter in self.parameters))
        for _, values in zip(range(self.size), columns, strict=False):
            yield self.point(values)

    def point(self, values: Sequence[Value]) -> Point:
        """The point with a value for each parameter."""
        point: Point = {}
        for parameter, value in zip(self.parameters, values, strict=True):
            place = point
            for name in parameter.path[:-1]:
                place = place.setdefault(name, {})
            place[parameter.path[-1]] = value
        return point

    def trial_id(self, point: Point) -> str:
        """12 hex digits that are the same for the same sweep and point, on any machine."""
        return _hash([self.fingerprint, point])[:12]


def read_sweep(path: Path) -> Sweep:
    """The sweep of a file.

    Raises:
        UserError: the file cannot be read, or is not what W&B documents; the message names file and key.
    """
    content = read_yaml(path)
    where = str(path)
    for key in content:
        if key in _RUNS_ELSEWHERE:
            raise UserError(f"{where}: {key}: {_RUNS_ELSEWHERE[key]} cannot be run here")
        if key not in _KEYS:
            raise UserError(f"{where}: {no_such(str(key), _KEYS)}")
    method = content.get("method")
    if method not in METHODS:
        told = "there is none" if method is None else f"got {method!r}"
        raise UserError(f"{where}: method: one of {', '.join(METHODS)} is expected, {told}")
    if "parameters" not in content:
        raise UserError(f"{where}: parameters: there are none")
    parameters = tuple(parameters_of(content["parameters"], where))
    _refuse_twice(parameters, where)
    for parameter in parameters if method == "grid" else ():
        if parameter.distribution not in ENUMERABLE:
            raise UserError(
                f"{where}: parameters.{parameter.key}: a grid needs values, not {parameter.distribution}; "
                "write `values`, or `method: random` above"
            )
    metric, stopping = _metric(content.get("metric"), where), _stopping(content.get("early_terminate"), where)
    if metric is None and (method == "bayes" or stopping):
        raise UserError(
            f"{where}: metric: {'bayes' if method == 'bayes' else 'early_terminate'} needs one, there is none"
        )
    command = _command(content.get("command"), where)
    program = content.get("program")
    if program is not None and not isinstance(program, str):
        raise UserError(f"{where}: program: text is expected, got {program!r}")
    refuse_command(command, program, where)
    name = content.get("name", path.stem)
    if not isinstance(name, str) or not name or "/" in name or name.startswith("."):
        raise UserError(f"{where}: name: it names a folder: text without / is expected, got {name!r}")
    run_cap = _whole(content.get("run_cap"), 1, f"{where}: run_cap")
    return Sweep(where, name, program, command, method, metric, parameters, stopping, run_cap)


def refuse_size(sweep: Sweep, sure: bool) -> None:
    """Raise where a sweep has no end, or so many points that they may be a slip, and nobody said yes."""
    if sweep.method != "grid" and sweep.run_cap is None:
        raise UserError(
            f"{sweep.file}: run_cap: {sweep.method} has no end of its own; say how many trials, or --count N"
        )
    if sweep.size > MOST_POINTS and not sure:
        raise UserError(f"{sweep.file}: parameters: {sweep.size:,} trials; --yes if that is meant, else run_cap")


def _metric(block: Value, where: str) -> Metric | None:
    if block is None:
        return None
    if not isinstance(block, dict) or not isinstance(block.get("name"), str):
        raise UserError(f"{where}: metric: `{{name: val/loss, goal: minimize}}` is expected, got {block!r}")
    for key in block:
        if key not in _OF_METRIC:
            raise UserError(f"{where}: metric: {no_such(str(key), _OF_METRIC)}")
    if "target" in block:
        raise UserError(f"{where}: metric.target: a sweep that ends at a value cannot be run here; leave it out")
    goal = block.get("goal", "minimize")
    if goal not in ("minimize", "maximize"):
        raise UserError(f"{where}: metric.goal: minimize or maximize is expected, got {goal!r}")
    return Metric(block["name"], goal)


def _stopping(block: Value, where: str) -> Hyperband | None:
    here = f"{where}: early_terminate"
    if block is None:
        return None
    if not isinstance(block, dict) or block.get("type") != "hyperband":
        raise UserError(f"{here}: `{{type: hyperband, min_iter: 3}}` is expected, got {block!r}")
    for key in block:
        if key not in _OF_STOPPING:
            raise UserError(f"{here}: {no_such(str(key), _OF_STOPPING)}")
    eta = block.get("eta", 3)
    if not isinstance(eta, int | float) or isinstance(eta, bool) or eta <= 1:
        raise UserError(f"{here}.eta: a number above 1 is expected, got {eta!r}")
    first = _whole(block.get("min_iter"), 1, f"{here}.min_iter")
    last, times = _whole(block.get("max_iter"), 1, f"{here}.max_iter"), _whole(block.get("s"), 1, f"{here}.s")
    if first is None and (last is None or times is None):
        raise UserError(f"{here}: min_iter, or max_iter and s, are expected")
    if first is None:
        assert last is not None
        assert times is not None
        first = max(1, int(last / eta**times))
    return Hyperband(first, float(eta))


def _command(block: Value, where: str) -> tuple[str, ...]:
    if block is None:
        return DEFAULT_COMMAND
    if not isinstance(block, list) or not block:
        raise UserError(f"{where}: command: a list of words is expected, got {block!r}")
    for word in block:
        if not isinstance(word, str | int | float):
            raise UserError(f"{where}: command: a word is text, got {word!r}")
    return tuple(map(str, block))


def _whole(value: Value, least: int, here: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{here}: a whole number of at least {least} is expected, got {value!r}")
    return value


def _refuse_twice(parameters: Sequence[Parameter], where: str) -> None:
    """One setting written dotted and nested would be given twice, and points would not be what they say."""
    keys = [parameter.key for parameter in parameters]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise UserError(f"{where}: parameters.{twice[0]}: stands there twice, dotted and nested")


def _hash(content: Value) -> str:
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
