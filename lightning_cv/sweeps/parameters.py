"""What a sweep file says of one parameter, checked by W&B's documented rules."""

import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from lightning_cv.errors import UserError

Value = Any  # whatever a YAML file can name: a scalar, a list, a mapping

DISTRIBUTIONS: dict[str, tuple[frozenset[str], dict[str, float]]] = {  # name: keys it needs, keys with a default
    "constant": (frozenset({"value"}), {}),
    "categorical": (frozenset({"values"}), {}),
    "categorical_w_probabilities": (frozenset({"values", "probabilities"}), {}),
    "int_uniform": (frozenset({"min", "max"}), {}),
    "uniform": (frozenset({"min", "max"}), {}),
    "q_uniform": (frozenset({"min", "max"}), {"q": 1.0}),
    "log_uniform": (frozenset({"min", "max"}), {}),
    "log_uniform_values": (frozenset({"min", "max"}), {}),
    "q_log_uniform": (frozenset({"min", "max"}), {"q": 1.0}),
    "q_log_uniform_values": (frozenset({"min", "max"}), {"q": 1.0}),
    "inv_log_uniform": (frozenset({"min", "max"}), {}),
    "inv_log_uniform_values": (frozenset({"min", "max"}), {}),
    "normal": (frozenset(), {"mu": 0.0, "sigma": 1.0}),
    "q_normal": (frozenset(), {"mu": 0.0, "sigma": 1.0, "q": 1.0}),
    "log_normal": (frozenset(), {"mu": 0.0, "sigma": 1.0}),
    "q_log_normal": (frozenset(), {"mu": 0.0, "sigma": 1.0, "q": 1.0}),
    "beta": (frozenset(), {"a": 1.0, "b": 1.0}),
    "q_beta": (frozenset(), {"a": 1.0, "b": 1.0, "q": 1.0}),
}
ENUMERABLE = ("constant", "categorical", "categorical_w_probabilities", "int_uniform", "q_uniform")
"""Distributions that a grid can have, as W&B's grid search."""

_KEYS = ("distribution", "value", "values", "probabilities", "min", "max", "q", "mu", "sigma", "a", "b", "parameters")


class Parameter(NamedTuple):
    """One parameter of a sweep."""

    path: tuple[str, ...]
    """The name, and the names below it of a nested parameter."""
    distribution: str
    values: tuple[Value, ...]
    probabilities: tuple[float, ...]
    numbers: dict[str, float]
    """Of a distribution of numbers: min, max, q, mu, sigma, a, b."""

    @property
    def key(self) -> str:
        """The dotted name."""
        return ".".join(self.path)

    def grid(self) -> tuple[Value, ...]:
        """All values, in the file's order; numbers from the smallest."""
        if self.values:
            return self.values
        low, high = self.numbers["min"], self.numbers["max"]
        if self.distribution == "int_uniform":
            return tuple(range(int(low), int(high) + 1))
        step = self.numbers["q"]
        count = math.floor((high - low) / step + 1e-9) + 1
        values = [low + index * step for index in range(count)]
        whole = all(float(number).is_integer() for number in (low, step))
        return tuple(
            int(value) if whole else float(f"{value:.12g}") for value in values
        )  # 0.3, not 0.30000000000000004


def parameters_of(block: Value, where: str, path: tuple[str, ...] = ()) -> Iterator[Parameter]:
    """The parameters of a `parameters` block, nested ones too, in the file's order.

    Raises:
        UserError: what is there is no parameter; the message begins with `where` and the dotted name.
    """
    place = f"{where}: {'.'.join(('parameters', *path))}"
    if not isinstance(block, Mapping) or not block:
        raise UserError(f"{place}: a mapping of names to values is expected, got {block!r}")
    for name, content in block.items():
        if not isinstance(name, str):
            raise UserError(f"{place}: a parameter's name is text, got {name!r}")
        inner = (*path, name)
        here = f"{place}.{name}"
        if not isinstance(content, Mapping):
            raise UserError(f"{here}: write `{{value: {content}}}`, or values, or min and max; got {content!r}")
        if "parameters" in content:
            if len(content) > 1:
                raise UserError(
                    f"{here}: beside `parameters` nothing else can stand, got {', '.join(map(str, content))}"
                )
            yield from parameters_of(content["parameters"], where, inner)
        else:
            yield _parameter(content, inner, here)


