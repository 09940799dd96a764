"""Parameter groups by name: factors on the learning rate and on the weight decay."""

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
    lr_scales: Mapping[str, float],
    decay_scales: Mapping[str, float],
    place: str = "model",
) -> list[dict[str, Any]]:  # Any: parameters and numbers, as torch takes them
    """A group for each pair of factors, of the parameters that are trained; `scale` applies them.

    Args:
        parameters: with their names.
        lr_scales, decay_scales: see `Task`.
        place: where these settings lie, for messages.
    """
    trained = {name: parameter for name, parameter in parameters if parameter.requires_grad}
    lr = _factors(list(trained), lr_scales, f"{place}.lr_scales")
    decay = _factors(list(trained), decay_scales, f"{place}.decay_scales")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        groups.setdefault((lr[name], decay[name]), []).append(parameter)
    return [
        {"params": members, "lr_scale": lr_scale, "decay_scale": decay_scale}
        for (lr_scale, decay_scale), members in groups.items()
    ]


def scale(optimizer: Optimizer, place: str = "model") -> None:
    """Multiply each group's learning rate and weight decay by its factors, once."""
    for group in optimizer.param_groups:
        group["lr"] *= group["lr_scale"]
        if (decay := group.pop("decay_scale", 1.0)) != 1:
            if "weight_decay" not in group:
                raise ValueError(f"{place}.decay_scales: {type(optimizer).__name__} has no weight decay to scale")
            group["weight_decay"] *= decay


def _factors(names: list[str], scales: Mapping[str, float], what: str) -> dict[str, float]:
    """The factor of each parameter: of the longest key its name starts with, times those of all patterns."""
    unused = set(scales)
    factors = {}
    for name in names:
        prefix = max((key for key in scales if "*" not in key and name.startswith(key)), key=len, default=None)
        chosen = [key for key in scales if key == prefix or ("*" in key and fnmatchcase(name, key))]
        unused -= set(chosen)
        factors[name] = math.prod(scales[key] for key in chosen)
    if unused:
        raise ValueError(f"{what} names no trained parameter: {', '.join(sorted(unused))}")
    return factors
