"""Fast R-CNN: the image goes through the backbone once, and every proposal is judged on its maps."""

from collections.abc import Sequence
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
        weights_of: which parts are taken from it, see `FasterRCNN`.
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
        weights_of: tuple[str, ...] | None = None,
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
        missing = [target["image_id"] for target in targets if "proposals" not in target]
        proposals = (
            self._proposed(f"image {missing[0]} has none", images, [image.size for image in objects], training=True)
            if missing
            else [target["proposals"] for target in targets]
        )
        samples = self.boxes.sample(proposals, objects)
        return self.boxes.losses(self.features(images), samples, objects)

    def check_begun(self) -> None:
        """Also of the proposer."""
        super().check_begun()
        if self.proposer is not None:
            self.proposer.check_begun()

    def _proposed(self, why: str, images: Tensor, sizes: Sequence[tuple[int, int]], training: bool) -> list[Tensor]:
        if self.proposer is None:
            raise ValueError(f"FastRCNN judges proposals, and {why}: give the data proposals, or the net a proposer")
        found: list[Tensor] = self.proposer(images, sizes, training)
        return found

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """Detections of each image among what the proposer finds."""
        return self.detect_in(images, whole_sizes(images))

    @torch.no_grad()
    def detect_in(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """As `detect`, in the upper left (H, W) of each image, the rest being padding."""
        return self.detect_among(images, self._proposed("a bare image has none", images, sizes, training=False), sizes)

    @torch.no_grad()
    def detect_among(
        self, images: Tensor, proposals: list[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """Detections of each image among its proposals (P, 4), cut to the size (H, W), best score first."""
        return self.boxes.detect(self.features(images), proposals, sizes)
