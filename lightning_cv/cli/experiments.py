"""Experiment files: where they are, and which files each includes through its `base:` list."""

import os
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lightning_cv.errors import UserError


def shipped_experiments() -> Path:
    """The folder of experiments that comes with the package: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside, beside = package / "experiments", package.parent / "experiments"
    return inside if inside.is_dir() else beside


def find_experiment(name: str) -> Path:
    """The file an experiment is asked for by: a path, or a short name such as `vae/beta_vae_digits`.

    A path wins over ./experiments/<name>.yaml, and that over the experiment of the package.
    """
    places = [Path(name), Path(f"{name}.yaml")]
    if not Path(name).is_absolute():
        places += [root / f"{name.removesuffix('.yaml')}.yaml" for root in (Path("experiments"), shipped_experiments())]
    for place in places:
        if place.is_file():
            return place
    from difflib import get_close_matches  # needed only on the way out

    shipped = shipped_experiments()
    known = [experiment_name(path) for path in (*experiment_files(shipped), *staged_experiments(shipped))]
    near = get_close_matches(name.removesuffix(".yaml").removeprefix("experiments/"), known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"no experiment file {name}{hint}\n`lightning-cv list` names all experiments")


def experiment_files(root: Path) -> list[Path]:
    """All experiments below `root`: every YAML that is neither a base nor a sweep nor of another verb than `fit`."""
    found = (path for path in root.glob("*/*.yaml") if path.parent.name not in ("_base", "sweeps", "rcnn"))
    return sorted(path for path in found if not path.stem.endswith("_timeline"))


def staged_experiments(root: Path) -> list[Path]:
    """All experiments of `lightning-cv rcnn` below `root`."""
    return sorted(root.glob("rcnn/*.yaml"))


def experiment_name(path: Path) -> str:
    """Short name of an experiment file: its folder and its stem."""
    return f"{path.parent.name}/{path.stem}"


def read_yaml(path: Path) -> dict[str, Any]:
    """The top level of a YAML file, interpolations unresolved.

    Raises:
        UserError: not readable, not YAML, or not a mapping; the message names file and line.
    """
    try:
        content = deepcopy(_parsed(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a mapping of keys is expected, this is {type(content).__name__}")
    return content


@cache
def _parsed(text: str) -> Any:  # Any: whatever the file holds
    """What a YAML text holds. Many experiments stand on the same few bases, and to parse is slow."""
    return yaml.load(text, Loader=_StrictLoader)


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML's own reader silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"the key {key.value} stands there twice"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def with_bases(path: Path, asked_by: tuple[Path, ...] = ()) -> list[Path]:
    """`path` after all files of its `base:` list, depth first: the order in which later files win.

    Raises:
        UserError: a base is missing, is no list, or includes itself; the message names who asked for it.
    """
    if path.resolve() in [asker.resolve() for asker in asked_by]:
        chain = " -> ".join(str(asker) for asker in (*asked_by, path))
        raise UserError(f"{path} includes itself: {chain}")
    if not path.is_file():
        raise UserError(f"{asked_by[-1]}: base: no file {path}" if asked_by else f"no file {path}")
    bases = read_yaml(path).get("base") or []
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{path}: base: must be a list of files, got {bases!r}")
    files: list[Path] = []
    for base in bases:
        place = Path(os.path.normpath(path.parent / base))
        files += [file for file in with_bases(place, (*asked_by, path)) if file not in files]
    return [*files, path]


def expand_configs(argv: list[str]) -> tuple[list[str], list[Path]]:
    """Replace every `--config X` by one for each file it stands on.

    Returns:
        The arguments, and the experiment files asked for, as found.
    """
    arguments: list[str] = []
    asked: list[Path] = []
    for option, value in _options(argv):
        if option in ("-c", "--config"):
            path = find_experiment(value)
            asked.append(path)
            for file in with_bases(path):
                arguments += ["--config", str(file)]
        else:
            arguments.append(option)
    if asked:
        arguments.append("--base=[]")  # what is saved or printed stands alone
    return arguments, asked


def with_ckpt_spelled(argv: list[str]) -> list[str]:
    """`--ckpt_path`, Lightning's name for it, is accepted for `--ckpt`."""
    return ["--ckpt" + a.removeprefix("--ckpt_path") if a.partition("=")[0] == "--ckpt_path" else a for a in argv]


def option_value(argv: list[str], name: str) -> str | None:
    """The value of an option, in either way of writing; None where it is not given."""
    for index, argument in enumerate(argv):
        key, equals, value = argument.partition("=")
        if key == name:
            return value if equals else (argv[index + 1] if index + 1 < len(argv) else None)
    return None


def _options(argv: list[str]) -> Iterator[tuple[str, str]]:
    """Each argument; for a --config, in either way of writing, its value with it."""
    rest = iter(argv)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in ("-c", "--config"):
            if not equals:
                value = next(rest, "")
            if not value:
                raise UserError(f"{name} needs the name of an experiment, such as vae/beta_vae_digits")
            yield name, value
        else:
            yield argument, ""
