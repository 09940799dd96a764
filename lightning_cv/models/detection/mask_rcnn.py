"""Mask R-CNN: Faster R-CNN and a mask of each detection."""

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
    def detect(self, images: Tensor) -> list[Detections]:
        """Detections with masks of each image, cut to it, best score first."""
        return self.detect_on(self.features(images), images)

    @torch.no_grad()
    def detect_on(self, maps: list[Tensor], images: Tensor) -> list[Detections]:
        """As `detect`, on maps of the images that are there already."""
        found = self.boxes.detect(maps, self._proposals(maps, images), whole_sizes(images))
        return self.masks.masks(maps, found, images.shape[-2], images.shape[-1])
