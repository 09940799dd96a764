"""Which anchor answers for which object.

Letters: G objects of an image, A anchors. A match is an int64 vector (A,): the object's index, or -1.
"""

import torch
from torch import Tensor

NO_MATCH = -1


def match_bipartite(overlaps: Tensor) -> Tensor:
    """One anchor for each object, (A,) object index or -1: the best free pair first, until no pair overlaps.

    Liu et al. 2016, section 2.2, as in their released code: true greedy bipartite matching, so that two objects
    with the same best anchor both get one. `overlaps` (G, A) are intersections over union.
    """
    objects, anchors = overlaps.shape
    match = torch.full((anchors,), NO_MATCH, dtype=torch.int64)
    # an object's best free anchor is among its G best: the other objects take at most G - 1 of them
    values, indices = overlaps.topk(min(objects, anchors), dim=1)
    ranked = [
        (value, owner, anchor)
        for owner, (row, columns) in enumerate(zip(values.tolist(), indices.tolist(), strict=True))
        for value, anchor in zip(row, columns, strict=True)
        if value > 0
    ]
    free_objects = set(range(objects))
    for _, owner, anchor in sorted(ranked, key=lambda pair: -pair[0]):
        if owner in free_objects and match[anchor] == NO_MATCH:
            match[anchor] = owner
            free_objects.remove(owner)
    return match.to(overlaps.device)  # (A,)


def match_ssd(overlaps: Tensor, threshold: float = 0.5) -> Tensor:
    """Object of each anchor, (A,) index or -1: bipartite matches, then each anchor that overlaps an object enough.

    Liu et al. 2016, section 2.2: a bipartite match stands; any other anchor takes its best object from `threshold` on.
    """
    forced = match_bipartite(overlaps)
    if overlaps.shape[0] == 0:
        return forced
    best, owner = overlaps.max(dim=0)  # (A,)
    near = torch.where(best >= threshold, owner, NO_MATCH)
    return torch.where(forced == NO_MATCH, near, forced)
