"""What holds for every net: it is exported, has an experiment, fulfils its Protocol, and trains all its parameters."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment_nets import EXPERIMENTS, build, net_block, small_experiments
from torch import Tensor, nn

from lightning_cv import models
from lightning_cv.cli.experiments import experiment_name
from lightning_cv.contracts import Autoencoder, Backbone, Detector, PanopticNet, SegmentationNet
from lightning_cv.ops.latents import kl_to_standard_normal

EXPORTED = {
    name: value for name, value in vars(models).items() if inspect.isclass(value) and issubclass(value, nn.Module)
}


def loss_of(net: nn.Module) -> Tensor:
    torch.manual_seed(0)
    if isinstance(net, Autoencoder):
        shape = net.image_shape  # type: ignore[attr-defined]  # (C, H, W), which every autoencoder of ours states
        posterior = net.encode(torch.rand(2, *shape))
        code = posterior.mean if posterior.log_var is None else posterior.mean + posterior.log_var.exp()
        logits = net.decode(code)
        assert logits.shape == (2, *shape)
        if posterior.log_var is None:
            return logits.square().mean()
        return logits.square().mean() + kl_to_standard_normal(posterior.mean, posterior.log_var).mean()
    height, width = getattr(net, "image_size", (128, 160))  # a net with fully connected layers takes one size only
    images = torch.rand(2, 3, height, width)
    if isinstance(net, PanopticNet):
        return loss_of_segments(net, images)
    if isinstance(net, Detector):
        targets = [
            {
                "image_id": str(index),
                "boxes": torch.tensor([[8.0, 8.0, 60.0, 70.0], [70.0, 40.0, 120.0, 120.0]]),
                "labels": torch.tensor([1, net.num_classes]),
                "difficult": torch.zeros(2, dtype=torch.bool),
                "original_size": (height, width),
                "masks": torch.arange(height * width).view(1, height, width) % 3 == torch.arange(2)[:, None, None],
            }
            for index in range(2)
        ]
        losses = net.losses(images, targets)  # type: ignore[arg-type]  # a literal of the TypedDict
        assert all(value.ndim == 0 for value in losses.values())
        return torch.stack(list(losses.values())).sum()
    assert isinstance(net, SegmentationNet)
    logits = net(images)
    assert logits.shape == (
        2,
        getattr(net, "num_classes", logits.shape[1]),
        height,
        width,
    )  # other libraries' have none
    return logits.square().mean() + logits.mean()


def loss_of_segments(net: PanopticNet, images: Tensor) -> Tensor:
    """The first class and the last each have a rectangle on the left and the right, one of them as stuff below."""
    segments = torch.ones(2, *images.shape[-2:], dtype=torch.int64)
    segments[:, 8:70, 8:60], segments[:, 40:120, 70:120] = 2, 3
    labels = torch.tensor([net.num_classes - 1, 0, 1])
    targets = [
        {
            "image_id": str(index),
            "segments": one,
            "labels": labels,
            "is_thing": labels < net.num_classes - 1,
            "crowd": torch.zeros(3, dtype=torch.bool),
            "original_size": (images.shape[-2], images.shape[-1]),
        }
        for index, one in enumerate(segments)
    ]
    losses = net.losses(images, targets)  # type: ignore[arg-type]  # a literal of the TypedDict
    assert all(value.ndim == 0 for value in losses.values())
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("path", small_experiments(), ids=experiment_name)
def test_every_parameter_of_an_experiments_net_gets_a_finite_gradient(path: Path) -> None:
    net = build(net_block(path))
    loss = loss_of(net)
    assert torch.isfinite(loss)
    loss.backward()
    missing = [
        n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert missing == []


@pytest.mark.parametrize("name", sorted(EXPORTED))
def test_every_exported_module_is_part_of_an_experiment_or_has_a_protocol(name: str) -> None:
    """A net nobody can start from a YAML is not finished; backbones and necks are parts, bases all that nets are."""
    started = {name for path in EXPERIMENTS for name in class_names(net_block(path))}
    used = {base.__name__ for name in started if name in EXPORTED for base in EXPORTED[name].__mro__} | started
    part = hasattr(EXPORTED[name], "forward") and issubclass(EXPORTED[name], nn.Module) and is_part(name)
    assert name in used or part


def is_part(name: str) -> bool:
    return EXPORTED[name].__module__.startswith("lightning_cv.models.backbones")


def class_names(block: Any) -> list[str]:
    if not isinstance(block, dict):
        return []
    own = [block["class_path"].rpartition(".")[2]] if "class_path" in block else []
    return own + [name for value in block.values() for name in class_names(value)]


@pytest.mark.parametrize("name", sorted(name for name in EXPORTED if name.endswith("Backbone")))
def test_a_backbone_states_its_channels_and_strides(name: str) -> None:
    arguments = {"name": "resnet18"} if "name" in inspect.signature(EXPORTED[name]).parameters else {}
    backbone = EXPORTED[name](**arguments).eval()
    assert isinstance(backbone, Backbone)
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 96, 128))
    shapes = [(m.shape[1], -(-96 // s), -(-128 // s)) for m, s in zip(maps, backbone.strides, strict=True)]
    assert [tuple(m.shape[1:]) for m in maps] == shapes
    assert [m.shape[1] for m in maps] == list(backbone.out_channels)
