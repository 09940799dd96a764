"""Fast R-CNN: the image goes through the backbone once, and every proposal is judged on its maps."""

from typing import cast

import torch
from torch import Tensor, nn

from lightning_cv.contracts import Backbone, Detections, DetectionTarget
from lightning_cv.models.detection.objects import objects_of, whole_sizes
from lightning_cv.models.detection.parts import InParts
from lightning_cv.models.detection.proposers import Proposer
from lightning_cv.models.detection.roi_heads import BoxBranch, BoxBranchMaker

PARTS = ("features", "boxes")


class FastRCNN(InParts):
    """A detector of given proposals.

    Girshick 2015, "Fast R-CNN". Proposals come with the targets (`DetectionTarget.proposals`); where a batch has none,
    from a proposer, if there is one.

    Args:
        features: gives the maps, finest first; it normalises its input itself. In the paper VGG-16's conv5_3.
        num_classes: K, background not counted.
        boxes: the second stage; its defaults are the paper's.
        proposer: finds regions where none are given.
        train_on_difficult: take VOC's difficult objects for objects; otherwise they are background.
        trained: of "features" and "boxes", which are trained; the others keep their weights.
        weights: a checkpoint of a net with such parts to begin from.
        weights_of: which parts are taken from it.
    """

    parts = PARTS

    def __init__(
        self,
        features: Backbone,
        num_classes: int,
        boxes: BoxBranchMaker = BoxBranch,
        proposer: Proposer | None = None,
        train_on_difficult: bool = True,
        trained: tuple[str, ...] = PARTS,
        weights: str | None = None,
        weights_of: tuple[str, ...] = PARTS,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"FastRCNN: num_classes counts the classes beside background, got {num_classes}")
        self.num_classes, self.train_on_difficult = num_classes, train_on_difficult
        self.features = cast(nn.Module, features)
        self.boxes = boxes(features.out_channels, features.strides, num_classes)
        self.proposer = proposer
        self.begin_parts(trained, weights, weights_of)

    def losses(self, images: Tensor, targets: list[DetectionTarget]) -> dict[str, Tensor]:
        """Scalars `classifier` and `box`, see `BoxBranch.losses`."""
        objects = [objects_of(target, images, self.train_on_difficult) for target in targets]
        samples = self.boxes.sample(self._given(images, targets), objects)
        return self.boxes.losses(self.features(images), samples, objects)

    def _given(self, images: Tensor, targets: list[DetectionTarget]) -> list[Tensor]:
        missing = [target["image_id"] for target in targets if "proposals" not in target]
        if missing:
            return self._proposed(images, f"image {missing[0]} has none")
        return [target["proposals"] for target in targets]

    def _proposed(self, images: Tensor, why: str) -> list[Tensor]:
        if self.proposer is None:
            raise ValueError(f"FastRCNN judges proposals, and {why}: give the data proposals, or the net a proposer")
        found: list[Tensor] = self.proposer(images)
        return found

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """Detections of each image among what the proposer finds."""
        return self.detect_among(images, self._proposed(images, "a bare image has none"))

    @torch.no_grad()
    def detect_among(self, images: Tensor, proposals: list[Tensor]) -> list[Detections]:
        """Detections of each image among its proposals (P, 4), cut to it, best score first."""
        return self.boxes.detect(self.features(images), proposals, whole_sizes(images))
