"""`fit`, `validate` and `test`: an experiment file, trained or evaluated in a run folder of its own."""

import logging
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from argparse import ArgumentError
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jsonargparse import Namespace, set_parsing_settings
from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lightning_cv import interrupts, tracking
from lightning_cv.callbacks.predictions import Format, SavePredictions
from lightning_cv.callbacks.preemption import Preemption
from lightning_cv.callbacks.reproducible import CounterRandomness
from lightning_cv.checkpoints import (
    AtomicCheckpointIO,
    clear_unfinished,
    load_checkpoint,
    newest_checkpoint,
    refuse_incomplete,
)
from lightning_cv.cli import processes, record, run_folder, slurm
from lightning_cv.cli.diagnose import constructor_words, explain, unknown_section
from lightning_cv.cli.experiments import expand_configs, option_value, with_ckpt_spelled
from lightning_cv.cli.gpus import hide_missing_gpus
from lightning_cv.cli.memory import keep_freed_memory
from lightning_cv.cli.settings import (
    Settings,
    checkpoint_to_test,
    forget_weights,
    refuse_other_settings,
    untrained,
    without_objects,
)
from lightning_cv.cli.target import Target
from lightning_cv.datamodules.base import DataModule
from lightning_cv.errors import UserError
from lightning_cv.tasks.base import CHECKPOINT_KEY, Task

for _chatty in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
    logging.getLogger(_chatty).setLevel(logging.WARNING)
warnings.filterwarnings("ignore", r".*your dataloader is\s+not resumable")  # ours starts where the checkpoint ended
warnings.filterwarnings("ignore", r".*exists and is not empty")  # a resumed run's checkpoint folder is not
warnings.filterwarnings("ignore", r"The dirpath has changed")  # an evaluation writes to a folder of its own
warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)")  # Lightning's use of torch
warnings.filterwarnings("ignore", r".*module\(s\) in eval mode at the start")  # frozen layers are meant to be
warnings.filterwarnings("ignore", r".*does not have many workers")  # in-memory batches need none
set_parsing_settings(omegaconf_absolute_to_relative_paths=True)

_OURS = ("ckpt", "runs", "run_dir", "save_predictions", "save_format", "config", "base")
_SUMMARIES = {
    "fit": "Train an experiment in a new run folder.",
    "validate": "Evaluate a checkpoint on the validation split; without --config, under the checkpoint's own settings.",
    "test": "Evaluate a checkpoint on the test split; without --config, under the checkpoint's own settings.",
}


class Launched(NamedTuple):
    """What came of a launch."""

    run_dir: Path
    metrics: dict[str, float]
    kept: bool = True
    """Whether the folder is there still: that of a fast_dev_run is thrown away."""
    to_test: str = "best"


