"""`lightning-cv compare`: detectors trained and tested on the same pictures, and what each costs."""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from lightning_cv.cli.experiments import find_experiment, read_yaml
from lightning_cv.cli.run_folder import CHECKPOINTS, RunLock, write_json
from lightning_cv.errors import UserError

if TYPE_CHECKING:  # `--help` shall not wait for them
    from lightning_cv.contracts import DetectionSample
    from lightning_cv.datamodules.base import DetectionDataModule
    from lightning_cv.datasets.selective_search import SelectiveSearch
    from lightning_cv.viz.timeline import Cost

EPILOG = """FILE holds `data`, as an experiment has it; `proposals`, settings of selective search; and `systems`, by
name: `experiment`, `settings` (dotted keys) and `needs_proposals`. Seconds to train count selective search on the
training pictures where a system needs it, seconds a picture selective search on that picture. Disk is what training
keeps of pictures: proposals and features. A call that was stopped goes on where it was; another FILE needs another
folder."""

SPECIFICATION = "compare.yaml"
PROPOSALS = "proposals"


class System(NamedTuple):
    """One of those that are compared."""

    name: str
    experiment: Path
    settings: Mapping[str, Any]  # Any: settings of all kinds
    needs_proposals: bool


class Plan(NamedTuple):
    """A file of a comparison."""

    data: dict[str, Any]  # Any: settings of all kinds
    search: dict[str, Any]
    systems: list[System]


def main(argv: list[str]) -> int:
    """Train and test what is missing, print the table, write it and the figure."""
    parser = argparse.ArgumentParser(
        prog="lightning-cv compare",
        description="Train and test detectors on the same pictures, and tell what each costs.",
        epilog=EPILOG,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="such as experiments/detection/two_stage_timeline.yaml")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of all runs, table and figure")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(argv)
    plan = read_plan(options.file)
    _begin(options.out, read_yaml(options.file))
    from PIL import Image  # with what follows heavy, after --help

    from lightning_cv.viz.timeline import cost_bars, cost_table

    costs = compare(plan, options.out)
    write_json(options.out / "results.json", [{"system": name, **cost._asdict()} for name, cost in costs.items()])
    (options.out / "table.md").write_text(cost_table(costs))
    Image.fromarray(cost_bars(costs)).save(options.out / "figure.png")
    if options.json:
        print((options.out / "results.json").read_text())
    else:
        print(f"{cost_table(costs)}\nfigure: {options.out / 'figure.png'}")
    return 0


def read_plan(path: Path) -> Plan:
    """What a file asks for.

    Raises:
        UserError: naming the file and the key that is missing, unknown or of another kind.
    """
    content = read_yaml(path)
    _refuse_other_keys(content, {"data": dict, "proposals": dict, "systems": dict}, str(path))
    systems = []
    for name, entry in content["systems"].items():
        place = f"{path}: systems.{name}"
        if not isinstance(entry, dict):
            raise UserError(f"{place} must be a mapping with an experiment")
        whole: dict[str, Any] = {"settings": {}, "needs_proposals": False} | entry
        _refuse_other_keys(whole, {"experiment": str, "settings": dict, "needs_proposals": bool}, place)
        systems.append(System(name, find_experiment(whole["experiment"]), whole["settings"], whole["needs_proposals"]))
    if not systems:
        raise UserError(f"{path}: systems is empty: there is nothing to compare")
    return Plan(content["data"], content["proposals"], systems)


def _refuse_other_keys(content: Mapping[str, Any], kinds: Mapping[str, type], place: str) -> None:
    if other := [key for key in content if key not in kinds]:
        raise UserError(f"{place}: unknown key {other[0]!r}; known are {', '.join(kinds)}")
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise UserError(f"{place}: {key} must be there, as a {kind.__name__}; it is {content.get(key)!r}")


