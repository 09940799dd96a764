"""Whether our own `fit` takes what a sweep would give it, found out before any trial starts.

The check runs in a process of its own: its imports are heavy, and the launcher forks for every trial.
"""

import json
import os
import subprocess
import sys
from itertools import zip_longest

from lightning_cv.errors import UserError
from lightning_cv.sweeps.command import command_line, fit_of, path_with_interpreter
from lightning_cv.sweeps.parameters import Parameter, Value
from lightning_cv.sweeps.spec import Point, Sweep


def refuse_settings(sweep: Sweep) -> None:
    """Raise where a trial would be refused for a parameter that is not there or a value of the wrong kind.

    Programs that are not ours are not asked. Values are tried on their own, not in all their combinations.
    """
    points = points_to_try(sweep)
    lines = [command_line(sweep.command, sweep.program, point) for point in points]
    place = fit_of(lines[0])
    if place is None:
        return
    asked = json.dumps([line[place + 1 :] for line in lines])
    done = subprocess.run(
        [sys.executable, "-m", "lightning_cv.sweeps.check"],
        input=asked,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path_with_interpreter(), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    if done.returncode == 0:
        return
    if done.returncode != 2 or not done.stdout.strip():
        raise UserError(f"{sweep.file}: the check of its parameters broke: {done.stderr.strip()[-300:]}")
    problem = str(json.loads(done.stdout))
    raise UserError(f"{sweep.file}: " + problem.replace("command line: ", "parameters: "))


def points_to_try(sweep: Sweep) -> list[Point]:
    """Points that have every value of every parameter at least once; of numbers the smallest and the largest."""
    columns = [_telling(parameter) for parameter in sweep.parameters]
    firsts = [column[0] for column in columns]
    missing = object()
    rows = zip_longest(*columns, fillvalue=missing)
    return [
        sweep.point([first if one is missing else one for one, first in zip(row, firsts, strict=True)]) for row in rows
    ]


def _telling(parameter: Parameter) -> list[Value]:
    if not parameter.values:
        return _ends(parameter)
    numbers = [value for value in parameter.values if type(value) in (int, float)]
    kept = {id(value) for kind in (int, float) for value in _extremes([one for one in numbers if type(one) is kind])}
    return [value for value in parameter.values if type(value) not in (int, float) or id(value) in kept]


def _extremes(numbers: list[Value]) -> list[Value]:
    return [min(numbers), max(numbers)] if numbers else []


def _ends(parameter: Parameter) -> list[Value]:
    """Values of the kind that a distribution of numbers gives."""
    from lightning_cv.sweeps.search import value_of

    numbers = parameter.numbers
    if parameter.distribution == "int_uniform":
        return [int(numbers["min"]), int(numbers["max"])]
    if "min" in numbers:
        return [value_of(parameter, numbers["min"]), value_of(parameter, numbers["max"])]
    return [value_of(parameter, 0.5)]


def main() -> int:
    """Read lists of arguments as JSON; write the first refusal as JSON, with status 2."""
    from lightning_cv.cli.check import refusal

    for argv in json.load(sys.stdin):
        if (problem := refusal(argv)) is not None:
            print(json.dumps(problem))
            return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
