"""Panoptic quality with panopticapi's rules. Letters: K classes; N segments of an image; T, P of the truth, predicted.

Kirillov et al. 2019, "Panoptic segmentation", section 4, and the evaluation of panopticapi, which adds what follows:
- two segments match if they have one class and an IoU above 0.5; the union does not hold those pixels of the
  predicted segment whose truth is void;
- a crowd segment of the truth is never matched and never missed;
- an unmatched prediction is no false positive if more than half of it lies on void and on the crowd of its class
  (of several crowds of a class the one listed last, as there);
- figures are summed over all images before they are divided, and a class without any TP, FP and FN is left out.
Differs from panopticapi: a segment's area is counted, where there the truth's is read from the json, and numbers in the
truth's pixels without an entry in its list are refused, where there they are neither a segment nor void.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import TrueSegments
from lightning_cv.metrics.records import ImageRecords
from lightning_cv.metrics.voc import Floats

_DIVISORS = (251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521)

Whole = NDArray[np.int64]
Marks = NDArray[np.bool_]


class PanopticImage(NamedTuple):
    """A division of an image into segments, true or predicted."""

    pixels: NDArray[np.integer[Any]]  # (H, W) segment ids; 0 is void
    ids: Whole  # (N,) all different, none 0
    labels: Whole  # (N,), 0 to K - 1
    crowd: Marks  # (N,); not asked of a prediction


class PanopticCounts(NamedTuple):
    """What one image adds to the figures of each class."""

    tp: Whole  # (K,)
    fp: Whole  # (K,)
    fn: Whole  # (K,)
    iou: Floats  # (K,) sum over the matches


class PanopticMean(NamedTuple):
    """Means over classes, 0 to 1; NaN without a class."""

    pq: float
    sq: float
    rq: float
    classes: int


class PanopticFigures(NamedTuple):
    """Panoptic quality of a data set and its two factors: that of the matches and that of recognition."""

    all: PanopticMean
    things: PanopticMean
    stuff: PanopticMean
    pq: Floats  # (K,), 0 to 1; NaN for a class in neither truth nor prediction
    sq: Floats  # (K,)
    rq: Floats  # (K,)


def panoptic_image(target: TrueSegments) -> PanopticImage:
    """The true segments of an image, in the size its `segments` have."""
    labels = target["labels"].cpu().numpy()
    return PanopticImage(
        target["segments"].cpu().numpy(), np.arange(1, len(labels) + 1), labels, target["crowd"].cpu().numpy()
    )


def panoptic_counts(found: PanopticImage, truth: PanopticImage, num_classes: int, image_id: str) -> PanopticCounts:
    """Matches, false positives and misses of one image, by class.

    Raises:
        ValueError: naming the image: sizes differ, a label is not 0 to K - 1, an id is 0 or listed twice, pixels have
            an id that is not listed, or a predicted segment has no pixel (a true one is missed then).
    """
    _check(found, truth, num_classes, image_id)
    shared = _shared_pixels(found, truth, image_id)  # (T + 1, P + 1), void first
    area, true_area = shared.sum(0)[1:], shared.sum(1)[1:]  # (P,), (T,)
    if not area.all():
        raise ValueError(f"image {image_id}: predicted segments {found.ids[area == 0].tolist()} have no pixel")
    overlap, on_void = shared[1:, 1:], shared[0, 1:]  # (T, P), (P,)
    union = true_area[:, None] + area - overlap - on_void  # (T, P)
    iou = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    match = (iou > 0.5) & (truth.labels[:, None] == found.labels) & ~truth.crowd[:, None]  # (T, P): at most one a row

    crowd_row = np.zeros(num_classes, np.int64)
    crowd_row[truth.labels[truth.crowd]] = 1 + np.flatnonzero(truth.crowd)  # the last of a class stays
    row = crowd_row[found.labels]  # (P,): 0 without a crowd
    on_crowd = np.where(row > 0, shared[row, np.arange(len(row)) + 1], 0)
    wrong = ~match.any(0) & ((on_void + on_crowd) / area <= 0.5)
    missed = ~match.any(1) & ~truth.crowd
    rows, columns = match.nonzero()
    labels = truth.labels[rows]
    quality: Floats = np.zeros(num_classes)
    np.add.at(quality, labels, iou[rows, columns])
    return PanopticCounts(
        tp=np.bincount(labels, minlength=num_classes),
        fp=np.bincount(found.labels[wrong], minlength=num_classes),
        fn=np.bincount(truth.labels[missed], minlength=num_classes),
        iou=quality,
    )


def panoptic_quality(images: Sequence[PanopticCounts], is_thing: Marks) -> PanopticFigures:
    """PQ, SQ and RQ of all images, over all K classes, over things and over stuff, as `is_thing` (K,) says."""
    zero = np.zeros(len(is_thing))
    tp, fp, fn, iou = (sum((np.asarray(counts[i]) for counts in images), zero) for i in range(4))
    occurs = tp + fp + fn > 0
    halves = tp + 0.5 * fp + 0.5 * fn
    nowhere = np.full(len(is_thing), np.nan)
    rq = np.divide(tp, halves, out=nowhere.copy(), where=occurs)
    sq = np.divide(iou, tp, out=np.where(occurs, 0.0, np.nan), where=tp > 0)
    pq = np.divide(iou, halves, out=nowhere.copy(), where=occurs)

    def mean(chosen: Marks) -> PanopticMean:
        counted = chosen & occurs

        def over(values: Floats) -> float:
            return float(values[counted].mean()) if counted.any() else float("nan")

        return PanopticMean(over(pq), over(sq), over(rq), int(counted.sum()))

    return PanopticFigures(mean(np.ones_like(is_thing)), mean(is_thing), mean(~is_thing), pq, sq, rq)


class PanopticQuality(ImageRecords[PanopticCounts]):
    """Panoptic quality of a data set, the rules above; an image passed in twice counts once.

    Args:
        is_thing: (K,) which classes are things, the others are stuff.
    """

    def __init__(self, is_thing: Sequence[bool], **kwargs: Any) -> None:  # kwargs: torchmetrics' own settings
        super().__init__(**kwargs)
        if len(is_thing) == 0:
            raise ValueError("PanopticQuality: is_thing must have an entry for each class, got none")
        self.is_thing = np.asarray(is_thing, np.bool_)

    def update(self, found: Sequence[PanopticImage], truth: Sequence[PanopticImage], image_ids: Sequence[str]) -> None:
        """Count a batch; both divisions of an image in one size, for COCO's figures that of the file."""
        if not len(found) == len(truth) == len(image_ids):
            raise ValueError(f"{len(found)} predictions, {len(truth)} truths and {len(image_ids)} image ids")
        for image_id, guess, true in zip(image_ids, found, truth, strict=True):
            self.records[image_id] = panoptic_counts(guess, true, len(self.is_thing), image_id)

    def compute(self) -> Tensor:
        """PQ over all classes that occur, 0 to 1; NaN without any."""
        return torch.tensor(self.evaluate_once(self.quality).all.pq)

    def quality(self, images: Sequence[PanopticCounts]) -> PanopticFigures:
        """All figures of given images."""
        return panoptic_quality(images, self.is_thing)


