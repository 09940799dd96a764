"""`lightning-cv rcnn`: all stages of R-CNN by one command, which goes on where an earlier call stopped."""

import json
from argparse import ArgumentError
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_cv.cli.target import Target
from lightning_cv.errors import UserError

if TYPE_CHECKING:  # `--help` shall not wait for them
    from lightning_cv.contracts import LabelMap
    from lightning_cv.tools.rcnn import Story

EPILOG = """--config names a file of experiments/rcnn, or one of your own; any key of it can be set beside it, such as
--data.proposals boxes or --recipe.steps 2000. The proposals are what `lightning-cv proposals build` wrote for both
splits. The folder holds metrics.csv, results.json and in the end rcnn.ckpt, for `lightning-cv test` and `predict`.
Disk: 2 bytes a feature of each training region and a pooled value of each that teaches box regression; with VGG-16
the 4,096 features of 2,000 proposals are 16 MB a picture, 82 GB of VOC 2007's 5,011, and the 25,088 pooled values of
about 30 regions 1.5 MB, 8 GB. Box regression then takes up to 10 GB of memory."""

CHECKPOINT = "rcnn.ckpt"
TOP = ("base", "target", "data", "net", "recipe", "optimizer", "config")
"""Sections of a file."""
SECTIONS = {
    "net": "lightning_cv.models.detection.rcnn.RegionNet",
    "recipe": "lightning_cv.tools.rcnn_regions.Recipe",
    "target": "lightning_cv.cli.target.Target",
}
"""Those of one class."""


def main(argv: list[str]) -> int:
    """Run what is missing, print figures, seconds and bytes; the exit status."""
    results, target = run(argv)
    print(json.dumps(results, indent=1))
    if "figures" in results and target is not None:
        print(target.verdict(results["figures"]), end="")
    return 0


def run(argv: list[str]) -> tuple[dict[str, Any], Target | None]:  # Any: figures by name
    """Run what is missing; the folder's figures by name, and the target if there is one."""
    import torch
    from lightning.pytorch.loggers import Logger

    from lightning_cv.cli.diagnose import explain, unknown_section
    from lightning_cv.cli.experiments import expand_configs
    from lightning_cv.tools.rcnn import FIGURES, STAGES, Story
    from lightning_cv.tools.rcnn_regions import digest
    from lightning_cv.tracking import MetricsCSV, WandbRun

    arguments, asked = expand_configs(argv)
    if problem := unknown_section(arguments, TOP):
        raise UserError(problem)
    try:
        settings = _parser(list(STAGES)).parse_args(arguments)
    except ArgumentError as error:
        raise UserError(explain(arguments, str(error), (*TOP, "out", "until", "project", "quiet"), SECTIONS)) from error
    if not asked:
        raise UserError("no --config: name an R-CNN, such as rcnn/rcnn_drawn")
    if settings.out is None:
        raise UserError("no --out: name the folder of the stages")
    if settings.target is not None and settings.target.metric not in FIGURES:
        raise UserError(f"target.metric: R-CNN has no {settings.target.metric}; valid: {', '.join(FIGURES)}")
    kept = _plain(settings)
    torch.manual_seed(settings.recipe.seed)  # the weights that are drawn
    built = _parser(list(STAGES)).instantiate(settings)
    datamodule, folder = built.data, Path(settings.out)
    datamodule.prepare_data()
    if datamodule.label_map.num_classes != built.net.num_classes:
        raise UserError(
            f"net.num_classes is {built.net.num_classes}, but the data has {datamodule.label_map.num_classes} classes"
        )
    if datamodule.proposals is None:
        raise UserError("R-CNN needs proposals: set data.proposals to what `lightning-cv proposals build` wrote")
    sources = {split: datamodule.samples(split) for split in ("train", "test")}
    pictures = {
        split: f"{datamodule.checksum(split)} {digest(datamodule.proposals, source.source.ids)}"
        for split, source in sources.items()
    }
    loggers: list[Logger] = [MetricsCSV(str(folder))]
    if settings.project is not None:
        name = blake2b(str(folder.resolve()).encode(), digest_size=4).hexdigest()
        loggers.append(WandbRun(str(folder), settings.project, id=name, name=folder.name))
    story = Story(
        built.net,
        built.recipe,
        built.optimizer,
        sources["train"],
        sources["test"],
        folder,
        kept,
        settings.quiet,
        pictures,
        loggers,
    )
    try:
        results = story.run(settings.until)
        if settings.until == STAGES[-1]:
            _write_checkpoint(folder / CHECKPOINT, kept, story, datamodule.label_map)
    finally:
        for logger in loggers:
            if isinstance(logger, WandbRun):
                logger.finish()
    return results, built.target


