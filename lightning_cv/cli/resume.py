"""`lightning-cv resume RUN_DIR`: the run's own settings, its newest checkpoint that loads, the same W&B run."""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lightning_cv.cli.experiments import read_yaml
from lightning_cv.cli.run_folder import CHECKPOINTS, CONFIG, ENVIRONMENT, RunLock, write_json
from lightning_cv.cli.settings import Difference, Settings, differences
from lightning_cv.errors import UserError

_EPOCHS = "trainer.max_epochs"
WHERE = ("trainer.devices", "trainer.num_nodes", "trainer.accelerator", "trainer.strategy", "data.root")
"""Settings that say where a run runs and not what it is: they may differ from one start to the next."""
NOT_RESTORED = (
    "Lightning's StochasticWeightAveraging begins its learning rate anew: the result will not be that of an "
    "uninterrupted run; lightning.pytorch.callbacks.WeightAveraging and EMAWeightAveraging are restored whole"
)


def main(argv: list[str]) -> int:
    """Go on with a run."""
    parser = argparse.ArgumentParser(
        prog="lightning-cv resume",
        description="Go on with a run from its newest checkpoint that loads, under its own settings. The result equals "
        "that of a run that was never stopped.",
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="folder of the run, with its config.yaml")
    parser.add_argument("--extend-epochs", type=int, default=0, metavar="N", help="train N epochs more than planned")
    parser.add_argument("--devices", metavar="N", help="processes on this machine, instead of as before")
    parser.add_argument("--num-nodes", type=int, metavar="N", help="machines, instead of as before")
    parser.add_argument("--root", metavar="DIR", help="where the data are on this machine, instead of as before")
    options, others = parser.parse_known_args(argv)
    if others:
        raise UserError(
            f"a run goes on under its own settings; not accepted: {' '.join(others)}\n"
            "(--extend-epochs N and where it runs may change; for other settings start a new run with `fit`)"
        )
    places = {"trainer.devices": options.devices, "trainer.num_nodes": options.num_nodes, "data.root": options.root}
    resume(options.run, options.extend_epochs, {key: str(value) for key, value in places.items() if value is not None})
    return 0


def resume(run: Path, extend_epochs: int = 0, places: Mapping[str, str] | None = None) -> dict[str, float]:
    """Go on with the run in a folder; the final metrics.

    Args:
        run: its folder.
        extend_epochs: to train more than was planned.
        places: settings of `WHERE` that are others here, for this time.

    Raises:
        UserError: no run there, no checkpoint that loads, or settings that were changed since.
    """
    if not (run / CONFIG).is_file():
        raise UserError(f"{run} is no run folder: there is no {CONFIG} in it")
    if extend_epochs < 0:
        raise UserError(f"--extend-epochs must be at least 1, got {extend_epochs}")
    from lightning_cv.checkpoints import newest_checkpoint  # heavy, and not needed to refuse
    from lightning_cv.cli.fit import launch
    from lightning_cv.tasks.base import CHECKPOINT_KEY

    settings = read_yaml(run / CONFIG)
    found = newest_checkpoint(run / CHECKPOINTS)
    for path, reason in found.skipped:
        print(f"skipped {path.name}: {reason}", file=sys.stderr)
    _refuse_changes(run, settings, found.content.get(CHECKPOINT_KEY, {}).get("settings", settings))
    if extend_epochs and _is_first_process():
        with RunLock(run):
            _extend(run, settings, extend_epochs)
    step = found.content["global_step"]  # every checkpoint of a run has one: newest_checkpoint sees to it
    if "StochasticWeightAveraging" in str(settings["trainer"].get("callbacks")):
        print(NOT_RESTORED, file=sys.stderr)
    print(f"resuming {run} from {found.path.name}: epoch {found.content['epoch']}, step {step}", file=sys.stderr)
    argv = ["--config", str(run / CONFIG), *(f"--{key}={value}" for key, value in (places or {}).items())]
    return launch("fit", argv, run, found.path, experiment=run.parent.name).metrics


def _refuse_changes(run: Path, settings: Settings, saved: dict[str, Any]) -> None:
    steps = _extensions(run)
    changed: list[Difference] = [
        change
        for change in differences(saved, settings)
        if change.key not in WHERE and not _was_extended(change, steps)
    ]
    if changed:
        listed = "; ".join(str(change) for change in changed)
        raise UserError(
            f"{run / CONFIG} was changed since the checkpoint was written (checkpoint -> file):\n  {listed}"
        )


def _was_extended(change: Difference, steps: list[dict[str, int]]) -> bool:
    """Whether a change is the plan made longer by --extend-epochs, once or more since the checkpoint was written."""
    known = [step["from"] for step in steps]
    return change.key == _EPOCHS and change.before in known and change.now == steps[-1]["to"]


def _extend(run: Path, settings: Settings, epochs: int) -> None:
    """Write the longer plan into the run's files: a later resume must know of it."""
    planned = settings["trainer"]["max_epochs"]
    if planned is None or planned < 0:
        raise UserError("the run has no planned number of epochs (trainer.max_epochs) to extend")
    settings["trainer"]["max_epochs"] = planned + epochs
    record = _record(run)
    record["extended"] = [*record.get("extended", []), {"from": planned, "to": planned + epochs}]
    write_json(run / ENVIRONMENT, record)
    part = run / f".{CONFIG}.part"
    part.write_text(yaml.safe_dump(settings, sort_keys=False))
    part.replace(run / CONFIG)


def _is_first_process() -> bool:
    """Whether no launcher has numbered this process, or has numbered it 0: each of them runs this command again."""
    return all(os.environ.get(rank, "0") in ("", "0") for rank in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))


def _extensions(run: Path) -> list[dict[str, int]]:
    steps = _record(run).get("extended", [])
    if not isinstance(steps, list) or not all(isinstance(s, dict) and {"from", "to"} <= s.keys() for s in steps):
        raise UserError(f"{run / ENVIRONMENT}: extended must be a list of from and to, got {steps!r}")
    return steps


def _record(run: Path) -> dict[str, Any]:  # Any: JSON
    """What the run says of itself; nothing where it says nothing."""
    place = run / ENVIRONMENT
    if not place.is_file():
        return {}
    try:
        content = json.loads(place.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{place} is broken: {error}; remove it, and the run goes on under a new record") from error
    if not isinstance(content, dict):
        raise UserError(f"{place} is broken: a mapping is expected, this is {type(content).__name__}")
    return content
