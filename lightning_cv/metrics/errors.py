"""What keeps a detector from a better average precision, kind by kind. Letters: D detections, G objects; K classes.

Bolya et al. 2020, "TIDE: a general toolbox for identifying object detection errors", and its released code, whose order
of questions this is. Detections, best score first, each take the free object of their class that they overlap most, if
by t_f. A detection that takes none is asked, until an answer is yes:
- localization: is its largest overlap with an object of its class from t_b to t_f?
- classification: does it overlap an object of another class by t_f?
- duplicate: does it overlap an object of its class by t_f (which a better detection took)?
- background: does it overlap nothing by more than t_b?
- both, localization and classification, is what is left.
An object is missed if no detection took it and no localization or classification error points at it.

What a kind costs is the average precision that is gained when all its errors are mended at once: a localization or
classification error becomes a hit, if it is the best detection that points at an object nobody took, and vanishes
otherwise; errors of the other three kinds vanish; missed objects are no longer asked for.
Differs from tidecv 1.0.1: a class without an object is left out of the mean, as COCO does, where tidecv gives it 0; and
a difficult object, which tidecv has not, need not be found and excuses one detection that takes it, and so does a
crowd, where tidecv measures by the part of the detection that lies in it and excuses any number. Of objects that a
detection overlaps alike it takes the one listed first, where COCO's evaluation takes the last.
"""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from lightning_cv.metrics.detection import DetectionRecords
from lightning_cv.metrics.matching import NOBODY, take_in_turn
from lightning_cv.metrics.voc import Floats, ImageResult, pairwise_iou

Whole = NDArray[np.int64]
Marks = NDArray[np.bool_]
Number = TypeVar("Number", int, float)

CLASSIFICATION, LOCALIZATION, BOTH, DUPLICATE, BACKGROUND, HIT, EXCUSED = range(7)
"""What becomes of a detection; the first five in the order of `ByError`."""

RECALLS = np.linspace(0, 1, 101)


class ByError(NamedTuple, Generic[Number]):
    """One number for each kind of error."""

    classification: Number
    localization: Number
    both: Number
    duplicate: Number
    background: Number
    missed: Number


class ErrorSplit(NamedTuple):
    """The errors of a data set."""

    ap: float  # 0 to 1, at IoU t_f; NaN without an object to find
    counts: ByError[int]
    cost: ByError[float]  # average precision lost to each kind, 0 to 1; they need not add up to 1 - ap


class Judged(NamedTuple):
    """The detections of one image or of many, and what is wrong with them."""

    scores: Floats  # (D,)
    labels: Whole  # (D,)
    verdicts: Whole  # (D,)
    mended: Whole  # (D,) label with which a localization or classification error becomes a hit; 0 where it vanishes
    objects: Whole  # labels of the objects to find
    missed: Whole  # labels of those missed


def split_errors(
    images: Sequence[ImageResult],
    num_classes: int,
    *,
    iou: float = 0.5,
    background_iou: float = 0.1,
    max_detections: int = 100,
) -> ErrorSplit:
    """Numbers and costs of the errors; `iou` is t_f, `background_iou` t_b.

    The average precision is COCO's with 101 recall points, at one IoU, over the best `max_detections` of an image.
    """
    parts = [judge_image(image, iou, background_iou, max_detections) for image in images]
    judged = Judged(*(np.concatenate(column) for column in zip(*parts, strict=True))) if parts else NOTHING
    objects = np.bincount(judged.objects, minlength=num_classes + 1)  # (K + 1,)
    missed = np.bincount(judged.missed, minlength=num_classes + 1)
    asked = np.flatnonzero(objects)
    hits, counted = judged.verdicts == HIT, judged.verdicts != EXCUSED

    def precision(kept: Marks, right: Marks, labels: Whole, wanted: Whole) -> float:
        chosen = [kept & (labels == label) for label in asked]
        values = [
            _precision(judged.scores[mine], right[mine], wanted[label])
            for mine, label in zip(chosen, asked, strict=True)
            if wanted[label] > 0 or mine.any()  # else all that the class had was missed
        ]
        if not len(asked):
            return float("nan")
        return float(np.mean(values)) if values else 0.0

    def gain(mended: float) -> float:
        return max(mended - ap, 0.0)  # mending never harms, rounding might; NaN stays

    def cost(kind: int) -> float:
        mine = judged.verdicts == kind
        mended = mine & (judged.mended > 0)
        labels = np.where(mended, judged.mended, judged.labels)
        return gain(precision(counted & (~mine | mended), hits | mended, labels, objects))

    ap = precision(counted, hits, judged.labels, objects)
    without_missed = precision(counted, hits, judged.labels, objects - missed)
    counts = [int((judged.verdicts == kind).sum()) for kind in range(HIT)]
    costs = [cost(kind) for kind in range(HIT)]
    return ErrorSplit(ap, ByError(*[*counts, int(missed.sum())]), ByError(*[*costs, gain(without_missed)]))