def _write_checkpoint(file: Path, settings: dict[str, Any], story: "Story", label_map: "LabelMap") -> None:  # Any: YAML
    """All stages as a checkpoint of `TwoStageDetector`."""
    from lightning_cv.checkpoints import AtomicCheckpointIO
    from lightning_cv.tasks import TwoStageDetector
    from lightning_cv.tasks.base import CHECKPOINT_KEY
    from lightning_cv.tools.rcnn_detector import RCNN

    recipe = settings["recipe"]
    names = ("score_threshold", "nms_threshold", "top_per_class", "batch", "proposals")
    numbers = {name: recipe[name] for name in names}
    net = RCNN(story.net, **numbers)
    net.take(story.detector())
    region_net = {"class_path": "lightning_cv.models.detection.rcnn.RegionNet", "init_args": settings["net"]}
    model = {
        "class_path": "lightning_cv.tasks.TwoStageDetector",
        "init_args": {
            "net": {"class_path": "lightning_cv.tools.rcnn_detector.RCNN", "init_args": {"net": region_net} | numbers},
            "optimizer": settings["optimizer"],
        },
    }
    data = settings["data"] | {
        "init_args": settings["data"]["init_args"]
        | {"eval_transform": {"class_path": "lightning_cv.transforms.OriginalSizeEval"}, "eval_batch_size": 1}
    }
    metrics = {"class_path": "lightning_cv.callbacks.DetectionMetrics", "init_args": {"kind": recipe["ap"]}}
    trainer = {"callbacks": [metrics], "logger": False, "use_distributed_sampler": False}
    content = {
        "state_dict": {f"net.{name}": value.cpu() for name, value in net.state_dict().items()},
        "global_step": recipe["steps"],
        "epoch": 0,
        "pytorch-lightning_version": version("lightning"),
        CHECKPOINT_KEY: {
            "task": TwoStageDetector.task_name,
            "label_map": label_map._asdict(),
            "settings": {"model": model, "data": data, "trainer": trainer},
        },
    }
    AtomicCheckpointIO().save_checkpoint(content, file)


def _plain(settings: Any) -> dict[str, Any]:  # Any: jsonargparse's namespace
    """What the folder is of: everything but where it lies and how far to go."""
    content: dict[str, Any] = settings.clone().as_dict()
    return {name: content[name] for name in ("net", "recipe", "optimizer", "data")}


def _parser(stages: list[str]) -> Any:  # Any: jsonargparse's parser
    from jsonargparse import ArgumentParser
    from lightning.pytorch.cli import OptimizerCallable

    from lightning_cv.datamodules.base import DetectionDataModule
    from lightning_cv.models.detection.rcnn import RegionNet
    from lightning_cv.tools.rcnn_regions import Recipe

    parser = ArgumentParser(
        prog="lightning-cv rcnn",
        description="R-CNN: fine-tuning on warped regions, features on disk, SVMs with hard negatives, ridge box "
        "regression, detection and mAP on the test split. Each stage is kept in the folder.",
        epilog=EPILOG,
        parser_mode="omegaconf+",
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="file of settings")
    parser.add_argument("--base", type=list[str], default=[], help="in a file: the files it stands on")
    parser.add_argument("--target", type=Target | None, default=None, help="published figure to compare with")
    parser.add_argument("--out", type=str | None, default=None, help="folder of the stages")
    parser.add_argument("--until", choices=stages, default=stages[-1], help="last stage (default: all)")
    parser.add_argument(
        "--project", type=str | None, default="lightning-cv", help="in W&B; null logs to metrics.csv only"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_subclass_arguments(DetectionDataModule, "data")
    parser.add_class_arguments(RegionNet, "net")
    parser.add_class_arguments(Recipe, "recipe")
    parser.add_argument("--optimizer", type=OptimizerCallable, help="of fine-tuning")
    return parser
