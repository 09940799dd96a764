"""`lightning-cv compare`: detectors trained and tested on the same pictures, and what each costs."""

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import yaml

from lightning_cv.cli.compare_plan import Plan, System, data_module, folder_of, read_plan
from lightning_cv.cli.experiments import find_experiment, read_yaml
from lightning_cv.cli.run_folder import CHECKPOINTS, RunLock, write_json
from lightning_cv.errors import UserError, is_out_of_memory

if TYPE_CHECKING:  # `--help` shall not wait for them
    import torch

    from lightning_cv.contracts import DetectionSample
    from lightning_cv.datamodules.base import DetectionDataModule
    from lightning_cv.datasets.proposals import Entry
    from lightning_cv.datasets.selective_search import SelectiveSearch
    from lightning_cv.tasks import DetectionTask
    from lightning_cv.viz.timeline import Cost

EPILOG = """FILE holds `data`, as an experiment has it; `proposals`, settings of selective search; and `systems`, by
name: `experiment`, `settings` (dotted keys) and `needs_proposals`. Seconds to train count selective search on the
training pictures where a system needs it, seconds a picture selective search on that picture; a picture's clock covers
resizing or warping it and the net, not reading the file. Proposals of a picture are selective search, or what a Faster
R-CNN does between its features and its regions. Disk is what training keeps of pictures: proposals and features. All
run on one device, the first GPU where there is one; selective search on the CPU. A call that was stopped goes on where
it was; another FILE or another device needs another folder."""

SPECIFICATION, DEVICE = "compare.yaml", "device.txt"
PROPOSALS = "proposals"


class Searched(TypedDict):
    """A picture in which selective search was made."""

    split: str
    image_id: str
    seconds: float
    entry: "Entry"


def main(argv: list[str]) -> int:
    """Train and test what is missing, print the table, write it and the figure."""
    parser = argparse.ArgumentParser(
        prog="lightning-cv compare",
        description="Train and test detectors on the same pictures, and tell what each costs.",
        epilog=EPILOG,
    )
    parser.add_argument("file", metavar="FILE", help="such as detection/two_stage_timeline")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of all runs, table and figure")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(argv)
    file = find_experiment(options.file)
    plan = read_plan(file)
    _begin(options.out, read_yaml(file))
    from PIL import Image  # with what follows heavy, after --help

    from lightning_cv.viz.timeline import cost_bars, cost_table

    device = _device(options.out)
    costs = compare(plan, options.out)
    rows = [{"system": name, "device": device, **cost._asdict()} for name, cost in costs.items()]
    write_json(options.out / "results.json", rows)
    (options.out / "table.md").write_text(cost_table(costs, device))
    Image.fromarray(cost_bars(costs, device)).save(options.out / "figure.png")
    if options.json:
        print((options.out / "results.json").read_text())
    else:
        print(f"{cost_table(costs, device)}\nfigure: {options.out / 'figure.png'}")
    return 0


def _begin(folder: Path, content: Mapping[str, Any]) -> None:
    """Make the folder of a comparison, or see that it is of this one."""
    place = folder / SPECIFICATION
    if place.is_file():
        if read_yaml(place) != content:
            raise UserError(f"{place} is of another comparison: name another --out, or remove {folder}")
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} holds files that are no comparison: choose a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    place.write_text(yaml.safe_dump(dict(content), sort_keys=False))


def _device(folder: Path) -> str:
    """The name of what all systems run on.

    Raises:
        UserError: earlier calls ran on something else.
    """
    import torch

    threads = torch.get_num_threads()
    cpu = f"{platform.processor() or platform.machine()} CPU with {threads} thread{'s' if threads > 1 else ''}"
    name, place = torch.cuda.get_device_name(0) if torch.cuda.is_available() else cpu, folder / DEVICE
    if not place.is_file():
        place.write_text(f"{name}\n")
    elif (before := place.read_text().strip()) != name:
        raise UserError(f"{folder} is of another device, {before}; this is {name}: name another --out")
    return name


