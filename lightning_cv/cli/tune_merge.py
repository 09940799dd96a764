"""`lightning-cv tune-merge`: thresholds by which a panoptic net's masks share the pixels out, tried on validation.

The net sees every image once; each combination of thresholds merges what it said, and nothing is trained.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from lightning_cv.errors import UserError

if TYPE_CHECKING:  # `--help` shall not wait for them
    from lightning_cv.metrics.panoptic import PanopticFigures
    from lightning_cv.ops.panoptic import PanopticMerge
    from lightning_cv.tasks import PanopticModule

SHOWN = 5
"""Combinations that are printed."""


class Tried(NamedTuple):
    """One combination of thresholds and the panoptic quality it gives."""

    thresholds: dict[str, float]
    figures: "PanopticFigures"


def main(argv: list[str]) -> int:
    """Try all combinations, print the best, write the settings that use the best one; 0 when done."""
    options = _parser().parse_args(argv)
    if options.out.is_dir():
        raise UserError(f"--out {options.out} is a folder, not a file")
    if options.out.resolve() == options.ckpt.resolve():
        raise UserError(f"--out {options.out} is the checkpoint: the settings need a file of their own")
    if options.images is not None and options.images < 1:
        raise UserError(f"--images must be at least 1, got {options.images}")
    asked = _values(options.values)
    from lightning_cv.checkpoints import load_checkpoint  # heavy, and not needed to refuse
    from lightning_cv.cli.predictor import load_model
    from lightning_cv.datamodules.coco import CocoPanopticDataModule
    from lightning_cv.ops.panoptic import PanopticMerge
    from lightning_cv.tasks import PanopticModule
    from lightning_cv.tasks.base import CHECKPOINT_KEY

    model = load_model(options.ckpt, options.device)
    if not isinstance(model.task, PanopticModule) or not isinstance(model.datamodule, CocoPanopticDataModule):
        raise UserError(f"{options.ckpt} is no checkpoint of panoptic segmentation")
    now = model.task.merge
    if not isinstance(now, PanopticMerge):
        raise UserError(f"{type(now).__name__} has no thresholds that are known here")
    if unknown := sorted(set(asked) - set(now.tunable)):
        raise UserError(f"--values {unknown[0]}: {type(now).__name__} has {', '.join(now.tunable)}")
    try:  # before the long part
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder of --out {options.out}: {error.strerror}") from error
    tried = try_all(model.task, model.datamodule, _merges(now, asked), options.images)
    best = max(tried, key=lambda one: one.figures.all.pq)  # of equals the first: what there was before
    _tell(tried, best)
    settings = load_checkpoint(options.ckpt)[CHECKPOINT_KEY]["settings"]
    arguments = settings["model"]["init_args"] | {"inference": _block(now, best.thresholds)}
    changed = settings | {"model": settings["model"] | {"init_args": arguments}}
    try:
        options.out.write_text(_head(options, best) + yaml.safe_dump(changed, sort_keys=False))
    except OSError as error:
        raise UserError(f"cannot write --out {options.out}: {error.strerror or error}") from error
    print(f"lightning-cv test --ckpt {options.ckpt} --config {options.out}")
    return 0


def try_all(
    task: "PanopticModule", datamodule: Any, merges: list["PanopticMerge"], images: int | None = None
) -> list[Tried]:
    """The panoptic quality of each merge on the validation images, the first so many of them, in their order."""
    import torch
    from rich.console import Console
    from rich.progress import track

    from lightning_cv.callbacks.panoptic import in_one_size
    from lightning_cv.metrics.panoptic import PanopticQuality

    datamodule.prepare_data()
    datamodule.setup("validate")
    qualities = [PanopticQuality(datamodule.is_thing) for _ in merges]
    seen, console = 0, Console(stderr=True)
    loader = datamodule.val_dataloader()
    for batch in track(loader, "merging", len(loader), console=console, disable=not console.is_terminal):
        targets = batch["targets"][: None if images is None else images - seen]
        with torch.inference_mode():
            proposed = task.net.parts(batch["images"][: len(targets)].to(task.device))
        for parts, target in zip(proposed, targets, strict=True):
            for merge, quality in zip(merges, qualities, strict=True):
                found, truth = in_one_size(merge(parts), target)
                quality.update([found], [truth], [target["image_id"]])
        seen += len(targets)
        if seen == images:
            break
    return [
        Tried(dict(vars(merge)), quality.evaluate_once(quality.quality))
        for merge, quality in zip(merges, qualities, strict=True)
    ]


def _merges(now: "PanopticMerge", asked: dict[str, list[float]]) -> list["PanopticMerge"]:
    """The merge as it is, then one for each combination of values."""
    choices = [asked.get(name, list(values)) for name, values in now.tunable.items()]
    return [now, *(type(now)(*chosen) for chosen in product(*choices))]  # as tunable lists them


def _values(given: list[str] | None) -> dict[str, list[float]]:
    """What --values says, by threshold."""
    found = {}
    for text in given or []:
        name, equals, numbers = text.partition("=")
        try:
            found[name] = [float(number) for number in numbers.split(",")]
        except ValueError:
            equals = ""
        if not equals:
            raise UserError(f"--values {text}: a threshold and numbers are needed, as in score=0.3,0.5")
    return found


def _block(now: "PanopticMerge", thresholds: dict[str, float]) -> dict[str, Any]:
    return {"class_path": f"{type(now).__module__}.{type(now).__name__}", "init_args": dict(thresholds)}


def _tell(tried: list[Tried], best: Tried) -> None:
    """The thresholds as they were, then the best few."""
    before, ranked = tried[0], sorted(tried[1:], key=lambda one: -one.figures.all.pq)
    print(f"{'PQ':>6} {'things':>6} {'stuff':>6}  thresholds")
    for mark, one in [("  (before)", before), *(("", one) for one in ranked[:SHOWN])]:
        figures = (one.figures.all.pq, one.figures.things.pq, one.figures.stuff.pq)
        print(" ".join(f"{value:6.4f}" for value in figures) + f"  {_listed(one.thresholds)}{mark}")
    print(f"PQ {before.figures.all.pq:.4f} -> {best.figures.all.pq:.4f}")


def _head(options: argparse.Namespace, best: Tried) -> str:
    number = "all" if options.images is None else f"{options.images}"
    return f"# {options.ckpt}, merged with {_listed(best.thresholds)}: PQ {best.figures.all.pq:.4f} on {number} " + (
        "validation images.\n"
    )


def _listed(thresholds: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in thresholds.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-cv tune-merge",
        description="Try thresholds of the merge of a panoptic net on the validation split, without training, and "
        "write the checkpoint's settings with the best ones, for `test --config`.",
    )
    parser.add_argument("--ckpt", type=Path, required=True, help="checkpoint of a run")
    parser.add_argument("--out", type=Path, required=True, help="the settings file, overwritten if it exists")
    parser.add_argument(
        "--values", nargs="+", metavar="NAME=A,B", help="values of a threshold, as in score=0.3,0.5 (default: a grid)"
    )
    parser.add_argument("--images", type=int, help="try on the first so many (default: all)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default auto)")
    return parser
