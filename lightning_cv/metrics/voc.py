"""Average precision as the PASCAL VOC devkit defines it. Letters: D detections, G objects of one image and class.

Everingham et al. 2010, "The PASCAL VOC challenge", section 4.2, and the devkit's `VOCevaldet.m`:
- each detection, best score first, looks at the ONE object of its class that it overlaps most; it is a true positive
  if the overlap reaches the threshold and no better detection took that object, else a false positive
  (also when another object would still be free);
- an object marked difficult is not counted as one to find, and a detection whose best object is difficult is neither
  right nor wrong, however many there are of them.

Pixels. The devkit's boxes name their first and last pixel, 1-based, and a box is x2 - x1 + 1 wide. Ours have an
exclusive far edge and start at 0: (x1 - 1, y1 - 1, x2, y2), whose plain width x2 - x1 is that same number, and so are
all areas and intersections. `inclusive=True` is therefore only for boxes left as the VOC files have them.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_cv.contracts import RunLengths

Floats = NDArray[np.float64]
Kind = Literal["area", "11point"]

TRUE, FALSE, NEITHER = 1, 0, -1
"""Verdicts on a detection: right, wrong, not counted."""


class ImageResult(NamedTuple):
    """Detections and objects of one image, in pixels of the original file, as float64 and int64 arrays."""

    boxes: Floats  # (D, 4)
    scores: Floats  # (D,)
    labels: NDArray[np.int64]  # (D,), 1 to K
    true_boxes: Floats  # (G, 4)
    true_labels: NDArray[np.int64]  # (G,)
    difficult: NDArray[np.bool_]  # (G,): VOC's mark of an object that need not be found
    size: tuple[int, int]  # height and width of the file
    crowd: NDArray[np.bool_] | None = None  # (G,): COCO's mark of a region of many objects; None where none is
    areas: Floats | None = None  # (G,) px^2, by which COCO tells sizes apart; None for those of the boxes or masks
    masks: Sequence[RunLengths] | None = None  # (D,); None, as `true_masks`, where masks are not evaluated
    true_masks: Sequence[RunLengths] | None = None  # (G,)
    image_id: str = ""  # for messages

    @property
    def excused(self) -> NDArray[np.bool_]:
        """Objects (G,) that need not be found: difficult ones and crowds."""
        return self.difficult if self.crowd is None else self.difficult | self.crowd


class Precision(NamedTuple):
    """One class: its average precision (NaN without an object to find), the number to find, and the curve."""

    ap: float
    objects: int
    recall: Floats  # one entry a counted detection, best score first
    precision: Floats


def pairwise_iou(boxes: Floats, others: Floats, *, inclusive: bool = False) -> Floats:
    """Overlap over union (D, G) of boxes (D, 4) and (G, 4); `inclusive` counts x2 and y2 as pixels of the box."""
    extra = 1.0 if inclusive else 0.0
    top_left = np.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    overlap = (bottom_right - top_left + extra).clip(min=0).prod(-1)  # (D, G)
    area = (boxes[:, 2:] - boxes[:, :2] + extra).prod(-1)
    other_area = (others[:, 2:] - others[:, :2] + extra).prod(-1)
    union = area[:, None] + other_area[None, :] - overlap
    iou: Floats = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou


def judge(iou: Floats, difficult: NDArray[np.bool_], threshold: float, *, strict: bool = False) -> NDArray[np.int64]:
    """Verdict (D,) on each detection of one image and class from its overlaps (D, G), best score first.

    `strict` asks for an overlap above the threshold, as py-faster-rcnn's Python copy of the devkit does; the devkit
    itself is content with the threshold.
    """
    verdicts = np.full(len(iou), FALSE, dtype=np.int64)
    if iou.shape[1] == 0:
        return verdicts
    taken = np.zeros(iou.shape[1], dtype=bool)
    best = iou.argmax(1)
    overlaps = iou[np.arange(len(iou)), best]
    for d in np.flatnonzero(overlaps > threshold if strict else overlaps >= threshold):
        if difficult[best[d]]:
            verdicts[d] = NEITHER
        elif not taken[best[d]]:
            verdicts[d], taken[best[d]] = TRUE, True
    return verdicts


def area_under_curve(recall: Floats, precision: Floats) -> float:
    """Area under the precision made non-increasing from the right (VOC 2010 and later), 0 to 1."""
    recall = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([[0.0], precision, [0.0]])[::-1])[::-1]
    return float((np.diff(recall) * envelope[1:]).sum())


def eleven_points(recall: Floats, precision: Floats) -> float:
    """Mean over the recalls 0, 0.1, ... 1 of the best precision at that recall or beyond (VOC 2007), 0 to 1.

    The recalls are those of `np.arange`, 0.30000000000000004 among them, as in py-faster-rcnn.
    """
    return float(np.mean([precision[recall >= level].max(initial=0.0) for level in np.arange(0.0, 1.1, 0.1)]))


def voc_average_precision(
    images: Sequence[ImageResult],
    label: int,
    *,
    iou: float = 0.5,
    kind: Kind = "area",
    strict: bool = False,
    inclusive: bool = False,
) -> Precision:
    """Average precision of one class over all images, 0 to 1.

    Detections of equal score keep the order of `images`, and of the arrays within one.
    """
    return precision_of(judge_class(images, label, iou=iou, strict=strict, inclusive=inclusive), kind)


class Judged(NamedTuple):
    """Detections of one class in all images, best score first, and the objects to find."""

    verdicts: NDArray[np.int64]  # (D,), those of NEITHER left out
    images: NDArray[np.int64]  # (D,): the number of the image that each is in
    objects: NDArray[np.int64]  # (N,), of each image


def judge_class(
    images: Sequence[ImageResult], label: int, *, iou: float = 0.5, strict: bool = False, inclusive: bool = False
) -> Judged:
    """Verdicts on the detections of one class; those of equal score keep the order of `images` and within one."""
    scores: list[Floats] = [np.zeros(0)]
    verdicts: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    objects, found = np.zeros(len(images), dtype=np.int64), np.zeros(len(images), dtype=np.int64)
    for number, image in enumerate(images):
        mine, truth = image.labels == label, image.true_labels == label
        if not (mine.any() or truth.any()):
            continue
        order = np.argsort(-image.scores[mine], kind="stable")
        difficult = image.excused[truth]
        overlaps = pairwise_iou(image.boxes[mine][order], image.true_boxes[truth], inclusive=inclusive)
        verdicts.append(judge(overlaps, difficult, iou, strict=strict))
        scores.append(image.scores[mine][order])
        objects[number], found[number] = (~difficult).sum(), len(order)
    ranks = np.argsort(-np.concatenate(scores), kind="stable")
    ranked = np.concatenate(verdicts)[ranks]
    counted = ranked != NEITHER
    return Judged(ranked[counted], np.repeat(np.arange(len(images)), found)[ranks][counted], objects)


def precision_of(judged: Judged, kind: Kind = "area", times: NDArray[np.int64] | None = None) -> Precision:
    """Average precision of judged detections, 0 to 1; `times` (N,) counts each image so often."""
    ranked, objects = judged.verdicts, int(judged.objects.sum())
    if times is not None:
        ranked, objects = np.repeat(ranked, times[judged.images]), int((judged.objects * times).sum())
    hits = (ranked == TRUE).cumsum()
    if objects == 0:
        return Precision(float("nan"), 0, np.full(len(ranked), np.nan), np.zeros(len(ranked)))
    recall, precision = hits / objects, hits / np.arange(1, len(ranked) + 1)
    summary = area_under_curve if kind == "area" else eleven_points
    return Precision(summary(recall, precision), objects, recall, precision)


def voc_mean_average_precision(
    images: Sequence[ImageResult],
    num_classes: int,
    *,
    iou: float = 0.5,
    kind: Kind = "area",
    strict: bool = False,
    inclusive: bool = False,
) -> tuple[float, Floats]:
    """Mean over the classes with an object to find, and the average precision of each, (K,) with NaN for the others."""
    per_class = np.array(
        [
            voc_average_precision(images, label, iou=iou, kind=kind, strict=strict, inclusive=inclusive).ap
            for label in range(1, num_classes + 1)
        ]
    )
    found = per_class[~np.isnan(per_class)]
    return (float(found.mean()) if len(found) else float("nan")), per_class
