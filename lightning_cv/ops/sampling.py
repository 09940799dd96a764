"""Which anchors and regions a step learns from. Letters: A anchors or regions, S of them that count."""

import torch
from torch import Tensor

from lightning_cv.ops.matching import NO_MATCH


def balanced_sample(
    match: Tensor, count: int, positive_share: float, generator: torch.Generator | None = None
) -> Tensor:
    """Positions int64 (S,) of at most `count` anchors drawn by chance, positives first; negatives fill what they leave.

    Girshick 2015, section 2.3, and Ren et al. 2015, section 3.1.2. Where there are too few of both, fewer come back.

    Args:
        match: int64 (A,), of an object from 0, background `NO_MATCH`; anything else is never drawn.
        count: how many anchors an image.
        positive_share: at most this share of them answer for objects.
        generator: of the drawing, on the device of `match`; None is torch's own, which a run sets anew each step.

    >>> balanced_sample(torch.tensor([-1, 0, -2, 1, -1]), 4, 0.5).tolist()
    [1, 3, 0, 4]
    """
    positives = (match > NO_MATCH).nonzero()[:, 0]
    negatives = (match == NO_MATCH).nonzero()[:, 0]
    wanted = min(len(positives), int(count * positive_share))
    rest = min(len(negatives), count - wanted)
    return torch.cat([_some(positives, wanted, generator), _some(negatives, rest, generator)])


def _some(candidates: Tensor, number: int, generator: torch.Generator | None) -> Tensor:
    """That many of the candidates, all of them in their order."""
    if number == len(candidates):
        return candidates
    return candidates[torch.randperm(len(candidates), generator=generator, device=candidates.device)[:number]]
