"""What was wrong with an experiment file or an option: the file, the key, and the nearest valid key, in a few lines."""

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lightning_cv.cli.experiments import read_yaml

_TOP = ("seed_everything", "trainer", "model", "data", "base", "target", "ckpt", "runs", "run_dir", "config")
_OF_EVALUATIONS = ("save-predictions", "save-format")
"""Options of `validate` and `test` alone, which no file holds."""
_ELSEWHERE = {"recipe": "rcnn", "systems": "compare", "model": "fit", "trainer": "fit"}
"""Sections by which a file of another verb is known."""


class Setting(NamedTuple):
    """One key as somebody wrote it: where, under which dotted short key, and what."""

    where: str
    key: str
    value: Any  # any value YAML can hold


def explain(
    argv: list[str],
    message: str,
    top: tuple[str, ...] = _TOP + _OF_EVALUATIONS,
    sections: Mapping[str, str] | None = None,
) -> str:
    """At most five lines on why `argv` did not parse.

    Args:
        argv: the arguments, each --config naming one file.
        message: the parser's own words, used where we do not find the slip ourselves.
        top: the sections and options that the verb knows.
        sections: class path of those that are always of one class.
    """
    sources = [list(_of_file(Path(file))) for file in _config_files(argv)] + [list(_of_options(argv))]
    classes: dict[str, str] = dict(sections or {})
    for source in sources:  # in the order in which later ones win: a key is checked under the class it was written for
        classes |= _classes(source, classes)
        for setting in source:
            names_class = setting.key.endswith(".class_path") or classes.get(setting.key) == setting.value
            if names_class and (problem := _class_problem(str(setting.value))):
                return f"{setting.where}: {setting.key}: {problem}"
            if unknown := _unknown(setting.key, classes, top):
                return f"{setting.where}: {unknown}"
    return _shortened(message, [setting for source in sources for setting in source])


def unknown_section(argv: list[str], top: tuple[str, ...] = _TOP) -> str | None:
    """What is wrong with the files' top level, or None: the parser passes over an unknown section that is empty."""
    settings = [setting for file in _config_files(argv) for setting in _of_file(Path(file))]
    unknown = [setting for setting in settings if "." not in setting.key and setting.key not in top]
    for setting in unknown:
        if verb := _ELSEWHERE.get(setting.key):
            return f"{setting.where}: {setting.key}: the file is one for `lightning-cv {verb}`"
    return f"{unknown[0].where}: {_no_such(unknown[0].key, '', top)}" if unknown else None


def _classes(source: list[Setting], known: dict[str, str]) -> dict[str, str]:
    """Class path of each key that one source names a class for: by class_path, or by a dotted name alone."""
    named = {s.key.removesuffix(".class_path"): str(s.value) for s in source if s.key.endswith(".class_path")}
    for key, value in sorted((s.key, s.value) for s in source if _is_dotted_name(s.value)):  # outer keys first
        if key in ("model", "data") or _takes_a_class(key, known | named):
            named[key] = value
    return named


def _is_dotted_name(value: Any) -> bool:  # Any: a YAML value
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value) is not None


def _takes_a_class(key: str, classes: dict[str, str]) -> bool:
    """Whether the parameter at a key is typed by classes alone, so that text there can only name one."""
    parent, _, leaf = key.rpartition(".")
    parameter = _parameters(parent, classes).get(leaf)
    if parameter is None or parameter.annotation is parameter.empty:
        return False
    return not re.search(r"\b(str|Path|PathLike|Any|Literal|_PATH)\b", str(parameter.annotation))


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


def _unknown(key: str, classes: dict[str, str], sections: tuple[str, ...]) -> str | None:
    """What is wrong with a key: "no key a.b; did you mean a.c?", or None."""
    parent, _, leaf = key.rpartition(".")
    top = key.partition(".")[0]
    if top not in sections:
        return _no_such(top, "", sections)
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
    parameters = _parameters(parent, classes)
    return () if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else tuple(parameters)