class ExperimentCLI(LightningCLI):
    """LightningCLI for one verb: settings from experiment files, loggers and checkpoints in the run's folder.

    Parsed without subcommands, it never reaches Lightning's merge of a checkpoint's hyperparameters over what the
    command line asked for.
    """

    run_dir: Path
    settings: Settings
    clock: record.WallClock
    made_here = False
    """Whether this process made the run's folder, and may take it away."""
    throw_away = False

    def __init__(
        self,
        verb: str,
        asked: list[str],
        argv: list[str],
        experiment: str,
        run_dir: Path | None,
        wandb_id: str | None,
    ) -> None:
        self.verb, self.asked, self.argv, self.experiment = verb, asked, argv, experiment
        self.asked_run_dir, self.wandb_id = run_dir, wandb_id
        super().__init__(
            Task,
            DataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={
                "prog": f"lightning-cv {verb}",
                "description": _SUMMARIES[verb],
                "parser_mode": "omegaconf+",
                "exit_on_error": False,
                "allow_abbrev": False,
            },
            args=argv,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options that are not settings of the experiment, and the target, which is."""
        parser.add_argument("--ckpt", type=str | None, default=None, help="checkpoint to start from or to evaluate")
        parser.add_argument("--runs", type=str, default="runs", help="folder of all runs")
        parser.add_argument("--run_dir", type=str | None, default=None, help="this run's folder, instead of a new one")
        parser.add_argument("--base", type=list[str], default=[], help="in a file: the files it stands on")
        parser.add_argument("--target", type=Target | None, default=None, help="published figure to compare with")
        if self.verb != "fit":
            parser.add_argument(
                "--save-predictions", type=str | None, default=None, help="folder for predictions in official formats"
            )
            parser.add_argument(
                "--save-format",
                type=Format | None,
                default=None,
                help="of --save-predictions: auto (default), voc, coco or boxes-txt",
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # Any: Lightning's signature
        """Parse; a slip becomes a message that names file, key and the nearest valid key."""
        if problem := unknown_section(self.argv):
            raise UserError(problem)
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise UserError(explain(self.argv, str(error))) from error
        if self.config.get("save_format") is not None and self.config.save_predictions is None:
            raise UserError("--save-format is of --save-predictions DIR, which is not given")

    def before_instantiate_classes(self) -> None:
        """Find the run its folder and point everything that writes there."""
        dumped = yaml.safe_load(self.parser.dump(self.config, skip_unset=False, skip_validation=True))
        self.settings = {key: value for key, value in without_objects(dumped).items() if key not in _OURS}
        trainer = self.config.trainer
        self.run_dir = self._run_folder(throw_away=bool(trainer.fast_dev_run))
        trainer.default_root_dir = str(self.run_dir)
        for logger in _listed(trainer.logger):
            logger.init_args.save_dir = str(self.run_dir)
            if "id" in logger.init_args:
                logger.init_args.id = self.wandb_id or self.run_dir.name
                logger.init_args.name = logger.init_args.name or f"{self.experiment}/{self.run_dir.name}"
        for callback in _listed(trainer.callbacks):
            if callback.get("init_args.dirpath", "") is None:
                callback.init_args.dirpath = str(self.run_dir / run_folder.CHECKPOINTS)
        if self.verb == "fit" and (self.config.ckpt or run_folder.has_checkpoints(self.run_dir)):
            forget_weights(self.config.model)  # all come from the checkpoint

    def _run_folder(self, throw_away: bool) -> Path:
        if not run_folder.is_first_process() and run_folder.SHARED_RUN in os.environ:
            return Path(os.environ[run_folder.SHARED_RUN])
        if self.asked_run_dir is not None:
            folder = self.asked_run_dir
            self.made_here = not (folder / run_folder.CONFIG).exists()  # an evaluation's; a resumed run has one
        elif throw_away:
            folder = Path(tempfile.mkdtemp(prefix="lightning-cv-"))
            self.made_here = self.throw_away = True
        elif asked := self.config.run_dir or (os.environ.get(run_folder.TRIAL_FOLDER) if self.verb == "fit" else None):
            folder = Path(asked)
            if run_folder.is_first_process() and not run_folder.goes_on_in(folder):
                run_folder.make_run_folder(folder)
            self.made_here = not run_folder.goes_on_in(folder)
        else:
            task = _class_of(self.config.model.class_path).task_name
            folder = run_folder.new_run_folder(Path(self.config.runs), task, self.experiment)
            self.made_here = not run_folder.goes_on_in(folder)
        os.environ[run_folder.SHARED_RUN] = str(folder)
        return folder

    def discard(self) -> None:
        """Take away the folder that this process made, if its run did not begin or is to be thrown away."""
        if not run_folder.is_first_process():
            return
        if self.throw_away:
            shutil.rmtree(self.run_dir, ignore_errors=True)
        elif self.made_here:
            run_folder.discard_unbegun(self.run_dir)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer. The data module gets the run's seed."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            self.discard()
            raise UserError(constructor_words(error)) from error
        except Exception:  # whatever a class of the settings raises, no empty run folder stays
            self.discard()
            raise
        self.datamodule.seed = self.config.seed_everything

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # Any: Lightning's signature
        """The trainer, with what every run of ours has: counted randomness, settings in checkpoints, atomic writes."""
        config, self.clock = {**self.config_init.trainer, **kwargs}, record.WallClock(self.run_dir)
        config["callbacks"] = [
            *_as_list(config["callbacks"]),
            CounterRandomness(self.config.seed_everything),
            record.RunRecord(self.settings, self.clock),
        ]
        if (folder := self.config.get("save_predictions")) is not None:
            config["callbacks"].append(SavePredictions(folder, self.config.save_format or "auto"))
        config["devices"] = slurm.fitting_devices(config["devices"], config["num_nodes"])
        config["plugins"] = [*_as_list(config["plugins"]), AtomicCheckpointIO(), *processes.plugins(config)]
        if (cluster := slurm.environment()) is not None:
            config["plugins"].append(cluster)
        trainer = Trainer(**config)
        last = self.run_dir / run_folder.CHECKPOINTS / "last.ckpt"
        trainer.callbacks.append(Preemption(last, _before_end))  # type: ignore[attr-defined]  # by Lightning's connector
        return trainer

    def checkpoint_to_go_on(self) -> Path | None:
        """The newest checkpoint of the run that a launcher started again; None where it is new or had saved nothing."""
        if self.verb != "fit" or not (run_folder.goes_on_in(self.run_dir) and run_folder.has_checkpoints(self.run_dir)):
            return None
        found = newest_checkpoint(self.run_dir / run_folder.CHECKPOINTS)
        for path, reason in found.skipped:
            print(f"skipped {path.name}: {reason}", file=sys.stderr)
        _refuse_other_checkpoint(self, found.content, str(found.path))
        if run_folder.is_first_process():
            print(f"started again: going on in {self.run_dir} from {found.path.name}", file=sys.stderr)
        return found.path


def fit(argv: list[str]) -> int:
    """Train an experiment."""
    return _report("fit", argv)


def validate(argv: list[str]) -> int:
    """Evaluate on the validation split."""
    return _report("validate", argv)


def test(argv: list[str]) -> int:
    """Evaluate on the test split."""
    return _report("test", argv)


def launch(
    verb: str,
    argv: list[str],
    run_dir: Path | None = None,
    resume_from: Path | None = None,
    experiment: str | None = None,
) -> Launched:
    """Run one verb in this process.

    Args:
        verb: fit, validate or test.
        argv: as on the command line after the verb.
        run_dir: an existing run's folder to go on in; None makes a new one.
        resume_from: the checkpoint to go on from, already checked against the run's settings.
        experiment: name of the run's parent folder; by default that of the last --config.
    """
    with interrupts.listening() if verb == "fit" else nullcontext():
        return _launch(verb, argv, run_dir, resume_from, experiment)


def _launch(
    verb: str, argv: list[str], run_dir: Path | None, resume_from: Path | None, experiment: str | None
) -> Launched:
    keep_freed_memory()
    hide_missing_gpus()
    typed, argv = argv, with_ckpt_spelled(argv)
    ckpt = option_value(argv, "--ckpt")
    if verb != "fit" and ckpt is None and not {"-h", "--help", "--print_config"} & set(argv):
        raise UserError(f"{verb} needs --ckpt FILE: a checkpoint of a run")
    content = load_checkpoint(ckpt) if ckpt else None
    with tempfile.TemporaryDirectory() as scratch:
        if verb != "fit":
            argv = _with_settings_of_checkpoint(argv, content, Path(scratch))
        arguments, asked = expand_configs(argv)
        owner = run_folder.run_of(ckpt) if verb != "fit" else None
        name = experiment or (owner.parent.name if owner else asked[-1].stem if asked else "unnamed")
        if run_dir is None and owner and option_value(argv, "--run_dir") is None:
            run_dir = run_folder.evaluation_folder(owner, verb)
        cli = ExperimentCLI(verb, typed, arguments, name, run_dir, wandb_id=owner.name if owner else None)
    if content is not None:
        _refuse_other_checkpoint(cli, content, ckpt or "")
    if resume_from is None:
        resume_from = cli.checkpoint_to_go_on() or (Path(ckpt) if ckpt else None)
    return _run(cli, resume_from)


def _run(cli: ExperimentCLI, ckpt: Path | None) -> Launched:
    trainer, first, failed = cli.trainer, run_folder.is_first_process(), True
    started_by_lightning = not first and run_folder.SHARED_RUN in os.environ
    try:
        with run_folder.RunLock(cli.run_dir) if first else nullcontext():
            if first:
                clear_unfinished(cli.run_dir / run_folder.CHECKPOINTS)
                record.begin(
                    cli.run_dir, cli.settings, ["lightning-cv", cli.verb, *cli.asked], cli.config.seed_everything
                )
            record.tell_loggers(trainer, cli.settings)
            if ckpt is not None and cli.verb == "fit":
                tracking.rewind(trainer, load_checkpoint(ckpt)["global_step"])
            processes.meet_anew()
            verb = getattr(trainer, cli.verb)
            verb(cli.model, datamodule=cli.datamodule, ckpt_path=str(ckpt) if ckpt else None, weights_only=True)
        failed = False
    except interrupts.Interrupted as end:
        if started_by_lightning:
            end.status = 0  # or the first process, which has yet to finish, would be killed for this one's failure
        raise
    except Exception as error:
        a_slip = (
            isinstance(error, ValueError | OSError) and trainer.global_step == 0
        )  # told in a message, needs no file
        if first and not isinstance(error, UserError) and not a_slip:
            with suppress(OSError):  # the disk may be full
                (cli.run_dir / run_folder.ERROR).write_text("".join(traceback.format_exception(error)))
        raise
    finally:
        tracking.finish(trainer)
        os.environ.pop(run_folder.SHARED_RUN, None)
        if failed and (cli.throw_away or trainer.global_step == 0):
            cli.discard()
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if first:
        record.end(cli.run_dir, metrics, cli.clock.seconds())
        if cli.config_init.target is not None:
            print(cli.config_init.target.verdict(metrics), end="")
    if cli.throw_away:
        cli.discard()
    to_test = checkpoint_to_test(getattr(cli.datamodule, "splits", {}))
    return Launched(cli.run_dir, metrics, not cli.throw_away, to_test)


def _before_end(trainer: Trainer, made_steps: bool) -> str:
    """What is done in the first process when an interrupted run is saved: the loggers are closed, then the job goes."""
    tracking.finish(trainer)
    done, words = slurm.requeue(made_steps)
    return words if done else f"{words}; go on with `lightning-cv resume {trainer.default_root_dir}`".lstrip("; ")


def _report(verb: str, argv: list[str]) -> int:
    launched = launch(verb, argv)
    if run_folder.is_first_process() and launched.kept:
        print(f"run folder: {launched.run_dir}")
        state = launched.run_dir / run_folder.CHECKPOINTS / f"{launched.to_test}.ckpt"
        if verb == "fit" and state.exists():
            print(f"next: lightning-cv test --ckpt {state}")
    return 0


def _with_settings_of_checkpoint(argv: list[str], content: dict[str, Any] | None, scratch: Path) -> list[str]:
    """Put the checkpoint's own settings before the rest where no --config is given."""
    if content is None or any(argument.partition("=")[0] in ("-c", "--config") for argument in argv):
        return argv
    settings = content.get(CHECKPOINT_KEY, {}).get("settings")
    if settings is None:
        raise UserError("the checkpoint holds no settings: name its experiment with --config")
    config = scratch / "checkpoint.yaml"
    config.write_text(yaml.safe_dump(settings | {"model": untrained(settings["model"])}))
    return ["--config", str(config), *argv]


def _refuse_other_checkpoint(cli: ExperimentCLI, content: dict[str, Any], ckpt: str) -> None:
    """A checkpoint of another task, net or settings ends the command before anything is written."""
    try:
        cli.model.on_load_checkpoint(content)
        refuse_incomplete(content, ckpt, to_train=cli.verb == "fit")
        refuse_other_settings(cli.settings, content.get(CHECKPOINT_KEY, {}).get("settings"), ckpt, cli.verb)
    except (UserError, ValueError) as error:
        cli.discard()
        raise UserError(str(error)) from error


def _as_list(entries: Any) -> list[Any]:  # Any: what a trainer argument may be: None, one object, a list of them
    return entries if isinstance(entries, list) else [] if entries is None else [entries]


def _listed(block: Any) -> list[Namespace]:  # Any: what a trainer argument may be: None, a flag, one entry, a list
    return [entry for entry in (block if isinstance(block, list) else [block]) if isinstance(entry, Namespace)]


def _class_of(class_path: str) -> type[Task]:
    module, _, name = class_path.rpartition(".")
    found: type[Task] = getattr(__import__(module, fromlist=[name]), name)
    return found
