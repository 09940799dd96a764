"""What was wrong with an experiment file or an option: the file, the key, and the nearest valid key, in a few lines."""

import difflib
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lightning_cv.cli.experiments import read_yaml

_TOP = ("seed_everything", "trainer", "model", "data", "base", "target", "ckpt", "runs", "run_dir", "config")


class Setting(NamedTuple):
    """One key as somebody wrote it: where, under which dotted short key, and what."""

    where: str
    key: str
    value: Any  # any value YAML can hold


def explain(argv: list[str], message: str) -> str:
    """At most five lines on why `argv` did not parse.

    Args:
        argv: the arguments, each --config naming one file.
        message: the parser's own words, used where we do not find the slip ourselves.
    """
    sources = [list(_of_file(Path(file))) for file in _config_files(argv)] + [list(_of_options(argv))]
    classes: dict[str, str] = {}
    for source in sources:  # in the order in which later ones win: a key is checked under the class it was written for
        classes |= _classes(source)
        for setting in source:
            if setting.key.endswith(".class_path") and (problem := _class_problem(str(setting.value))):
                return f"{setting.where}: {setting.key}: {problem}"
            if unknown := _unknown(setting.key, classes):
                return f"{setting.where}: {unknown}"
    return _shortened(message, [setting for source in sources for setting in source])


def unknown_section(argv: list[str]) -> str | None:
    """What is wrong with the files' top level, or None: the parser passes over an unknown section that is empty."""
    for file in _config_files(argv):
        for setting in _of_file(Path(file)):
            if "." not in setting.key and setting.key not in _TOP:
                return f"{setting.where}: {_no_such(setting.key, '', _TOP)}"
    return None


def _classes(source: list[Setting]) -> dict[str, str]:
    """Class path of each key that one source names a class for."""
    named = {s.key.removesuffix(".class_path"): str(s.value) for s in source if s.key.endswith(".class_path")}
    return named | {s.key: s.value for s in source if s.key in ("model", "data") and isinstance(s.value, str)}


def _config_files(argv: list[str]) -> list[str]:
    return [value for name, value in pairwise(argv) if name == "--config"]


def _of_file(path: Path) -> Iterator[Setting]:
    lines = dict(_lines(yaml.compose(path.read_text())))
    for key, value in _walk(read_yaml(path)):
        yield Setting(f"{path}, line {lines[key]}" if key in lines else str(path), key, value)


def _of_options(argv: list[str]) -> Iterator[Setting]:
    for index, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name.startswith("--") and name not in ("--config", "--help", "--print_config"):
            if not equals:
                value = argv[index + 1] if index + 1 < len(argv) else ""
            yield Setting("command line", name.removeprefix("--").rstrip("+").replace(".init_args.", "."), value)


def _lines(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Line of every key of a YAML tree, under the keys that `_walk` gives."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            key = prefix if name.value == "init_args" else f"{prefix}.{name.value.rstrip('+')}".lstrip(".")
            if name.value != "init_args":
                yield key, name.start_mark.line + 1
            yield from _lines(value, key)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield f"{prefix}.{number}", value.start_mark.line + 1
            yield from _lines(value, f"{prefix}.{number}")


def _walk(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:  # Any: a YAML tree
    """Every key of a tree with its value, `init_args` left out of the path; lists are looked into by number."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        key = prefix if name == "init_args" else f"{prefix}.{str(name).rstrip('+')}".lstrip(".")
        if name != "init_args":
            yield key, item
        yield from _walk(item, key)


def _class_problem(class_path: str) -> str | None:
    module, _, name = class_path.rpartition(".")
    if not module:
        return None
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        return f"no module {error.name}"
    if not hasattr(found, name):
        near = difflib.get_close_matches(name, [n for n in dir(found) if n[0].isupper()], n=1)
        return f"{module} has no {name}" + (f"; did you mean {near[0]}?" if near else "")
    return None


def _unknown(key: str, classes: dict[str, str]) -> str | None:
    """What is wrong with a key: "no key a.b; did you mean a.c?", or None."""
    parent, _, leaf = key.rpartition(".")
    top = key.partition(".")[0]
    if top not in _TOP:
        return _no_such(top, "", _TOP)
    if not parent or leaf in ("class_path", "dict_kwargs") or leaf.isdigit():
        return None
    valid = _keys_of(parent, classes)
    return _no_such(leaf, f"{parent}.", valid) if valid and leaf not in valid else None


def _no_such(leaf: str, prefix: str, valid: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(leaf, valid, n=1, cutoff=0.5)
    hint = f"did you mean {prefix}{near[0]}?" if near else f"valid here: {', '.join(valid)}"
    return f"no key {prefix}{leaf}; {hint}"


def _keys_of(parent: str, classes: dict[str, str]) -> tuple[str, ...]:
    """Constructor arguments of what lies at a key; empty where we cannot tell."""
    if parent == "trainer":
        path = "lightning.Trainer"
    elif parent == "target":
        path = "lightning_cv.cli.target.Target"
    elif parent in classes:
        path = classes[parent]
    else:
        return ()
    module, _, name = path.rpartition(".")
    try:
        signature = inspect.signature(getattr(import_module(module), name))
    except (ImportError, AttributeError, TypeError, ValueError):
        return ()
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return ()
    return tuple(signature.parameters)


def _shortened(message: str, settings: list[Setting]) -> str:
    """The parser's innermost reason, with the key it is about and the place where that was written."""
    keys: list[str] = []
    for line in message.splitlines():
        keys += re.findall(r'Parser key "([\w.]+)"', line)
        reason = line.strip(" -")
        if re.match(r"(Expected|Import path|Not a valid|Problem with given class_path .* (?!:$))", reason):
            break
    else:
        return " ".join(message.split())[:400]
    key = ".".join(keys).replace(".init_args.", ".")
    given = re.findall(r"Given value: (.*)", message)
    if "Got value" not in reason and reason.startswith("Expected") and given:
        reason += f". Got value: {given[-1][:100]}"
    reason = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", reason)
    reason = re.sub(r"Import path (\S+) does not implement protocol (\w+)", r"\1 is no \2 (contracts.py)", reason)
    written = [s for s in settings if s.key in (key, f"{key}.class_path")]
    where = f"{written[-1].where}: " if written else ""
    return f"{where}{key}: {reason}"


def constructor_words(message: str) -> str:
    """What a constructor said, without the parser's account of the types it tried before giving up."""
    own = re.findall(r"^\s*- (?!Expected|Problem|Not )(.*)", message, flags=re.MULTILINE)
    return own[0] if own and "Union subtypes" in message else message