def compare(plan: Plan, folder: Path) -> "dict[str, Cost]":
    """The cost of each system; what a folder has of it already is not done again."""
    from lightning_cv.datasets.selective_search import SelectiveSearch
    from lightning_cv.viz.timeline import Cost

    try:
        search = SelectiveSearch(**plan.search)
    except (TypeError, ValueError) as error:
        raise UserError(f"proposals: {error}") from error
    datamodule = data_module(plan)
    datamodule.prepare_data()
    with RunLock(folder):
        searched = _searched(search, datamodule, folder) if any(one.needs_proposals for one in plan.systems) else None
        costs = {}
        for number, system in enumerate(plan.systems, start=1):
            print(f"[{number}/{len(plan.systems)}] {system.name}", file=sys.stderr, flush=True)
            place = folder / folder_of(system.name)
            needed = searched if system.needs_proposals else None
            settings = _settings_file(plan, folder, with_proposals=system.needs_proposals)
            train = _rcnn if system.experiment.parent.name == "rcnn" else _detector
            done = train(system, settings, place)
            costs[system.name] = Cost(
                train_seconds=done["train_seconds"],
                train_search_seconds=needed["train_seconds"] if needed else 0.0,
                picture_seconds=done["picture_seconds"],
                picture_proposal_seconds=(needed["picture_seconds"] if needed else 0.0) + done["proposal_seconds"],
                bytes_on_disk=int(done["bytes_on_disk"] + (needed["bytes_on_disk"] if needed else 0)),
                map_50=done["map_50"],
            )
    return costs


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
    from lightning_cv.datasets.proposals import add_to_index, begin, refuse_other_cache

    place, told = folder / PROPOSALS, folder / "proposals.json"
    if told.is_file():
        return _read(told)
    refuse_other_cache(place, search.settings)
    place.mkdir(exist_ok=True)
    with RunLock(place):
        begin(place, search.settings)
        rows = _search_all(search, datamodule, place, folder / "proposals.jsonl")
        add_to_index(place, {row["image_id"]: row["entry"] for row in rows})
    seconds = {split: [row["seconds"] for row in rows if row["split"] == split] for split in ("train", "test")}
    found = {
        "train_seconds": sum(seconds["train"]),
        "picture_seconds": sum(seconds["test"]) / len(seconds["test"]),
        "bytes_on_disk": float(sum(file.stat().st_size for file in place.glob("*/*.npy"))),
    }
    write_json(told, found)
    return found


def _search_all(
    search: "SelectiveSearch", datamodule: "DetectionDataModule", place: Path, kept: Path
) -> list[Searched]:
    """Search the pictures of which no line of a file says how long it took, and add a line for each; all lines."""
    from lightning_cv.datasets import proposals

    there = {(row["split"], row["image_id"]): row for row in _whole_lines(kept)}
    rows = []
    with kept.open("a") as lines:
        for split in ("train", "test"):
            for sample in _all(datamodule, split, f"selective search, {split}"):
                key, row = proposals.picture_key(sample["image"]), there.get((split, sample["image_id"]))
                if row is None or row["entry"]["key"] != key:
                    proposals.place(place, key).unlink(missing_ok=True)  # of a call that was killed before its line
                    began = time.perf_counter()
                    entry = proposals.add_picture(place, sample["image"], search)
                    seconds = time.perf_counter() - began
                    row = {"split": split, "image_id": sample["image_id"], "seconds": seconds, "entry": entry}
                    print(json.dumps(row), file=lines, flush=True)
                rows.append(row)
    return rows


def _whole_lines(file: Path) -> list[Searched]:
    """The lines of a file, from which the last is cut away where a kill left half of it."""
    content = file.read_bytes() if file.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(file, len(whole))
    return [json.loads(line) for line in whole.splitlines()]


def _all(datamodule: "DetectionDataModule", split: str, doing: str) -> "Iterator[DetectionSample]":
    from rich.console import Console
    from rich.progress import track

    console, source = Console(stderr=True), datamodule.source(split)
    rows = track(range(len(source)), doing, console=console, disable=not console.is_terminal)
    return (source[row] for row in rows)


def _rcnn(system: System, settings: Path, place: Path) -> dict[str, float]:
    """R-CNN in all its stages."""
    from lightning_cv.cli import rcnn

    if not (place / "settings.json").is_file():
        _clear(place)
    argv = ["--config", str(system.experiment), "--config", str(settings), *_options(system), "--out", str(place)]
    results, _ = rcnn.run(argv)
    return {
        "train_seconds": sum(taken for stage, taken in results["seconds"].items() if stage != "detections"),
        "picture_seconds": results["figures"]["test/seconds_an_image"],
        "proposal_seconds": 0.0,
        "bytes_on_disk": float(sum(file.stat().st_size for file in (place / "features").iterdir())),
        "map_50": results["figures"]["test/map_50"],
    }


