"""Parts of a net that are trained, kept, or begun from another net's checkpoint: for training in turns."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import nn


class InParts(nn.Module):
    """A net whose parts, children of these names, are trained or keep their weights."""

    parts: ClassVar[tuple[str, ...]]
    trained: tuple[str, ...]

    def begin_parts(self, trained: Sequence[str], weights: str | None, weights_of: Sequence[str]) -> None:
        """Fill `weights_of` from a checkpoint, if there is one, and let parts that are not `trained` keep theirs."""
        unknown = sorted(set(trained) - set(self.parts))
        if unknown or not trained:
            raise ValueError(f"{type(self).__name__}: trained names some of {list(self.parts)}, got {list(trained)}")
        if weights is not None:
            load_parts(self, weights, weights_of)
        self.trained = tuple(trained)
        for part in set(self.parts) - set(trained):
            self.get_submodule(part).requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Training mode, in which what is not trained stays as in use."""
        super().train(mode)
        for part in set(self.parts) - set(self.trained):
            self.get_submodule(part).eval()
        return self


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
