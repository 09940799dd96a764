"""Parts of a net that are trained, kept, or begun from another net's checkpoint: for training in turns."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn


def train_only(net: nn.Module, trained: Sequence[str], parts: Sequence[str]) -> None:
    """Lets the other parts of a net keep their weights.

    Args:
        net: has the `parts` as children.
        trained: those that are trained, one at least.
        parts: all that there are.
    """
    unknown = sorted(set(trained) - set(parts))
    if unknown or not trained:
        raise ValueError(f"{type(net).__name__}: trained names some of {list(parts)}, got {list(trained)}")
    for part in parts:
        if part not in trained:
            net.get_submodule(part).requires_grad_(False)


def load_parts(net: nn.Module, path: str, parts: Sequence[str]) -> None:
    """Fills parts of a net from a checkpoint of a task whose net has parts of the same names.

    Args:
        net: has the `parts` as children.
        path: the checkpoint.
        parts: each must be there whole, in its shapes.
    """
    if not Path(path).is_file():
        raise ValueError(f"{type(net).__name__}: no weights at {path}")
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = content.get("state_dict", content)
    for part in parts:
        module, prefix = net.get_submodule(part), f"net.{part}."
        wanted = module.state_dict()
        bad = [name for name, own in wanted.items() if getattr(state.get(prefix + name), "shape", None) != own.shape]
        if bad:
            raise ValueError(
                f"{type(net).__name__}: {path} holds no such {part}: {len(bad)} of {len(wanted)} tensors are missing "
                f"or of another shape, first {prefix + bad[0]}"
            )
        module.load_state_dict({name: state[prefix + name] for name in wanted})
