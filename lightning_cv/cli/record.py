"""What a run says of itself: to its folder, its checkpoints and its loggers."""

import json
import sys
import time
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

RESULTS = "results.json"


class WallClock:
    """Wall seconds of a run over all processes that worked at it one after the other, from when this one makes it.

    Args:
        folder: of the run. `keep` writes the seconds there, so that a kill loses none of those before it.
    """

    def __init__(self, folder: Path) -> None:
        self.place = folder / run_folder.SECONDS
        known = [_read(file).get("seconds", 0.0) for file in (self.place, folder / RESULTS)]
        self.before, self.begun = max(known), time.perf_counter()  # after a run's end its results may be newer

    def seconds(self) -> float:
        """Until now."""
        return round(self.before + time.perf_counter() - self.begun, 2)

    def keep(self) -> None:
        """Write the seconds until now; not in the results, for those say that a run is done."""
        run_folder.write_json(self.place, {"seconds": self.seconds()})


class RunRecord(Callback):
    """Keeps the run's settings in every checkpoint, so that it can be used without its folder, and says what the
    settings do not: checksums and classes of the data, parameters of the net, version and commit of the code.

    The loggers are told, and `env.json` holds the same. Whatever stops a training, its wall seconds up to the last
    checkpoint or end of an epoch stay.

    Args:
        settings: of the run.
        clock: of the run.
    """

    def __init__(self, settings: Settings, clock: WallClock) -> None:
        self.settings, self.clock = settings, clock

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
            self._keep_seconds(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the seconds until now."""
        self._keep_seconds(trainer)

    def _keep_seconds(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            self.clock.keep()

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
    """Write the last value of every metric, and the wall seconds of the whole run."""
    place = folder / RESULTS
    run_folder.write_json(place, {**_read(place), **metrics, "seconds": seconds})
    (folder / run_folder.SECONDS).unlink(missing_ok=True)  # the results have them


def _read(place: Path) -> dict[str, float]:
    """Figures by name; none where there is no file."""
    content: dict[str, float] = json.loads(place.read_text()) if place.exists() else {}
    return content


def tell_loggers(trainer: Trainer, settings: Settings) -> None:
    """All settings under nested names, which W&B joins with dots: `model.net.width`."""
    for logger in trainer.loggers:
        logger.log_hyperparams(as_tree(settings))
