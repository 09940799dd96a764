"""The file of a comparison: what it asks for, and what is wrong with it before anything is done."""

import re
from argparse import ArgumentError
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lightning_cv.cli.diagnose import explain
from lightning_cv.cli.experiments import find_experiment, read_yaml
from lightning_cv.errors import UserError

if TYPE_CHECKING:  # `--help` shall not wait for it
    from lightning_cv.datamodules.base import DetectionDataModule

STAGED = "rcnn"
"""The folder of experiments that are trained in stages, from proposals."""
_TOP = {"data": dict, "proposals": dict, "systems": dict}
_SECTIONS = {"proposals": "lightning_cv.datasets.selective_search.SelectiveSearch"}


class System(NamedTuple):
    """One of those that are compared."""

    name: str
    experiment: Path
    settings: Mapping[str, Any]  # Any: settings of all kinds
    needs_proposals: bool


class Plan(NamedTuple):
    """A file of a comparison."""

    path: Path
    data: dict[str, Any]  # Any: settings of all kinds
    search: dict[str, Any]
    systems: list[System]


def read_plan(path: Path) -> Plan:
    """What a file asks for.

    Raises:
        UserError: naming the file and the key that is missing, unknown, of another kind, or stands in the way of
            another.
    """
    content = read_yaml(path)
    _refuse_other_keys(content, _TOP, str(path))
    systems: list[System] = []
    for name, entry in content["systems"].items():
        place = f"{path}: systems.{name}"
        _refuse_name(name, [system.name for system in systems], place)
        if not isinstance(entry, dict):
            raise UserError(f"{place} must be a mapping with an experiment")
        whole: dict[str, Any] = {"settings": {}, "needs_proposals": False} | entry
        _refuse_other_keys(whole, {"experiment": str, "settings": dict, "needs_proposals": bool}, place)
        system = System(name, find_experiment(whole["experiment"]), whole["settings"], whole["needs_proposals"])
        if system.experiment.parent.name == STAGED and not system.needs_proposals:
            raise UserError(f"{place}: R-CNN judges proposals: needs_proposals must be true")
        systems.append(system)
    if not systems:
        raise UserError(f"{path}: systems is empty: there is nothing to compare")
    return Plan(path, content["data"], content["proposals"], systems)


def folder_of(name: str) -> str:
    """The name of a system's folder."""
    return name.lower().replace(" ", "_")


def data_module(plan: Plan) -> "DetectionDataModule":
    """The data of all systems.

    Raises:
        UserError: naming the file, the line and the key that is wrong.
    """
    from jsonargparse import ArgumentParser

    from lightning_cv.datamodules.base import DetectionDataModule

    parser = ArgumentParser(exit_on_error=False, parser_mode="omegaconf+")
    parser.add_subclass_arguments(DetectionDataModule, "data")
    try:
        settings = parser.parse_object({"data": plan.data})
    except ArgumentError as error:
        raise UserError(explain(["--config", str(plan.path)], str(error), tuple(_TOP), _SECTIONS)) from error
    found: DetectionDataModule = parser.instantiate(settings).data
    return found


def _refuse_name(name: Any, before: list[str], place: str) -> None:  # Any: a YAML key
    if not isinstance(name, str) or not re.fullmatch(r"[\w+-][\w+. -]*", name):
        raise UserError(f"{place}: the name of a system is its folder's: letters, digits, spaces, and + - . within")
    if same := [other for other in before if folder_of(other) == folder_of(name)]:
        raise UserError(f"{place}: would share a folder with {same[0]!r}; choose another name")


def _refuse_other_keys(content: Mapping[str, Any], kinds: Mapping[str, type], place: str) -> None:
    if other := [key for key in content if key not in kinds]:
        raise UserError(f"{place}: unknown key {other[0]!r}; known are {', '.join(kinds)}")
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise UserError(f"{place}: {key} must be there, as a {kind.__name__}; it is {content.get(key)!r}")