def _parameters(parent: str, classes: dict[str, str]) -> Mapping[str, inspect.Parameter]:
    """Constructor arguments of what lies at a key with their types; empty where we cannot tell."""
    if parent == "trainer":
        path = "lightning.Trainer"
    elif parent == "target":
        path = "lightning_cv.cli.target.Target"
    elif parent in classes:
        path = classes[parent]
    else:
        return {}
    module, _, name = path.rpartition(".")
    try:
        return inspect.signature(getattr(import_module(module), name)).parameters
    except (ImportError, AttributeError, TypeError, ValueError):
        return {}


_NEEDS = r"the following arguments are required: (.*)"
_REASONS = (  # of the branches of a union, the one that says most comes first
    r"Import path \S+ does not implement protocol",
    _NEEDS,
    r"Problem with given class_path .* (?!:$)",
    r"Expected a typing\.Literal",
    r"Expected a (?!path|<class 'NoneType'>)|Expected an|Expected (?!a )|Import path|Not a valid|Type \S+ expects",
    r"Expected a path",
    r"Expected a <class 'NoneType'>",
)


class _Reason(NamedTuple):
    """One branch of the parser's account: how much it says (less is more), the key it is about, its words."""

    rank: int
    key: str
    text: str


def _reasons(message: str) -> Iterator[_Reason]:
    """Every branch; the key by the indentation, the class of missing arguments by the line above them."""
    keys: list[tuple[int, str]] = []
    class_path = ""
    for line in message.splitlines():
        indent, text = len(line) - len(line.lstrip(" -")), line.strip(" -")
        if found := re.match(r'Parser key "([\w.]+)"', text):
            keys = [(depth, key) for depth, key in keys if depth < indent] + [(indent, found[1])]
        if found := re.match(r"Problem with given class_path '([\w.]+)'", text):
            class_path = found[1]
        rank = next((rank for rank, pattern in enumerate(_REASONS) if re.match(pattern, text)), None)
        if rank is not None:
            key = ".".join(key for _, key in keys).replace(".init_args.", ".")
            yield _Reason(rank, key, re.sub(f"^{_NEEDS}", rf"{class_path} needs \1", text))


def _shortened(message: str, settings: list[Setting]) -> str:
    """The parser's most telling reason, with the key it is about and the place where that was written."""
    reasons = list(_reasons(message))
    if not reasons:
        return " ".join(message.split())[:400]
    chosen = min(reasons, key=lambda reason: reason.rank)  # the first of equals
    written = [s for s in settings if s.key in (chosen.key, f"{chosen.key}.class_path")]
    given = [str(written[-1].value)] if written else re.findall(r"Given value: (?!Namespace|NestedArg)(.*)", message)
    text = chosen.text
    if text.startswith("Expected a typing.Literal"):
        text = _not_among(given, [r.text for r in reasons if "Literal" in r.text and r.key == chosen.key])
    elif text.startswith("Expected") and "Got value" not in text and given:
        text += f". Got value: {given[-1][:100]}"
    text = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", text)
    text = re.sub(r"Import path (\S+) does not implement protocol (\w+)", r"\1 is no \2 (contracts.py)", text)
    where = f"{written[-1].where}: " if written else ""
    return f"{where}{chosen.key}: {text}"


def _not_among(given: list[str], literals: list[str]) -> str:
    """That a value is none of those which a choice allows, with the nearest."""
    valid = list(dict.fromkeys(value.strip(" '") for text in literals for value in text[:-1].split("[")[1].split(",")))
    near = difflib.get_close_matches(given[-1], valid, n=1, cutoff=0.5) if given else []
    hint = f"did you mean {near[0]}? " if near else ""
    return f"got {given[-1][:100] if given else 'another value'}; {hint}Valid: {', '.join(valid)}"


def constructor_words(error: BaseException) -> str:
    """What a constructor said, without the parser's account of the types it tried, one within another, before."""
    inner: BaseException | None = error
    while inner is not None and "Union subtypes" in str(inner):
        own = re.findall(r"^\s*- (?!Expected|Problem|Not |Does not validate)(.*)", str(inner), flags=re.MULTILINE)
        if own:
            return str(own[0])
        inner = inner.__cause__
    return str(error if inner is None else inner)
