"""What a run says of itself: to its folder, its checkpoints and its loggers."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning import Callback, LightningModule, Trainer

from lightning_cv import __version__
from lightning_cv.cli import processes, run_folder
from lightning_cv.cli.settings import Settings, as_tree
from lightning_cv.datamodules.base import DataModule
from lightning_cv.tasks.base import CHECKPOINT_KEY


class RunRecord(Callback):
    """Keeps the run's settings in every checkpoint, so that it can be used without its folder, and says what the
    settings do not: checksums and classes of the data, parameters of the net, version and commit of the code.

    The loggers are told, and `env.json` holds the same.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What is trained and validated on."""
        self._tell(trainer, pl_module, ("train", "val"))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What is evaluated on, where nothing is trained."""
        if trainer.state.fn == "validate":
            self._tell(trainer, pl_module, ("val",))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What is tested on."""
        self._tell(trainer, pl_module, ("test",))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the settings and the number of processes beside what the task keeps there."""
        kept = checkpoint.setdefault(CHECKPOINT_KEY, {})
        kept["settings"] = self.settings
        if trainer.state.fn == "fit":
            kept[processes.KEY] = processes.record(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find the place of a run that goes on with another number of processes, and say what that changes."""
        datamodule = getattr(trainer, "datamodule", None)
        if trainer.state.fn != "fit" or not isinstance(datamodule, DataModule):
            return
        saved = checkpoint.get(CHECKPOINT_KEY, {}).get(processes.KEY)
        words = processes.move(checkpoint, saved, trainer, datamodule)
        if words and trainer.is_global_zero:
            print(words, file=sys.stderr)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how large a step's batch is, where several processes or batches make one."""
        datamodule = getattr(trainer, "datamodule", None)
        if not isinstance(datamodule, DataModule) or not trainer.is_global_zero:
            return
        if (words := processes.batch_words(trainer, datamodule)) is not None:
            print(words, file=sys.stderr)

    def _tell(self, trainer: Trainer, pl_module: LightningModule, uses: tuple[str, ...]) -> None:
        datamodule = getattr(trainer, "datamodule", None)
        if not isinstance(datamodule, DataModule) or not trainer.is_global_zero:
            return
        data: Settings = {f"checksum_{use}": datamodule.checksum(use) for use in uses}
        data["classes"] = list(datamodule.label_map.names)
        data["class_ids"] = list(datamodule.label_map.dataset_ids)
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        code = {"version": __version__, "commit": run_folder.commit()}
        for logger in trainer.loggers:
            logger.log_hyperparams(data | {"parameters": parameters, "code": code})
        place = Path(trainer.default_root_dir) / run_folder.ENVIRONMENT
        if place.exists():
            before: Settings = json.loads(place.read_text())
            data = {**before.get("data", {}), **data}
            run_folder.write_json(place, before | {"data": data, "parameters": parameters})


def begin(folder: Path, settings: Settings, command: list[str], seed: int) -> None:
    """Write what made this run. A resumed run keeps its first record and adds a line on each return."""
    record = run_folder.environment(command, seed)
    place = folder / run_folder.ENVIRONMENT
    if (folder / run_folder.CONFIG).exists() and place.exists():
        first = json.loads(place.read_text())
        record = first | {"resumed": [*first.get("resumed", []), record]}
    elif not (folder / run_folder.CONFIG).exists():
        (folder / run_folder.CONFIG).write_text(yaml.safe_dump(settings, sort_keys=False))
    run_folder.write_json(place, record)


def end(folder: Path, metrics: Mapping[str, float], seconds: float) -> None:
    """Write the last value of every metric, and the wall seconds, those before a resume included where known."""
    place = folder / "results.json"
    before: dict[str, float] = json.loads(place.read_text()) if place.exists() else {}
    seconds = round(before.get("seconds", 0.0) + seconds, 2)
    run_folder.write_json(place, {**before, **metrics, "seconds": seconds})


def tell_loggers(trainer: Trainer, settings: Settings) -> None:
    """All settings under nested names, which W&B joins with dots: `model.net.width`."""
    for logger in trainer.loggers:
        logger.log_hyperparams(as_tree(settings))
