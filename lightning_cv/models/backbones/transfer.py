"""A backbone out of the checkpoint of a whole net."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


def load_part(part: nn.Module, path: str, who: str) -> None:
    """Fill a module with the tensors that a file holds for it, under whatever prefix: a detector's backbone, say.

    Args:
        part: every tensor of its state must be in the file, in its shape.
        path: a checkpoint, or a state dict.
        who: the module's name in messages.
    """
    if not Path(path).is_file():
        raise ValueError(f"{who}: no weights at {path}")
    content = torch.load(path, map_location="cpu", weights_only=True)
    state: Mapping[str, Tensor] = content.get("state_dict", content)
    wanted = part.state_dict()
    first = next(iter(wanted))
    for name in state:
        prefix = name.removesuffix(first)
        found = {key: state[prefix + key] for key in wanted if prefix + key in state}
        if name.endswith(first) and all(key in found and found[key].shape == wanted[key].shape for key in wanted):
            part.load_state_dict(found)
            return
    raise ValueError(f"{who}: {path} holds no net of this kind and size (it would have {len(wanted)} tensors)")