def _detector(system: System, settings: Path, place: Path) -> dict[str, float]:
    """A detector that `fit` trains."""
    from lightning_cv.cli.fit import launch
    from lightning_cv.cli.record import RESULTS
    from lightning_cv.cli.resume import resume

    told, last = place / "cost.json", place / CHECKPOINTS / "last.ckpt"
    if told.is_file():
        return _read(told)
    if any((place / CHECKPOINTS).glob("*.ckpt")):
        if not (place / RESULTS).is_file():
            resume(place)
    else:
        _clear(place)
        launch("fit", [*_arguments(system, settings), "--run_dir", str(place)])
    tested = launch("test", ["--ckpt", str(last)])
    whole, proposing = _picture_seconds(last)
    found = {
        "train_seconds": _read(place / RESULTS)["seconds"],
        "picture_seconds": whole - proposing,
        "proposal_seconds": proposing,
        "bytes_on_disk": 0.0,
        "map_50": tested.metrics["test/map_50"],
    }
    write_json(told, found)
    return found


def _clear(place: Path) -> None:
    """Remove what a call left that was killed before there was anything to go on from.

    Raises:
        UserError: another process is at work there.
    """
    if place.is_dir():
        with RunLock(place):
            shutil.rmtree(place)


def _arguments(system: System, settings: Path) -> list[str]:
    """What `fit` is told of a system, and to use one device, that of R-CNN."""
    import torch

    where = ["--trainer.accelerator=" + ("gpu" if torch.cuda.is_available() else "cpu"), "--trainer.devices=1"]
    files = ["--config", str(system.experiment), "--config", str(settings)]
    return [*files, *_options(system), *where, "--trainer.enable_model_summary=false"]


def _picture_seconds(checkpoint: Path) -> tuple[float, float]:
    """Mean seconds to prepare and look at one test picture, read already, and of them those of proposals of its own.

    Proposals of selective search are found already. The clock is that of R-CNN's detections. The first picture warms
    up; one for which memory runs out does not count.
    """
    import torch

    from lightning_cv.cli.predictor import load_model
    from lightning_cv.datamodules.base import DetectionDataModule
    from lightning_cv.tasks import DetectionTask

    model = load_model(checkpoint, "auto")
    task, datamodule = model.task, model.datamodule
    if not isinstance(task, DetectionTask) or not isinstance(datamodule, DetectionDataModule):
        raise UserError(f"{checkpoint} is of no detector: only detectors can be compared")
    pictures, seconds = datamodule.samples("test"), []
    with torch.inference_mode():
        for row in (0, *range(len(pictures))):
            sample = pictures[row]
            try:
                seconds.append(_seconds_of(sample, task, datamodule))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
    whole, proposing = zip(*seconds[1:], strict=True) if seconds[1:] else ([math.nan], [math.nan])
    return statistics.fmean(whole), statistics.fmean(proposing)


def _seconds_of(
    sample: "DetectionSample", task: "DetectionTask", datamodule: "DetectionDataModule"
) -> tuple[float, float]:
    """Seconds until all is found in one picture, and those in which the net proposes regions, timed on its maps."""
    from lightning_cv.datamodules.batches import collate_detection
    from lightning_cv.models import FasterRCNN
    from lightning_cv.models.detection.objects import whole_sizes

    began = time.perf_counter()
    batch = collate_detection([datamodule.eval_transform(sample, 0)])
    batch = datamodule.transfer_batch_to_device(batch, task.device, 0)
    task.detections(batch)
    seconds = _now(task.device) - began
    if not isinstance(task.net, FasterRCNN):
        return seconds, 0.0
    maps, sizes = task.net.features(batch["images"]), whole_sizes(batch["images"])
    began = _now(task.device)
    task.net.propose_from(maps, sizes, training=False)
    return seconds, _now(task.device) - began


def _now(device: "torch.device") -> float:
    """Seconds on a clock, when all that the device was told is done."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _options(system: System) -> list[str]:
    """The settings of a system as arguments."""
    return [
        f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in system.settings.items()
    ]


def _read(path: Path) -> dict[str, Any]:  # Any: JSON
    content: dict[str, Any] = json.loads(path.read_text())
    return content
