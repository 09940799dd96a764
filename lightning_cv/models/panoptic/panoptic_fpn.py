"""Panoptic FPN: Mask R-CNN for things, a semantic branch on the same pyramid for stuff."""

import torch
from torch import Tensor

from lightning_cv.contracts import Backbone, Detections, PanopticParts, PanopticTarget
from lightning_cv.models.detection.mask_rcnn import MaskRCNN
from lightning_cv.models.panoptic.base import DividingNet
from lightning_cv.models.panoptic.semantic_branch import SemanticBranch, SemanticBranchMaker
from lightning_cv.ops.panoptic import HeuristicMerge, PanopticMerge, stuff_mask, things_of


class PanopticFPN(DividingNet):
    """A net that finds things as Mask R-CNN does and gives every other pixel a class of stuff.

    Kirillov et al. 2019, "Panoptic feature pyramid networks". The best weights of the two losses depend on the data
    (their section 4): those here are Detectron2's for COCO. A picture without things trains the semantic branch and the
    background of the regions; one that is void everywhere the latter alone. Differs from Detectron2, which learns
    things from the json of instances: here from the panoptic segments, where hidden pixels are no part of a thing.

    Args:
        instances: learns the things; its number of classes is that of the thing classes.
        num_stuff: stuff classes. The semantic branch has one class more, for all things together.
        semantic: the branch for stuff.
        instance_weight: factor on all terms of the instances.
        semantic_weight: factor on the term of the semantic branch.
        merge: how pixels are shared out; None is `HeuristicMerge()`.
    """

    def __init__(
        self,
        instances: MaskRCNN,
        num_stuff: int,
        semantic: SemanticBranchMaker = SemanticBranch,
        instance_weight: float = 1.0,
        semantic_weight: float = 0.5,
        merge: PanopticMerge | None = None,
    ) -> None:
        super().__init__(instances.num_classes, num_stuff, HeuristicMerge() if merge is None else merge)
        if not (instance_weight >= 0 and semantic_weight >= 0):
            raise ValueError(f"PanopticFPN: weights are at least 0, got {instance_weight} and {semantic_weight}")
        self.instances = instances
        features: Backbone = instances.features  # type: ignore[assignment]  # a Module that also fulfils the Protocol
        self.semantic = semantic(features.out_channels, features.strides, num_stuff + 1)
        self.instance_weight, self.semantic_weight = instance_weight, semantic_weight

    def losses(self, images: Tensor, targets: list[PanopticTarget]) -> dict[str, Tensor]:
        """The five terms of `MaskRCNN`, and `semantic`, see `SemanticBranch.loss`."""
        things = [things_of(target, self.is_thing) for target in targets]
        learned = self.instances.learn(images, things)
        terms = learned.terms | self.instances.masks.losses(learned.maps, learned.samples, learned.objects)
        weighted = {name: self.instance_weight * value for name, value in terms.items()}
        logits = self.semantic(learned.maps, (images.shape[-2], images.shape[-1]))
        masks = torch.stack([stuff_mask(target, self.is_thing) for target in targets])
        return weighted | {"semantic": self.semantic_weight * self.semantic.loss(logits, masks)}

    @torch.no_grad()
    def parts(self, images: Tensor) -> list[PanopticParts]:
        """The detections of each image, and the pixels of each stuff class that the semantic branch sees there."""
        maps: list[Tensor] = self.instances.features(images)
        found = self.instances.detect_on(maps, images)
        probabilities = self.semantic(maps, (images.shape[-2], images.shape[-1])).softmax(dim=1)  # (N, C, H, W)
        return [self._parts(*of_image) for of_image in zip(found, probabilities, strict=True)]

    def _parts(self, found: Detections, probabilities: Tensor) -> PanopticParts:
        """Things, then stuff, whose score is the mean probability of its pixels."""
        best, winner = probabilities.max(dim=0)  # (H, W)
        present = torch.bincount(winner.flatten(), minlength=len(probabilities)).nonzero()[:, 0]
        present = present[present > 0]  # 0 is all things
        masks = winner == present[:, None, None]  # (S, H, W)
        scores = (best * masks).flatten(1).sum(dim=1) / masks.flatten(1).sum(dim=1)
        things, stuff = self.is_thing.nonzero()[:, 0], (~self.is_thing).nonzero()[:, 0]
        return PanopticParts(
            masks=torch.cat([found["masks"], masks]),
            labels=torch.cat([things[found["labels"] - 1], stuff[present - 1]]),
            scores=torch.cat([found["scores"], scores]),
            is_thing=torch.arange(len(found["labels"]) + len(present), device=masks.device) < len(found["labels"]),
            boxes=torch.cat([found["boxes"], found["boxes"].new_zeros(len(present), 4)]),
        )