def _check(found: PanopticImage, truth: PanopticImage, num_classes: int, image_id: str) -> None:
    if found.pixels.shape != truth.pixels.shape or truth.pixels.ndim != 2 or truth.pixels.size == 0:
        raise ValueError(
            f"image {image_id}: the segments must have one size (H, W), got predicted {found.pixels.shape} and true "
            f"{truth.pixels.shape}"
        )
    for what, image in (("predicted", found), ("true", truth)):
        if not len(image.ids) == len(image.labels) == len(image.crowd):
            raise ValueError(f"image {image_id}: {what} ids, labels and crowd marks differ in number")
        unknown = image.labels[(image.labels < 0) | (image.labels >= num_classes)]
        if len(unknown):
            raise ValueError(
                f"image {image_id}: {what} labels must be 0 to {num_classes - 1}, got {np.unique(unknown).tolist()}"
            )
        if len({0, *image.ids.tolist()}) <= len(image.ids):
            raise ValueError(f"image {image_id}: {what} ids must differ and not be 0, got {image.ids.tolist()}")


def _shared_pixels(found: PanopticImage, truth: PanopticImage, image_id: str) -> Floats:
    """Number of pixels of every pair of segments, (T + 1, P + 1), void first.

    Only the first pixel of each run of equal pairs is looked up: segments are connected regions, so there are few.
    """
    guess, true = found.pixels.ravel(), truth.pixels.ravel()
    changed = np.ones(guess.size, np.bool_)
    np.not_equal(guess[1:], guess[:-1], out=changed[1:])
    changed[1:] |= true[1:] != true[:-1]
    begins = np.flatnonzero(changed)
    lengths = np.append(begins[1:], guess.size) - begins
    rows = _positions(true[begins], truth.ids, f"image {image_id}: true")
    columns = _positions(guess[begins], found.ids, f"image {image_id}: predicted")
    height, width = len(truth.ids) + 1, len(found.ids) + 1
    counts = np.bincount(rows * width + columns, weights=lengths, minlength=height * width)
    return counts.astype(np.float64, copy=False).reshape(height, width)


def _positions(values: NDArray[np.integer[Any]], ids: Whole, what: str) -> Whole:
    """Position of each value in 0 and the ids, (runs,).

    Looked up by the remainder of the first divisor that tells the ids apart, a few thousand at most.
    """
    known = np.concatenate([[0], ids])
    divisor = next((m for m in _DIVISORS if len(set((known % m).tolist())) == len(known)), None)
    if divisor is None:
        order = np.argsort(known)
        positions: Whole = order[np.searchsorted(known, values, sorter=order).clip(max=len(ids))]
    else:
        table = np.zeros(divisor, np.int64)
        table[known % divisor] = np.arange(len(known))
        positions = table[values % divisor]
    strange = known[positions] != values
    if strange.any():
        raise ValueError(f"{what} pixels have ids that are not listed: {np.unique(values[strange])[:10].tolist()}")
    return positions
