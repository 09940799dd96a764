"""Parts of a net that are trained, kept, or begun from another net's checkpoint: for training in turns."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import nn


class InParts(nn.Module):
    """A net whose parts, children of these names, are trained or keep their weights."""

    parts: ClassVar[tuple[str, ...]]
    """Of which "features" alone has no loss."""
    trained: tuple[str, ...]
    begun: bool
    """Whether no part keeps weights that were to come from a checkpoint and never did."""

    def begin_parts(self, trained: Sequence[str], weights: str | None, weights_of: Sequence[str] | None) -> None:
        """Fill `weights_of` from a checkpoint, if there is one, and let parts that are not `trained` keep theirs."""
        filled = self.parts if weights_of is None else weights_of
        for what, names in (("trained", trained), ("weights_of", filled)):
            if not names or set(names) - set(self.parts):
                raise ValueError(f"{type(self).__name__}: {what} names some of {list(self.parts)}, got {list(names)}")
        if set(trained) == {"features"}:
            with_loss = " or ".join(part for part in self.parts if part != "features")
            raise ValueError(f"{type(self).__name__}: features have no loss of their own: train {with_loss}, too")
        kept = set(self.parts) - set(trained)
        if weights is not None:
            load_parts(self, weights, filled)
        self.begun = weights is not None or weights_of is None or not kept & set(weights_of)
        self.register_load_state_dict_post_hook(note_begun)  # type: ignore[no-untyped-call]  # torch states none
        self.trained, self._weights_of = tuple(trained), tuple(filled)
        for part in kept:
            self.get_submodule(part).requires_grad_(False)
        self.train()

    def check_begun(self) -> None:
        """A `ValueError` where parts that are not trained were to come from a checkpoint, and none was given."""
        if not self.begun:
            raise ValueError(
                f"{type(self).__name__}: trained is {list(self.trained)}, and there are no weights to take "
                f"{list(self._weights_of)} from: --model.net.weights CKPT of the step before"
            )

    def train(self, mode: bool = True) -> Self:
        """Training mode, in which what is not trained stays as in use."""
        super().train(mode)
        for part in set(self.parts) - set(self.trained):
            self.get_submodule(part).eval()
        return self


def note_begun(net: nn.Module, _: object) -> None:
    """A hook after a whole state dict was loaded: the net has weights now."""
    net.begun = True  # type: ignore[assignment]  # modules take it for a tensor


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
