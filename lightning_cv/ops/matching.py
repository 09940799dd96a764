"""Which anchor answers for which object.

Letters: N images, G objects of the image that has most, A anchors. Overlaps are (N, G, A), with rows of zeros where an
image has fewer objects; a match is int64 (N, A): the object's index, or -1 for background, or -2
for what no loss looks at.
"""

import torch
from torch import Tensor

NO_MATCH = -1
IGNORED = -2


def match_bipartite(overlaps: Tensor) -> Tensor:
    """One anchor for each object, (N, A) object index or -1: the best free pair first, until no pair overlaps.

    Liu et al. 2016, section 2.2, as in their released code: true greedy bipartite matching, so that two objects
    with the same best anchor both get one.

    >>> match_bipartite(torch.tensor([[[0.9, 0.2, 0.0], [0.8, 0.3, 0.1]]])).tolist()
    [[0, 1, -1]]
    """
    images, objects, anchors = overlaps.shape
    match = torch.full((images, anchors), NO_MATCH, dtype=torch.int64)
    # an object's best free anchor is among its G best: the other objects take at most G - 1 of them
    values, indices = overlaps.topk(min(objects, anchors), dim=2)  # (N, G, min(G, A))
    for row, image_values, image_indices in zip(match, values.tolist(), indices.tolist(), strict=True):
        pairs = [
            (value, owner, anchor)
            for owner, ranked in enumerate(zip(image_values, image_indices, strict=True))
            for value, anchor in zip(*ranked, strict=True)
            if value > 0
        ]
        taken: dict[int, int] = {}
        for _, owner, anchor in sorted(pairs, key=lambda pair: -pair[0]):
            if owner not in taken and anchor not in taken.values():
                taken[owner] = anchor
        row[list(taken.values())] = torch.tensor(list(taken), dtype=torch.int64)
    return match.to(overlaps.device)  # (N, A)


def match_ssd(overlaps: Tensor, threshold: float = 0.5) -> Tensor:
    """Object of each anchor, (N, A) index or -1: bipartite matches, then each anchor that overlaps an object enough.

    Liu et al. 2016, section 2.2: a bipartite match stands; any other anchor takes its best object from `threshold` on.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"match_ssd: the threshold is an overlap above 0 and up to 1, got {threshold}")
    forced = match_bipartite(overlaps)
    if overlaps.shape[1] == 0:
        return forced
    best, owner = overlaps.max(dim=1)  # (N, A)
    near = torch.where(best >= threshold, owner, NO_MATCH)
    return torch.where(forced == NO_MATCH, near, forced)


def match_rpn(overlaps: Tensor, positive: float = 0.7, negative: float = 0.3) -> Tensor:
    """Object of each anchor, (N, A) index, -1 or -2: every good overlap, and the best anchors of each object.

    Ren et al. 2015, section 3.1.2, as in their code: all anchors that share an object's best overlap are forced, and a
    forced anchor, too, answers for the object that it overlaps most. Differs from the code: an object that no anchor
    touches forces none. There may be no anchor at all.

    Args:
        overlaps: (N, G, A), or (G, A) of one image.
        positive: overlap from which an anchor answers for an object.
        negative: overlap below which it is background; between the two it is ignored.

    >>> match_rpn(torch.tensor([[[0.8, 0.2, 0.5, 0.0], [0.1, 0.2, 0.5, 0.0]]])).tolist()
    [[0, -1, 0, -1]]
    """
    if not 0 <= negative <= positive <= 1:
        raise ValueError(f"match_rpn: overlaps 0 <= negative <= positive <= 1 are needed, got {negative}, {positive}")
    if overlaps.shape[-2] == 0 or overlaps.shape[-1] == 0:
        return _all_background(overlaps)
    best_of_object = overlaps.amax(dim=-1, keepdim=True)  # (N, G, 1)
    forced = ((overlaps == best_of_object) & (best_of_object > 0)).any(dim=-2)  # (N, A)
    best, owner = overlaps.max(dim=-2)  # (N, A)
    far = torch.where(best < negative, NO_MATCH, IGNORED)
    return torch.where(forced | ((best >= positive) & (best > 0)), owner, far)


def match_regions(overlaps: Tensor, positive: float = 0.5, background: tuple[float, float] = (0.0, 0.5)) -> Tensor:
    """Object of each region, (N, A) index, -1 or -2: the one it overlaps most.

    Girshick 2015, section 2.3, whose background is [0.1, 0.5), the lower end being a way to find hard examples; that
    of Ren et al. 2015 is [0, 0.5).

    Args:
        overlaps: (N, G, A), or (G, A) of one image.
        positive: overlap from which a region is its object.
        background: overlaps from the first up to, not with, the second are background; all others are ignored.

    >>> match_regions(torch.tensor([[[0.5, 0.4, 0.05], [0.6, 0.2, 0.0]]]), background=(0.1, 0.5)).tolist()
    [[1, -1, -2]]
    """
    if not 0 <= background[0] <= background[1] <= positive <= 1:
        raise ValueError(
            f"match_regions: background is of two rising overlaps below positive, got {background} and {positive}"
        )
    if overlaps.shape[-2] == 0:
        return _all_background(overlaps) + (IGNORED - NO_MATCH if background[0] > 0 else 0)
    best, owner = overlaps.max(dim=-2)  # (N, A)
    far = torch.where((best >= background[0]) & (best < background[1]), NO_MATCH, IGNORED)
    return torch.where(best >= positive, owner, far)


def _all_background(overlaps: Tensor) -> Tensor:
    shape = (*overlaps.shape[:-2], overlaps.shape[-1])
    return torch.full(shape, NO_MATCH, dtype=torch.int64, device=overlaps.device)