def _begin(folder: Path, content: Mapping[str, Any]) -> None:
    """Make the folder of a comparison, or see that it is of this one."""
    place = folder / SPECIFICATION
    if place.is_file():
        if read_yaml(place) != content:
            raise UserError(f"{place} is of another comparison: name another --out, or remove {folder}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    place.write_text(yaml.safe_dump(dict(content), sort_keys=False))


def compare(plan: Plan, folder: Path) -> "dict[str, Cost]":
    """The cost of each system; what a folder has of it already is not done again."""
    from lightning_cv.datasets.selective_search import SelectiveSearch
    from lightning_cv.viz.timeline import Cost

    try:
        search = SelectiveSearch(**plan.search)
    except (TypeError, ValueError) as error:
        raise UserError(f"proposals: {error}") from error
    datamodule = _data(plan)
    datamodule.prepare_data()
    with RunLock(folder):
        searched = _searched(search, datamodule, folder) if any(one.needs_proposals for one in plan.systems) else None
        costs = {}
        for number, system in enumerate(plan.systems, start=1):
            print(f"[{number}/{len(plan.systems)}] {system.name}", file=sys.stderr, flush=True)
            place = folder / system.name.lower().replace(" ", "_")
            needed = searched if system.needs_proposals else None
            settings = _settings_file(plan, folder, with_proposals=system.needs_proposals)
            train = _rcnn if system.experiment.parent.name == "rcnn" else _detector
            done = train(system, settings, place)
            costs[system.name] = Cost(
                train_seconds=done["train_seconds"],
                train_search_seconds=needed["train_seconds"] if needed else 0.0,
                picture_seconds=done["picture_seconds"],
                picture_search_seconds=needed["picture_seconds"] if needed else 0.0,
                bytes_on_disk=int(done["bytes_on_disk"] + (needed["bytes_on_disk"] if needed else 0)),
                map_50=done["map_50"],
            )
    return costs


def _data(plan: Plan) -> "DetectionDataModule":
    from jsonargparse import ArgumentParser

    from lightning_cv.datamodules.base import DetectionDataModule

    parser = ArgumentParser(exit_on_error=False, parser_mode="omegaconf+")
    parser.add_subclass_arguments(DetectionDataModule, "data")
    found: DetectionDataModule = parser.instantiate(parser.parse_object({"data": plan.data})).data
    return found


def _settings_file(plan: Plan, folder: Path, *, with_proposals: bool) -> Path:
    """The data of all systems as a file of settings, to be read after an experiment's."""
    data = {"class_path": plan.data["class_path"], "init_args": dict(plan.data.get("init_args", {}))}
    if with_proposals:
        data["init_args"]["proposals"] = str((folder / PROPOSALS).resolve())
    place = folder / ("data_with_proposals.yaml" if with_proposals else "data.yaml")
    place.write_text(yaml.safe_dump({"data": data}, sort_keys=False))
    return place


def _searched(search: "SelectiveSearch", datamodule: "DetectionDataModule", folder: Path) -> dict[str, float]:
    """Selective search on both splits: seconds of the training split, seconds a test picture, bytes."""
    from lightning_cv.datasets.proposals import add_picture, add_to_index, begin

    place, told = folder / PROPOSALS, folder / "proposals.json"
    if told.is_file():
        return _read(told)
    if place.is_dir():  # of a call that was stopped: pictures searched then have no seconds
        shutil.rmtree(place)
    begin(place, search.settings)
    seconds: dict[str, list[float]] = {"train": [], "test": []}
    for split, taken in seconds.items():
        entries = {}
        for sample in _all(datamodule, split, f"selective search, {split}"):
            began = time.perf_counter()
            entries[sample["image_id"]] = add_picture(place, sample["image"], search)
            taken.append(time.perf_counter() - began)
        add_to_index(place, entries)
    found = {
        "train_seconds": sum(seconds["train"]),
        "picture_seconds": sum(seconds["test"]) / len(seconds["test"]),
        "bytes_on_disk": float(sum(file.stat().st_size for file in place.glob("*/*.npy"))),
    }
    write_json(told, found)
    return found


def _all(datamodule: "DetectionDataModule", split: str, doing: str) -> "Iterator[DetectionSample]":
    from rich.console import Console
    from rich.progress import track

    console, source = Console(stderr=True), datamodule.source(split)
    rows = track(range(len(source)), doing, console=console, disable=not console.is_terminal)
    return (source[row] for row in rows)


def _rcnn(system: System, settings: Path, place: Path) -> dict[str, float]:
    """R-CNN in all its stages."""
    from lightning_cv.cli import rcnn

    argv = ["--config", str(system.experiment), "--config", str(settings), *_options(system), "--out", str(place)]
    results, _ = rcnn.run(argv)
    return {
        "train_seconds": sum(taken for stage, taken in results["seconds"].items() if stage != "detections"),
        "picture_seconds": results["figures"]["test/seconds_an_image"],
        "bytes_on_disk": float(sum(file.stat().st_size for file in (place / "features").iterdir())),
        "map_50": results["figures"]["test/map_50"],
    }


def _detector(system: System, settings: Path, place: Path) -> dict[str, float]:
    """A detector that `fit` trains."""
    from lightning_cv.cli.fit import launch
    from lightning_cv.cli.resume import resume

    told, last = place / "cost.json", place / CHECKPOINTS / "last.ckpt"
    if told.is_file():
        return _read(told)
    if last.is_file():
        resume(place)
    else:
        argv = ["--config", str(system.experiment), "--config", str(settings), *_options(system)]
        launch("fit", [*argv, "--run_dir", str(place), "--trainer.enable_model_summary=false"])
    tested = launch("test", ["--ckpt", str(last)])
    found = {
        "train_seconds": _read(place / "results.json")["seconds"],
        "picture_seconds": _picture_seconds(last),
        "bytes_on_disk": 0.0,
        "map_50": tested.metrics["test/map_50"],
    }
    write_json(told, found)
    return found


def _picture_seconds(checkpoint: Path) -> float:
    """Mean seconds to prepare and look at one test picture, read already, its proposals found already."""
    import torch

    from lightning_cv.cli.predictor import load_model
    from lightning_cv.contracts import Draw
    from lightning_cv.datamodules.base import DetectionDataModule
    from lightning_cv.tasks import DetectionTask

    model = load_model(checkpoint, "cpu")
    task, datamodule = model.task, model.datamodule
    if not isinstance(task, DetectionTask) or not isinstance(datamodule, DetectionDataModule):
        raise UserError(f"{checkpoint} is of no detector: only detectors can be compared")
    pictures = datamodule.test_set()
    began = time.perf_counter()
    with torch.inference_mode():
        for row in range(len(pictures)):
            task.detections(pictures[[Draw(0, row, row)]])
    return (time.perf_counter() - began) / len(pictures)


def _options(system: System) -> list[str]:
    """The settings of a system as arguments."""
    return [
        f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in system.settings.items()
    ]


def _read(path: Path) -> dict[str, Any]:  # Any: JSON
    content: dict[str, Any] = json.loads(path.read_text())
    return content
