"""What R-CNN's stages share: their numbers, and the regions of a picture.

Letters: R regions of a picture, its G objects first, then its proposals; N difficult objects; K classes.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_cv.contracts import DetectionSample
from lightning_cv.errors import UserError
from lightning_cv.metrics.voc import pairwise_iou
from lightning_cv.models.detection.rcnn import Floats, Mining


@dataclass(frozen=True)
class Recipe:
    """Numbers of the stages; the defaults are the paper's or the released code's.

    Args:
        steps: of fine-tuning; the learning rate falls to a tenth after two thirds.
        foreground, background: regions of a step that overlap an object by at least 0.5, and others.
        save_every: steps after which fine-tuning keeps what it has, to go on from.
        pictures_a_step: that these come from; fewer are quicker to read.
        proposals: of a picture that are used; 0 for all.
        negative_below: a region is background for a class's SVM if it overlaps each of its objects by less.
        regress_above: a proposal teaches box regression if it overlaps an object by more.
        ridge: strength of box regression.
        mean_norm: features are scaled so that their norm is this on average, for which strengths are meant.
        nms_threshold: overlap above which the weaker of two detections of a class goes.
        score_threshold: least SVM score of a detection.
        top_after: detections of a picture.
        batch: regions that go through the net together after fine-tuning.
        mining: of the SVMs.
        seed: of the weights and the choice of regions.
    """

    steps: int = 50000
    foreground: int = 32
    background: int = 96
    save_every: int = 500
    pictures_a_step: int = 16
    proposals: int = 2000
    negative_below: float = 0.3
    regress_above: float = 0.6
    ridge: float = 1000.0
    mean_norm: float = 20.0
    nms_threshold: float = 0.3
    score_threshold: float = -1.1
    top_after: int = 100
    batch: int = 256
    mining: Mining = field(default_factory=Mining)
    seed: int = 0


class Regions(NamedTuple):
    """The regions of one picture: G objects that are not difficult, then the proposals."""

    boxes: Floats  # (R, 4)
    overlaps: NDArray[np.float64]  # (R, G) with the objects
    labels: NDArray[np.int64]  # (G,), 1 to K
    hidden: NDArray[np.float64]  # (R, N) with difficult objects
    hidden_labels: NDArray[np.int64]  # (N,)


def regions_of(sample: DetectionSample, most: int) -> Regions:
    """The regions of a picture; boxes that are less than a pixel wide are left out."""
    if "proposals" not in sample:
        raise UserError("R-CNN needs proposals: set data.proposals to what `lightning-cv proposals build` wrote")
    proposals = sample["proposals"][: most or None]
    proposals = proposals[((proposals[:, 2:] - proposals[:, :2]) >= 1).all(axis=1)]
    hard = sample["difficult"] | sample.get("crowd", sample["difficult"])
    boxes = np.concatenate([sample["boxes"][~hard], proposals]).astype(np.float32)
    wide = boxes.astype(np.float64)
    return Regions(
        boxes,
        pairwise_iou(wide, sample["boxes"][~hard].astype(np.float64)),
        sample["labels"][~hard],
        pairwise_iou(wide, sample["boxes"][hard].astype(np.float64)),
        sample["labels"][hard],
    )


def background_of(regions: Regions, label: int, below: float) -> NDArray[np.bool_]:
    """Which regions (R,) overlap each object of a class, difficult ones too, by less than `below`."""
    near = regions.overlaps[:, regions.labels == label].max(axis=1, initial=0.0)
    hidden = regions.hidden[:, regions.hidden_labels == label].max(axis=1, initial=0.0)
    clear: NDArray[np.bool_] = np.maximum(near, hidden) < below
    return clear
