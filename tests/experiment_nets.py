"""The nets of all experiments, built from their files; which of them are too large to be trained in tests."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser
from torch import nn

from lightning_cv.cli.experiments import experiment_files, experiment_name, read_yaml, shipped_experiments, with_bases

EXPERIMENTS = experiment_files(shipped_experiments())
LIBRARIES = ("segmentation_models_pytorch",)
"""Of nets that experiments name by their class path; tests leave out those of a library that is not installed."""
LARGE = 10_000_000
"""Parameters above which a net is of published size: built and counted in the fast tests, and not trained."""


def net_block(path: Path) -> dict[str, Any]:
    block: dict[str, Any] = {}
    for file in with_bases(path):
        block = laid_over(block, read_yaml(file).get("model", {}).get("init_args", {}).get("net", {}))
    assert block
    return block


def laid_over(old: Any, new: Any) -> Any:
    """A block with what a later file says of it: another class drops the arguments of the first."""
    if (
        not isinstance(old, dict)
        or not isinstance(new, dict)
        or new.get("class_path", old.get("class_path")) != old.get("class_path")
    ):
        return new
    return old | {key: laid_over(old.get(key), value) for key, value in new.items()}


def build(block: dict[str, Any]) -> nn.Module:
    """The net of an experiment, without pretrained weights."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "net")
    net = parser.instantiate(parser.parse_string(yaml.safe_dump({"net": without_weights(block)}))).net
    assert isinstance(net, nn.Module)
    return net


def without_weights(block: Any) -> Any:
    if isinstance(block, dict):
        return {key: None if key == "weights" else without_weights(value) for key, value in block.items()}
    return block


def is_installed(path: Path) -> bool:
    """Whether the library that an experiment's net comes from is there."""
    library = str(net_block(path)["class_path"]).partition(".")[0]
    return library not in LIBRARIES or find_spec(library) is not None


@cache
def parameter_counts() -> dict[str, int]:
    """The number of parameters of every experiment's net, counted without memory for them."""
    counts = {}
    for path in filter(is_installed, EXPERIMENTS):
        with torch.device("meta"):
            net = build(net_block(path))
        counts[experiment_name(path)] = sum(parameter.numel() for parameter in net.parameters())
    return counts


def small_experiments() -> list[Path]:
    """The experiments that tests train."""
    counts = parameter_counts()
    return [path for path in EXPERIMENTS if counts.get(experiment_name(path), LARGE + 1) <= LARGE]


CONTINUES = {
    "faster_rcnn_step2_drawn": "--model.net.proposer.weights",
    "faster_rcnn_step3_drawn": "--model.net.weights",
    "faster_rcnn_step4_drawn": "--model.net.weights",
}
"""Experiments that another run's checkpoint is handed to, and the option that hands it over."""


def weights_before(block: dict[str, Any], file: Path) -> str:
    """A checkpoint such as the step before a net's leaves, of weights drawn at random."""
    proposer = block["init_args"].get("proposer")
    net = build(proposer["init_args"]["net"] if proposer else block)
    torch.save({"state_dict": {f"net.{name}": value for name, value in net.state_dict().items()}}, file)
    return str(file)
