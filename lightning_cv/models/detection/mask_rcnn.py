"""Mask R-CNN: Faster R-CNN and a mask of each detection."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_cv.contracts import Backbone, Detections, DetectionTarget
from lightning_cv.models.detection.faster_rcnn import FasterRCNN
from lightning_cv.models.detection.objects import whole_sizes
from lightning_cv.models.detection.roi_heads import BoxBranch, BoxBranchMaker, MaskBranch, MaskBranchMaker
from lightning_cv.models.detection.rpn import RPN, RPNMaker


class MaskRCNN(FasterRCNN):
    """A detector whose detections carry masks.

    He et al. 2017, "Mask R-CNN". Masks are learned from the positive regions that the second stage learns from, and
    predicted for its detections only.

    Args:
        features, num_classes, rpn, boxes, train_on_difficult: see `FasterRCNN`. The paper reads regions by `RoIAlign`.
        masks: the third branch.
    """

    def __init__(
        self,
        features: Backbone,
        num_classes: int,
        rpn: RPNMaker = RPN,
        boxes: BoxBranchMaker = BoxBranch,
        masks: MaskBranchMaker = MaskBranch,
        train_on_difficult: bool = True,
    ) -> None:
        super().__init__(features, num_classes, rpn, boxes, train_on_difficult)
        self.masks = masks(features.out_channels, features.strides, num_classes)

    def losses(self, images: Tensor, targets: list[DetectionTarget]) -> dict[str, Tensor]:
        """The four terms of `FasterRCNN`, and `mask`, see `MaskBranch.losses`."""
        learned = self.learn(images, targets)
        return learned.terms | self.masks.losses(learned.maps, learned.samples, learned.objects)

    @torch.no_grad()
    def detect_in(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Detections with masks (D, H, W) in the upper left (H, W) of each image, best score first.

        Boxes are cut to that part of it, masks are of the whole image.
        """
        return self.detect_on(self.features(images), images, sizes)

    @torch.no_grad()
    def detect_on(
        self, maps: list[Tensor], images: Tensor, sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Detections]:
        """As `detect_in`, on maps of the images that are there already; without sizes, in all of each image."""
        sizes = whole_sizes(images) if sizes is None else sizes
        found = self.boxes.detect(maps, self.propose_from(maps, sizes, training=False), sizes)
        return self.masks.masks(maps, found, images.shape[-2], images.shape[-1])
