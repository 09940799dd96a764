"""What R-CNN's stages share: their numbers, and the regions of a picture.

Letters: R regions of a picture, its G objects first, then its proposals; N difficult objects; K classes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_cv.contracts import DetectionSample
from lightning_cv.datasets.proposals import read_index, read_settings
from lightning_cv.errors import UserError
from lightning_cv.metrics.voc import pairwise_iou
from lightning_cv.models.detection.rcnn import Floats, Mining


@dataclass(frozen=True)
class Recipe:
    """Numbers of the stages; the defaults are the paper's or the released code's.

    Args:
        steps: of fine-tuning; the released net is that of 70,000.
        drop_every: steps after which the learning rate falls to a tenth, again and again.
        lr_scales, decay_scales: factors by parameters of the net, see `Task`: the layer of the scores learns ten times
            as fast, biases twice as fast and without decay.
        mirror: half of fine-tuning's regions are mirrored left to right.
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
        top_per_class: detections of a class in a picture.
        ap: how mAP is counted: of 11 points for VOC 2007's published figures, else the area.
        batch: regions that go through the net together after fine-tuning.
        mining: of the SVMs.
        seed: of the weights and the choice of regions.
    """

    steps: int = 70000
    drop_every: int = 20000
    lr_scales: dict[str, float] = field(default_factory=lambda: {"score": 10.0, "*.bias": 2.0})
    decay_scales: dict[str, float] = field(default_factory=lambda: {"*.bias": 0.0})
    mirror: bool = True
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
    top_per_class: int = 100
    ap: Literal["area", "11point"] = "area"
    batch: int = 256
    mining: Mining = field(default_factory=Mining)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        least = {"steps": 0, "foreground": 0, "background": 0, "proposals": 0} | dict.fromkeys(
            ("drop_every", "save_every", "pictures_a_step", "top_per_class", "batch"), 1
        )
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"recipe.{name} is at least {smallest}, got {getattr(self, name)}")
        if self.foreground + self.background == 0:
            raise ValueError("recipe.foreground and recipe.background are both 0: a step would have no region")
        if not (self.ridge > 0 and self.mean_norm > 0):
            raise ValueError(f"recipe.ridge and mean_norm are above 0, got {self.ridge} and {self.mean_norm}")


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


def foreground_and_background(regions: Regions) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which regions (R,) fine-tuning takes for objects, and which for background: a difficult object is neither."""
    best = regions.overlaps.max(axis=1, initial=0.0)
    near = best >= 0.5
    return near, ~near & (regions.hidden.max(axis=1, initial=0.0) < 0.5)


def digest(proposals: str, image_ids: Sequence[str]) -> str:
    """What the proposals of some pictures are, in 16 hex digits: how they were found, and of which pixels."""
    path, told = Path(proposals), hashlib.blake2b(digest_size=8)
    if path.is_file():
        told.update(path.read_bytes())
    else:
        index: dict[str, Any] = dict(read_index(path))
        known = {name: index.get(name) for name in sorted(image_ids)}
        told.update(json.dumps([read_settings(path), known], sort_keys=True, default=str).encode())
    return told.hexdigest()
