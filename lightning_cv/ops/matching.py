"""Which anchor answers for which object.

Letters: N images, G objects of the image that has most, A anchors. Overlaps are (N, G, A), with rows of zeros where an
image has fewer objects; a match is int64 (N, A): the object's index, or -1.
"""

import torch
from torch import Tensor

NO_MATCH = -1


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
