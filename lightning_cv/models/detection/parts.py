"""Parts of a net that are trained, kept, or begun from another net's checkpoint: for training in turns."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import nn

from lightning_cv.contracts import ContinuingNet
from lightning_cv.models.begun import note_begun


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
        inner = [
            f"{part}.{name}" for part in trained if part in self.parts for name in self.get_submodule(part)._modules
        ]
        for what, names, known in (("trained", trained, self.parts), ("weights_of", filled, (*self.parts, *inner))):
            if not names or set(names) - set(known):
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
        """A `ValueError` where what is not trained was to come from a file, and none was given."""
        for part in self.parts:
            if isinstance(module := self.get_submodule(part), ContinuingNet):
                module.check_begun()
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
