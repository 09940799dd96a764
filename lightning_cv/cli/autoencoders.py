"""What the verbs that look into autoencoders share: a checkpoint with its data, and images of a split."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from lightning_cv.checkpoints import load_checkpoint
from lightning_cv.cli.experiments import find_experiment, read_yaml, with_bases
from lightning_cv.cli.predictor import load_model
from lightning_cv.contracts import Autoencoder, Draw
from lightning_cv.datamodules.base import DataModule
from lightning_cv.errors import UserError
from lightning_cv.ops.likelihoods import Likelihood
from lightning_cv.tasks.base import CHECKPOINT_KEY

MARK = {"written_by": "lightning-cv"}
BATCH = 500
IMAGES_SEED = 0
"""Of the choice of images that are looked at, where there are more than asked for."""


class AutoencoderModel(NamedTuple):
    """A checkpoint ready for use, with its data and the settings that it was made by."""

    net: Autoencoder
    datamodule: DataModule
    data_name: str
    settings: dict[str, Any]  # Any: the run's YAML
    device: torch.device
    picture: Callable[[Tensor], Tensor]
    """What the net's outputs stand for, 0 to 1."""


def autoencoder_of(ckpt: Path, device: str = "auto", root: str | None = None) -> AutoencoderModel:
    """The autoencoder of a checkpoint with its weights and its data.

    Raises:
        UserError: the checkpoint is of something else.
    """
    model = load_model(ckpt, device)
    net = model.task.net
    if not isinstance(net, Autoencoder):
        raise UserError(f"{ckpt} is of {type(net).__name__}, no autoencoder: it has no encode and decode")
    settings = load_checkpoint(ckpt)[CHECKPOINT_KEY]["settings"]
    datamodule = model.datamodule if root is None else data_module(_moved(settings["data"], root))
    assert isinstance(net, nn.Module)
    likelihood = getattr(model.task, "likelihood", None)
    picture = likelihood.picture if isinstance(likelihood, Likelihood) else torch.sigmoid
    return AutoencoderModel(net, datamodule, data_name(datamodule), settings, model.task.device, picture)


def other_data(name: str, model: AutoencoderModel, root: str | None = None) -> tuple[str, DataModule]:
    """Another experiment's data in the image size of a checkpoint's, and what they are called.

    Args:
        name: of an experiment, or of any file with a `data:` block, as `--config` finds it.
        model: whose net shall take the images.
        root: data root instead of the file's.
    """
    block: dict[str, Any] = {}
    for file in with_bases(find_experiment(name)):
        found = read_yaml(file).get("data") or {}
        arguments = block.get("init_args", {}) | found.get("init_args", {})
        block = block | found | {"init_args": arguments}
    if "class_path" not in block:
        raise UserError(f"--other {name}: the file has no data block")
    ours = model.settings["data"].get("init_args", {})
    if "size" in ours:
        block["init_args"]["size"] = ours["size"]
    datamodule = data_module(_moved(block, root) if root else block)
    return data_name(datamodule), datamodule


def data_module(block: dict[str, Any]) -> DataModule:
    """The data module of a settings block with class_path and init_args, interpolations resolved."""
    parser = ArgumentParser(exit_on_error=False, parser_mode="omegaconf+")
    parser.add_subclass_arguments(DataModule, "data")
    built: DataModule = parser.instantiate(parser.parse_string(yaml.safe_dump({"data": block}))).data
    return built


def data_name(datamodule: DataModule) -> str:
    """What to call the data: MNIST of a MNISTDataModule."""
    return type(datamodule).__name__.removesuffix("DataModule")


def images_of(datamodule: DataModule, split: str, most: int) -> tuple[Tensor, Tensor]:
    """At most `most` images (N, C, H, W) of "train", "val" or "test", drawn by a fixed seed, and their classes (N,).

    Drawn, and in the order they were drawn, because data may be sorted: the first dSprites are all squares. Every net
    gets the same ones. Training images come as the first epoch's augmentation shows them.
    """
    datamodule.prepare_data()
    datamodule.setup({"train": "fit", "val": "fit", "test": "test"}[split])
    sets = {"train": datamodule.train_set, "val": datamodule.val_set, "test": datamodule.test_set}
    dataset: Any = sets[split]()  # Any: a data set that takes Draws
    count = min(most, len(dataset))
    if not count:
        raise UserError(f"{data_name(datamodule)} has no image in {split}")
    drawn = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(IMAGES_SEED))[:count]
    batches = [dataset[[Draw(0, index) for index in part.tolist()]] for part in torch.split(drawn, BATCH)]
    return torch.cat([one["images"] for one in batches]), torch.cat([one["labels"] for one in batches])


def result_folder(out: Path) -> Path:
    """The folder of a verb's results, made if need be; one that holds other things is refused.

    Raises:
        UserError: it is a file, cannot be made, or holds what no such verb wrote.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder --out {out}: {error.strerror}") from error
    if any(out.iterdir()) and not any(map(_is_result, out.glob("*.json"))):
        raise UserError(f"--out {out} holds files that are no earlier result: choose a new or empty folder")
    return out


def _is_result(file: Path) -> bool:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.items() >= MARK.items()


def _moved(block: dict[str, Any], root: str) -> dict[str, Any]:
    """The data block with another data root."""
    arguments = block.get("init_args", {})
    if "root" not in arguments:
        return block
    return block | {"init_args": arguments | {"root": root}}