def judge_image(image: ImageResult, iou: float, background_iou: float, max_detections: int) -> Judged:
    """What becomes of each detection of an image, best score first."""
    order = np.argsort(-image.scores, kind="stable")[:max_detections]
    labels, true_labels = image.labels[order], image.true_labels[~image.excused]
    overlaps = pairwise_iou(image.boxes[order], image.true_boxes)  # (D, all)
    own = overlaps * (labels[:, None] == image.true_labels)
    others = (overlaps - own)[:, ~image.excused]  # (D, G)
    on_excused, own, overlaps = own[:, image.excused], own[:, ~image.excused], overlaps[:, ~image.excused]
    taken = take_in_turn(own, iou)
    excused = np.zeros(len(order), bool)
    excused[taken == NOBODY] = take_in_turn(on_excused[taken == NOBODY], iou) != NOBODY
    best = own.max(1, initial=0.0)
    verdicts = np.select(
        [
            taken != NOBODY,
            excused,
            (background_iou <= best) & (best <= iou),
            others.max(1, initial=0.0) >= iou,
            best >= iou,
            overlaps.max(1, initial=0.0) <= background_iou,
        ],
        [HIT, EXCUSED, LOCALIZATION, CLASSIFICATION, DUPLICATE, BACKGROUND],
        BOTH,
    )
    found = np.zeros(len(true_labels), bool)
    found[taken[taken != NOBODY]] = True
    mended = np.zeros(len(order), np.int64)
    claimed = found.copy()
    for d in np.flatnonzero((verdicts == LOCALIZATION) | (verdicts == CLASSIFICATION)):
        aim = (own if verdicts[d] == LOCALIZATION else others)[d].argmax()
        if not claimed[aim]:
            mended[d], claimed[aim] = true_labels[aim], True
    return Judged(image.scores[order], labels, verdicts, mended, true_labels, true_labels[~claimed])


def _precision(scores: Floats, right: Marks, objects: int) -> float:
    """Average precision of one class over 101 recall points."""
    hits = right[np.argsort(-scores, kind="stable")].cumsum()
    if objects == 0 or not len(hits):
        return 0.0
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(hits / objects, RECALLS)].mean())


class DetectionErrors(DetectionRecords):
    """The errors of a data set by kind, rules above; an image passed in twice counts once.

    Args:
        num_classes: classes, labelled 1 to K.
        iou: t_f, the overlap of a hit.
        background_iou: t_b, below which a detection has nothing to do with an object.
        max_detections: of an image, the best of all classes.
    """

    higher_is_better = None

    def __init__(
        self,
        num_classes: int,
        iou: float = 0.5,
        background_iou: float = 0.1,
        max_detections: int = 100,
        **kwargs: Any,  # torchmetrics' own settings
    ) -> None:
        super().__init__(num_classes, **kwargs)
        if not 0 < background_iou < iou <= 1:
            raise ValueError(f"DetectionErrors: need 0 < background_iou < iou <= 1, got {background_iou} and {iou}")
        if max_detections < 1:
            raise ValueError(f"DetectionErrors: max_detections must be at least 1, got {max_detections}")
        self.iou, self.background_iou, self.max_detections = iou, background_iou, max_detections

    def compute(self) -> ErrorSplit:
        """Numbers and costs of the errors in all images."""
        return self.evaluate_once(self.split)

    def split(self, images: Sequence[ImageResult]) -> ErrorSplit:
        """Numbers and costs of the errors in given images under this metric's settings."""
        return split_errors(
            images,
            self.num_classes,
            iou=self.iou,
            background_iou=self.background_iou,
            max_detections=self.max_detections,
        )


_NO_NUMBERS = np.zeros(0, np.int64)
NOTHING = Judged(np.zeros(0), *[_NO_NUMBERS] * 5)
