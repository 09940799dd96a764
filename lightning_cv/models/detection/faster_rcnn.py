"""Faster R-CNN: a region proposal network and Fast R-CNN on the same maps."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from lightning_cv.contracts import Backbone, Detections, DetectionTarget
from lightning_cv.models.detection.objects import Objects, objects_of, whole_sizes
from lightning_cv.models.detection.parts import InParts
from lightning_cv.models.detection.roi_heads import BoxBranch, BoxBranchMaker, Samples
from lightning_cv.models.detection.rpn import RPN, RPNMaker

PARTS = ("features", "rpn", "boxes")


class Learned(NamedTuple):
    """What a pass over a training batch gives."""

    terms: dict[str, Tensor]
    maps: list[Tensor]
    samples: list[Samples]
    objects: list[Objects]


class FasterRCNN(InParts):
    """A detector in two stages: regions of interest, then their classes and exact boxes.

    Ren et al. 2015, "Faster R-CNN", approximate joint training by default; on the maps of an `FPN`, Lin et al. 2017.
    `trained` and `weights` are for the paper's alternating training (section 3.2): see
    `experiments/detection/faster_rcnn_step*.yaml`.

    Args:
        features: gives the maps, finest first; it normalises its input itself. In the paper VGG-16's conv5_3.
        num_classes: K, background not counted.
        rpn: the first stage; its defaults are the paper's.
        boxes: the second stage, whose defaults are Fast R-CNN's: the paper has `samples: 128, background: [0, 0.5]`.
        train_on_difficult: take VOC's difficult objects for objects; otherwise they are background.
        trained: of "features", "rpn" and "boxes", which are trained; the others keep their weights, and a stage that is
            not trained has no loss.
        weights: a checkpoint of a net with such parts to begin from.
        weights_of: which parts are taken from it, or what of a part that is trained, such as "boxes.head"; None is all.
            Where they are named, and not all are trained, training without a checkpoint is refused.
    """

    parts = PARTS

    def __init__(
        self,
        features: Backbone,
        num_classes: int,
        rpn: RPNMaker = RPN,
        boxes: BoxBranchMaker = BoxBranch,
        train_on_difficult: bool = True,
        trained: tuple[str, ...] = PARTS,
        weights: str | None = None,
        weights_of: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(
                f"{type(self).__name__}: num_classes counts the classes beside background, got {num_classes}"
            )
        self.num_classes, self.train_on_difficult = num_classes, train_on_difficult
        self.features = cast(nn.Module, features)
        self.rpn = rpn(features.out_channels, features.strides)
        self.boxes = boxes(features.out_channels, features.strides, num_classes)
        self.begin_parts(trained, weights, weights_of)

    def losses(self, images: Tensor, targets: list[DetectionTarget]) -> dict[str, Tensor]:
        """Scalars `rpn_objectness`, `rpn_box`, `classifier` and `box`, see `RPN.losses` and `BoxBranch.losses`."""
        return self.learn(images, targets).terms

    def learn(self, images: Tensor, targets: list[DetectionTarget]) -> Learned:
        """The loss terms of the stages that are trained, and what another branch learns from the same regions by."""
        objects = [objects_of(target, images, self.train_on_difficult) for target in targets]
        maps: list[Tensor] = self.features(images)
        regions = self.rpn(maps)
        terms = self.rpn.losses(regions, objects) if "rpn" in self.trained else {}
        if "boxes" not in self.trained:
            return Learned(terms, maps, [], objects)
        found = self.rpn.proposals(regions, [image.size for image in objects], training=True)
        samples = self.boxes.sample([boxes for boxes, _ in found], objects)
        return Learned(terms | self.boxes.losses(maps, samples, objects), maps, samples, objects)

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """Detections of each image, cut to it, best score first."""
        return self.detect_in(images, whole_sizes(images))

    @torch.no_grad()
    def detect_in(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """As `detect`, in the upper left (H, W) of each image, the rest being padding."""
        maps: list[Tensor] = self.features(images)
        return self.boxes.detect(maps, self.propose_from(maps, sizes, training=False), sizes)

    @torch.no_grad()
    def propose(
        self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None, training: bool = False
    ) -> list[Tensor]:
        """The first stage's boxes (P, 4) of each image, best first.

        Args:
            images: the batch (N, 3, H, W).
            sizes: height and width of the picture in each, to which boxes are cut; None for all of it.
            training: as many as a second stage is trained on, see `RPN.top_after`, not as many as are looked at in use.
        """
        return self.propose_from(self.features(images), whole_sizes(images) if sizes is None else sizes, training)

    @torch.no_grad()
    def propose_from(self, maps: list[Tensor], sizes: Sequence[tuple[int, int]], training: bool) -> list[Tensor]:
        """As `propose`, from what `features` made of the images."""
        return [boxes for boxes, _ in self.rpn.proposals(self.rpn(maps), sizes, training)]