def _parameter(content: Mapping[str, Value], path: tuple[str, ...], here: str) -> Parameter:
    for key in content:
        if key not in _KEYS:
            raise UserError(f"{here}: {no_such(str(key), _KEYS)}")
    distribution = _distribution(content, here)
    needs, defaults = DISTRIBUTIONS[distribution]
    for key in sorted(needs):
        if key not in content:
            raise UserError(f"{here}: {distribution} needs {' and '.join(sorted(needs))}; there is no {key}")
    for key in content:
        if key != "distribution" and key not in needs and key not in defaults:
            raise UserError(f"{here}: {distribution} has no {key}; it takes {', '.join(sorted(needs | set(defaults)))}")
    if "value" in needs:
        return Parameter(path, distribution, (content["value"],), (), {})
    if "values" in needs:
        values = _values(content["values"], here)
        return Parameter(path, distribution, values, _probabilities(content, values, here), {})
    numbers = {
        key: _number(content.get(key, defaults.get(key)), f"{here}.{key}") for key in (*sorted(needs), *defaults)
    }
    _refuse_numbers(numbers, distribution, here)
    return Parameter(path, distribution, (), (), numbers)


def _distribution(content: Mapping[str, Value], here: str) -> str:
    """The distribution's name; without one, what W&B takes the other keys for."""
    named = content.get("distribution")
    if named is not None:
        if named not in DISTRIBUTIONS:
            near = get_close_matches(str(named), DISTRIBUTIONS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(DISTRIBUTIONS)}"
            raise UserError(f"{here}.distribution: no distribution {named}; {hint}")
        if named == "categorical" and "probabilities" in content:
            return "categorical_w_probabilities"
        return str(named)
    if "value" in content:
        return "constant"
    if "values" in content:
        return "categorical_w_probabilities" if "probabilities" in content else "categorical"
    if "min" in content and "max" in content:
        return "int_uniform" if _is_int(content["min"]) and _is_int(content["max"]) else "uniform"
    raise UserError(
        f"{here}: write value, values, min and max, or a distribution; got {', '.join(content) or 'nothing'}"
    )


def _values(values: Value, here: str) -> tuple[Value, ...]:
    if not isinstance(values, list):
        raise UserError(f"{here}.values: a list is expected, got {values!r}")
    if not values:
        raise UserError(f"{here}.values: the list is empty: there is nothing to run")
    seen: list[tuple[bool, Value]] = []
    for value in values:
        one = (isinstance(value, bool), value)  # true is not the number 1
        if one in seen:
            raise UserError(f"{here}.values: {value!r} stands there twice: the same points would run again")
        seen.append(one)
    return tuple(values)


def _probabilities(content: Mapping[str, Value], values: tuple[Value, ...], here: str) -> tuple[float, ...]:
    given = content.get("probabilities")
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) != len(values):
        raise UserError(f"{here}.probabilities: as many as values are expected ({len(values)}), got {given!r}")
    numbers = tuple(_number(one, f"{here}.probabilities") for one in given)
    if min(numbers) < 0 or not math.isclose(sum(numbers), 1.0, abs_tol=1e-6):
        raise UserError(f"{here}.probabilities: none below 0 and a sum of 1 are expected, the sum is {sum(numbers):g}")
    return numbers


def _refuse_numbers(numbers: Mapping[str, float], distribution: str, here: str) -> None:
    if "min" in numbers and not numbers["min"] < numbers["max"]:
        one = distribution in ENUMERABLE and numbers["min"] == numbers["max"]
        if not one:
            raise UserError(f"{here}: min must be below max, got {numbers['min']:g} and {numbers['max']:g}")
    if distribution == "int_uniform" and not all(number.is_integer() for number in numbers.values()):
        raise UserError(f"{here}: int_uniform is between whole numbers, got {numbers['min']:g} and {numbers['max']:g}")
    if distribution.endswith("log_uniform_values") and numbers["min"] <= 0:
        raise UserError(f"{here}.min: {distribution} is above 0, got {numbers['min']:g}")
    for key in ("q", "sigma", "a", "b"):
        if key in numbers and numbers[key] <= 0:
            raise UserError(f"{here}.{key}: must be above 0, got {numbers[key]:g}")


def _number(value: Value, here: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    hint = ""
    if isinstance(value, str):
        try:
            hint = f": YAML reads this as text, write {float(value)!r}"
        except ValueError:
            hint = ""
    raise UserError(f"{here}: a number is expected, got {value!r}{hint}")


def _is_int(value: Value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def no_such(key: str, valid: tuple[str, ...]) -> str:
    """That there is no such key, with the nearest or all that there are."""
    near = get_close_matches(key, valid, n=1, cutoff=0.5)
    return f"no key {key}; " + (f"did you mean {near[0]}?" if near else f"valid here: {', '.join(valid)}")
