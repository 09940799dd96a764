"""`lightning-cv rcnn`: all stages of R-CNN by one command, which goes on where an earlier call stopped."""

import json
from pathlib import Path
from typing import Any

from lightning_cv.errors import UserError

EPILOG = """--config names a file of experiments/rcnn, or one of your own; any key of it can be set beside it, such as
--data.proposals boxes or --recipe.steps 2000. The proposals are what `lightning-cv proposals build` wrote for both
splits. Disk: 2 bytes a feature of each training region; the paper's 4,096 features of 2,000 proposals are 16 MB a
picture, 82 GB of VOC 2007's 5,011."""


def main(argv: list[str]) -> int:
    """Run what is missing, print figures, seconds and bytes; the exit status."""
    results, target = run(argv)
    print(json.dumps(results, indent=1))
    if "figures" in results and target is not None:
        figure = results["figures"][target["metric"]]
        print(f"{target['metric']}: {figure:.3f}, aim {target['value']} ({target['source']})")
    return 0


def run(argv: list[str]) -> tuple[dict[str, Any], dict[str, Any] | None]:  # Any: figures and settings
    """Run what is missing; the folder's figures by name, and the target if there is one."""
    from lightning_cv.cli.experiments import expand_configs
    from lightning_cv.tools.rcnn import STAGES, Story

    arguments, asked = expand_configs(argv)
    settings = _parser(list(STAGES)).parse_args(arguments)
    if not asked:
        raise UserError("no --config: name an R-CNN, such as rcnn/rcnn_drawn")
    if settings.out is None:
        raise UserError("no --out: name the folder of the stages")
    kept = _plain(settings)
    built = _parser(list(STAGES)).instantiate(settings)
    datamodule = built.data
    datamodule.prepare_data()
    if datamodule.label_map.num_classes != built.net.num_classes:
        raise UserError(
            f"net.num_classes is {built.net.num_classes}, but the data has {datamodule.label_map.num_classes} classes"
        )
    story = Story(
        built.net,
        built.recipe,
        built.optimizer,
        datamodule.samples("train"),
        datamodule.samples("test"),
        Path(settings.out),
        kept,
        settings.quiet,
    )
    return story.run(settings.until), settings.target


def _plain(settings: Any) -> dict[str, Any]:  # Any: jsonargparse's namespace
    """What the folder is of: everything but where it lies and how far to go."""
    content: dict[str, Any] = settings.clone().as_dict()
    return {name: content[name] for name in ("net", "recipe", "optimizer", "data")}


def _parser(stages: list[str]) -> Any:  # Any: jsonargparse's parser
    import torch
    from jsonargparse import ArgumentParser
    from lightning.pytorch.cli import OptimizerCallable

    from lightning_cv.datamodules.base import DetectionDataModule
    from lightning_cv.models.detection.rcnn import RegionNet
    from lightning_cv.tools.rcnn_regions import Recipe

    torch.manual_seed(0)  # the weights that are drawn when the net is built
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
    parser.add_argument("--target", type=dict | None, default=None, help="published figure to compare with")
    parser.add_argument("--out", type=str | None, default=None, help="folder of the stages")
    parser.add_argument("--until", choices=stages, default=stages[-1], help="last stage (default: all)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_subclass_arguments(DetectionDataModule, "data")
    parser.add_class_arguments(RegionNet, "net")
    parser.add_class_arguments(Recipe, "recipe")
    parser.add_argument("--optimizer", type=OptimizerCallable, help="of fine-tuning")
    return parser
