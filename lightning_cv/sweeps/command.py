"""The command line of a trial: what W&B's agent would start, by its documented rules."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lightning_cv.errors import UserError

DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
_MACROS = (
    "env", "interpreter", "program", "args", "args_no_equals", "args_no_hyphens", "args_no_boolean_flags", "args_json",
    "args_json_file", "args_append_hydra", "args_override_hydra",
)  # fmt: skip
_VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
_OURS = "lightning-cv"


def command_line(
    command: Sequence[str], program: str | None, point: Mapping[str, Any], json_file: Path | None = None
) -> list[str]:
    """The words that `wandb agent` would start for a point.

    W&B, "Sweep configuration options", command macros. A macro stands for a whole word; `${envvar:NAME}` may be a part
    of one, and is NAME itself where the variable is not set. `${interpreter}` is `python`, `${env}` is `/usr/bin/env`.

    Args:
        command: the words of the sweep file.
        program: of the sweep file.
        point: value of each parameter.
        json_file: where `${args_json_file}` is to be read from; it is written if the command asks for it.
    """
    words = [_VARIABLE.sub(lambda found: os.environ.get(found[1], found[1]), word) for word in command]
    if json_file is not None and "${args_json_file}" in words:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(dict(point)))
    stands_for = _macros(program, point) | {"args_json_file": [str(json_file)]}
    line: list[str] = []
    for word in words:
        line += stands_for[word[2:-1]] if _is_macro(word) else [word]
    return line


def _macros(program: str | None, point: Mapping[str, Any]) -> dict[str, list[str]]:
    flags = [f"{name}={value}" for name, value in point.items()]
    return {
        "env": ["/usr/bin/env"],
        "interpreter": ["python"],
        "program": [program or ""],
        "args": [f"--{flag}" for flag in flags],
        "args_no_equals": [word for name, value in point.items() for word in (f"--{name}", str(value))],
        "args_no_hyphens": flags,
        "args_no_boolean_flags": [
            f"--{name}" if value is True else f"--{name}={value}" for name, value in point.items() if value is not False
        ],
        "args_json": [json.dumps(dict(point))],
        "args_append_hydra": [f"+{flag}" for flag in flags],
        "args_override_hydra": [f"++{flag}" for flag in flags],
    }


def refuse_command(command: Sequence[str], program: str | None, where: str) -> None:
    """Raise where a command has a macro that W&B does not know, or nothing that the parameters reach."""
    for word in command:
        if _is_macro(word) and not _VARIABLE.fullmatch(word) and word[2:-1] not in _MACROS:
            near = get_close_matches(word[2:-1], _MACROS, n=1)
            hint = f"did you mean ${{{near[0]}}}?" if near else f"there are {', '.join(_MACROS)}, envvar:NAME"
            raise UserError(f"{where}: command: no macro {word}; {hint}")
    if "${program}" in command and not program:
        raise UserError(f"{where}: program: the command has ${{program}}, and there is none")
    if not any(word.startswith("${args") for word in command):
        raise UserError(f"{where}: command: without ${{args}} no parameter would reach the program")


def _is_macro(word: str) -> bool:
    return word.startswith("${") and word.endswith("}")


def fit_of(line: Sequence[str]) -> int | None:
    """Where the word `fit` stands in a line that calls this package's `fit`; None in a line of another program."""
    for index, word in enumerate(line[:-1]):
        called = Path(word).name == _OURS or (word == "lightning_cv" and line[index - 1] == "-m")
        if called:
            return index + 1 if line[index + 1] == "fit" else None
    return None


def can_be_asked_to_stop(line: Sequence[str]) -> bool:
    """Whether a line calls this package's `fit` or `resume`, whose exit status says if they were."""
    return fit_of([word if word != "resume" else "fit" for word in line]) is not None


def resume_line(line: Sequence[str], folder: Path) -> list[str]:
    """The line that goes on with the run of a line that calls `fit`."""
    place = fit_of(line)
    assert place is not None
    return [*line[:place], "resume", str(folder)]


def path_with_interpreter() -> str:
    """PATH with this interpreter's folder in front: `python` and `lightning-cv` are those that run the sweep."""
    own = str(Path(sys.executable).parent)
    return os.pathsep.join([own, *os.environ.get("PATH", os.defpath).split(os.pathsep)])
