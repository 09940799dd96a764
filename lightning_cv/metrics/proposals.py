"""How many objects a set of proposals covers. Letters: P proposals, G objects of an image; T thresholds; L limits.

Average recall as COCO's evaluation defines it (Hosang et al. 2016, "What makes for effective detection proposals?", on
its meaning): the share of objects found by the best n proposals of each image, over IoU .50, .55, ... .95. Proposals
and objects are matched without regard to class, by COCOeval's rule with `useCats = 0`: at each threshold, each
proposal, best score first, takes the object it overlaps most among those still free. Detectron's box-proposal
evaluation pairs them by largest overlap instead, whatever the scores, and can find a few more.
A proposal's match does not depend on those behind it. So one pass gives, for each object, the rank of the proposal that
finds it, and with it the recall at every n. A difficult or crowd object need not be found: it takes only proposals that
nothing else wants, and is left out.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import DetectionTarget
from lightning_cv.metrics.detection import in_pixels_of_the_file
from lightning_cv.metrics.records import ImageRecords
from lightning_cv.metrics.voc import Floats, pairwise_iou

Ranks = NDArray[np.int64]
NEVER = np.iinfo(np.int64).max
"""The rank of the proposal that finds an object which none finds."""

THRESHOLDS = np.linspace(0.5, 0.95, 10)
LIMITS = (10, 100, 1000, 2000)


class ProposalFigures(NamedTuple):
    """Recall of a data set, 0 to 1; NaN without an object."""

    limits: tuple[int, ...]  # proposals an image, (L,)
    average_recall: Floats  # (L,) over all thresholds
    recall_50: Floats  # (L,) at IoU 0.5


def finding_ranks(boxes: Floats, true_boxes: Floats, thresholds: Floats = THRESHOLDS) -> Ranks:
    """Rank, from 0, of the proposal that finds each object at each threshold, (T, G), or NEVER.

    Proposals (P, 4) come best score first, objects (G, 4) without the difficult ones.

    >>> finding_ranks(np.array([[0, 0, 4, 3], [0, 0, 4, 4]]), np.array([[0, 0, 4, 4]]), np.array([0.5, 0.9])).tolist()
    [[0], [1]]
    """
    overlaps = pairwise_iou(boxes, true_boxes)  # (P, G)
    ranks = np.full((len(thresholds), len(true_boxes)), NEVER, dtype=np.int64)
    for rank in np.flatnonzero(overlaps.max(1, initial=0.0) >= thresholds.min()):
        free = np.where(ranks == NEVER, overlaps[rank], 0.0)  # (T, G)
        best = free.shape[1] - 1 - free[:, ::-1].argmax(1)  # (T,): of equals the last, as COCOeval goes on looking
        found = np.flatnonzero(free.max(1) >= thresholds)
        ranks[found, best[found]] = rank
    return ranks


def proposal_recall(ranks: Sequence[Ranks], limits: Sequence[int]) -> Floats:
    """Share of objects found by the first n proposals, (T, L), from the ranks (T, G) of each image."""
    together = np.concatenate(ranks, axis=1) if ranks else np.zeros((len(THRESHOLDS), 0), np.int64)
    if together.shape[1] == 0:
        return np.full((len(together), len(limits)), np.nan)
    return np.stack([(together < limit).mean(1) for limit in limits], axis=1)  # (T, L)


class ProposalRecall(ImageRecords[Ranks]):
    """Recall of a data set's proposals, rules above; an image passed in twice counts once.

    Args:
        limits: proposals an image, for each of which there are figures. More make a curve and cost nothing.
    """

    def __init__(self, limits: Sequence[int] = LIMITS, **kwargs: Any) -> None:  # kwargs: torchmetrics' own settings
        super().__init__(**kwargs)
        if not limits or min(limits) < 1:
            raise ValueError(f"ProposalRecall: limits must be numbers from 1, got {list(limits)}")
        self.limits = tuple(limits)

    def update(
        self,
        boxes: Sequence[Tensor],
        scores: Sequence[Tensor],
        targets: Sequence[DetectionTarget],
        image_size: Sequence[int],
    ) -> None:
        """Keep a batch of proposals, (P, 4) and (P,) an image, in pixels of its image tensor (H, W)."""
        if not len(boxes) == len(scores) == len(targets):
            raise ValueError(f"{len(boxes)} images with boxes, {len(scores)} with scores, but {len(targets)} targets")
        for found, score, target in zip(boxes, scores, targets, strict=True):
            if found.shape != (len(score), 4) or score.isnan().any():
                raise ValueError(
                    f"image {target['image_id']}: need boxes (P, 4) and as many scores that are numbers, got "
                    f"{tuple(found.shape)} and {tuple(score.shape)}"
                )
            best = score.argsort(descending=True, stable=True)[: max(self.limits)]
            wanted = ~target["difficult"] & ~target.get("crowd", target["difficult"])
            self.records[target["image_id"]] = finding_ranks(
                in_pixels_of_the_file(found[best], target, image_size),
                in_pixels_of_the_file(target["boxes"][wanted], target, image_size),
            )

    def compute(self) -> ProposalFigures:
        """Figures at each limit."""
        return self.evaluate_once(self.figures)

    def figures(self, images: Sequence[Ranks]) -> ProposalFigures:
        """Figures of given images at this metric's limits."""
        recall = proposal_recall(images, self.limits)  # (T, L)
        return ProposalFigures(self.limits, recall.mean(0), recall[0])
