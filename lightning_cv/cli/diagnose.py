"""What was wrong with an experiment file or an option: the file, the key, and the nearest valid key, in a few lines."""

import difflib
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

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
    settings = [setting for file in _config_files(argv) for setting in _of_file(Path(file))] + list(_of_options(argv))
    classes = {s.key.removesuffix(".class_path"): str(s.value) for s in settings if s.key.endswith(".class_path")}
    classes |= {s.key: s.value for s in settings if s.key in ("model", "data") and isinstance(s.value, str)}
    for setting in settings:
        if setting.key.endswith(".class_path") and (problem := _class_problem(str(setting.value))):
            return f"{setting.where}: {setting.key}: {problem}"
        if unknown := _unknown(setting.key, classes):
            return f"{setting.where}: {unknown}"
    return _shortened(message, settings)


def _config_files(argv: list[str]) -> list[str]:
    return [value for name, value in zip(argv, argv[1:], strict=False) if name == "--config"]


def _of_file(path: Path) -> Iterator[Setting]:
    lines = path.read_text().splitlines()
    for key, value in _walk(read_yaml(path)):
        leaf = key.rpartition(".")[2]
        line = next((i for i, text in enumerate(lines, 1) if re.search(rf"\b{re.escape(leaf)}\b\+?\s*:", text)), None)
        yield Setting(f"{path}, line {line}" if line else str(path), key, value)


def _of_options(argv: list[str]) -> Iterator[Setting]:
    for index, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name.startswith("--") and name not in ("--config", "--help", "--print_config"):
            if not equals:
                value = argv[index + 1] if index + 1 < len(argv) else ""
            yield Setting("command line", name.removeprefix("--").rstrip("+").replace(".init_args.", "."), value)


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
    if not parent:
        return _no_such(key, "", _TOP) if key not in _TOP else None
    if leaf in ("class_path", "dict_kwargs") or leaf.isdigit():
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
        path = "lightning_cv.cli.fit.Target"
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
    """The parser's words: the key it names with the place it was written, and the innermost reason."""
    named = re.findall(r'[Kk]ey "([\w.]+)"', message)
    key = ".".join(dict.fromkeys(named)).replace(".init_args.", ".") if named else ""
    written = [s for s in settings if key and (s.key == key or s.key.endswith(f".{key}") or key.endswith(s.key))]
    where = f"{written[-1].where}: " if written else ""
    lines = [re.sub(r"^[\s\-–]+", "", line) for line in message.splitlines()]
    reasons = [line for line in lines if line and not re.match(r"(usage|Union sub|Parser key|Subtypes)", line)]
    tail = reasons[-2:] if reasons else [message[:200]]
    text = " ".join(line[:300] for line in dict.fromkeys(tail))
    return f"{where}{key + ': ' if key and key not in text else ''}{text}"
