"""`lightning-cv import KIND FILE --out CKPT`: weights that others trained, as a checkpoint like any of ours."""

import argparse
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from lightning_cv.errors import UserError

KINDS = {
    "darknet": ("YOLO v1 and tiny YOLOv2 of Redmon's darknet (*.weights)", "lightning_cv.tools.import_darknet"),
    "disvae": ("VAEs of YannDubs/disentangling-vae (results/*/model.pt)", "lightning_cv.tools.import_disvae"),
    "torchvision": (
        "VGG-16 (vgg16-*.pth), as the start of an FCN-32s; fasterrcnn_ and maskrcnn_resnet50_fpn_coco-*.pth",
        "lightning_cv.tools.import_torchvision",
    ),
}
"""What can be imported, and the module whose `read(file)` gives an `Imported`."""


class Imported(NamedTuple):
    """What a checkpoint needs besides its form."""

    task: str
    """As the task's `task_name` says."""
    settings: dict[str, Any]  # what an experiment's YAML holds: model, data, trainer
    state_dict: dict[str, Any]  # tensors by the names that the task gives them
    label_map: dict[str, Any]  # a LabelMap's fields
    summary: str
    """One line about what was found."""


def main(argv: list[str]) -> int:
    """Write the checkpoint; 0."""
    options = _parser().parse_args(argv)
    if not options.file.is_file():
        raise UserError(f"no file {options.file}")
    if options.out.suffix != ".ckpt":
        raise UserError(f"--out {options.out}: a checkpoint's name ends in .ckpt")
    if options.out.exists():
        raise UserError(f"--out {options.out} is there already: nothing is written over")
    found: Imported = import_module(KINDS[options.kind][1]).read(options.file)
    write(found, options.out)
    print(f"{found.summary} -> {options.out}")
    print(f"next: lightning-cv test --ckpt {options.out}")
    return 0


def write(found: Imported, out: Path) -> None:
    """The checkpoint file. It holds no steps and no optimizer: the net is tested and used, no run goes on from it."""
    import lightning  # heavy, and not needed to refuse

    from lightning_cv.checkpoints import AtomicCheckpointIO
    from lightning_cv.tasks.base import CHECKPOINT_KEY

    settings = found.settings | {"model": with_defaults(found.settings["model"])}
    record = {"task": found.task, "label_map": found.label_map, "settings": settings}
    content = {
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": found.state_dict,
        CHECKPOINT_KEY: record,
    }
    AtomicCheckpointIO().save_checkpoint(content, out)


def with_defaults(model: dict[str, Any]) -> Any:  # Any: a YAML tree
    """The model's block with every setting of its classes, as a run writes it down and `test` compares it."""
    import yaml
    from jsonargparse import ArgumentParser

    from lightning_cv.tasks.base import Task

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Task, "model")
    return yaml.safe_load(parser.dump(parser.parse_object({"model": model}), skip_unset=False))["model"]


def evaluation_settings(
    task: str,
    net: dict[str, Any],
    optimizer: dict[str, Any],
    data: dict[str, Any],
    callbacks: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """What `lightning-cv test` runs where no experiment is named, as an experiment's YAML holds it.

    Args:
        task: name of a class of `lightning_cv.tasks`.
        net, optimizer, data: blocks with class_path and init_args.
        callbacks: names of classes of `lightning_cv.callbacks`, and their arguments.
    """
    return {
        "seed_everything": 0,
        "trainer": {
            "accelerator": "auto",
            "deterministic": "warn",
            "use_distributed_sampler": False,
            "max_epochs": 1,
            "logger": [{"class_path": "lightning_cv.tracking.MetricsCSV", "init_args": {"save_dir": "runs"}}],
            "callbacks": [
                {"class_path": f"lightning_cv.callbacks.{name}", "init_args": arguments}
                for name, arguments in callbacks.items()
            ],
        },
        "model": {"class_path": f"lightning_cv.tasks.{task}", "init_args": {"net": net, "optimizer": optimizer}},
        "data": data,
    }


def _parser() -> argparse.ArgumentParser:
    kinds = "; ".join(f"{kind}: {what}" for kind, (what, _) in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="lightning-cv import",
        description=f"Weights that others trained, as a checkpoint for `test`, `validate` and `predict`. {kinds}.",
    )
    parser.add_argument("kind", choices=sorted(KINDS), metavar="KIND", help="whose file it is: " + ", ".join(KINDS))
    parser.add_argument("file", type=Path, metavar="FILE", help="the weights")
    parser.add_argument("--out", type=Path, required=True, metavar="CKPT", help="the checkpoint to write, a new file")
    return parser
