"""Single-shot detection on the maps of any source.

Letters: N images, A anchors of all maps together, S anchors a cell, K classes, G objects.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lightning_cv.contracts import Backbone, Candidates, Detections, DetectionTarget
from lightning_cv.models.detection.ssd_heads import HeadMaker, HeadPerMap
from lightning_cv.ops.anchors import AnchorSet, StrideAnchors
from lightning_cv.ops.box_losses import BoxLoss, SmoothL1Loss
from lightning_cv.ops.boxes import DELTA_SCALE, clip_boxes, decode_deltas, encode_deltas, iou
from lightning_cv.ops.detection_losses import AnchorTargets, ClassLoss, MinedCrossEntropy, ssd_losses
from lightning_cv.ops.matching import NO_MATCH, match_ssd
from lightning_cv.ops.nms import class_wise_nms_of_batch


class SSD(nn.Module):
    """A detector that scores and shifts a fixed set of anchors in one pass.

    Liu et al. 2016: bipartite matching then every overlap of 0.5, softmax over K + 1 with hard negative mining 3 to 1,
    smooth L1 on deltas. Maps, anchors, heads and losses are arguments: `SSD300` and `SSD512` put the paper's together;
    an `FPN` as features with a `SharedHead` and `StrideAnchors` is the pyramid variant (Lin et al. 2017), with
    `SigmoidFocal` nearly a RetinaNet.

    Args:
        features: gives the maps, finest first; it normalises its input itself.
        num_classes: K, background not counted.
        anchors: None is `StrideAnchors()`.
        head: makes the two heads, of classes and of boxes.
        class_loss: also says what the class head's outputs mean; None is the paper's `MinedCrossEntropy()`.
        box_loss: of the positive anchors, between deltas or boxes as it says; None is the paper's `SmoothL1Loss()`.
        delta_scale: see `encode_deltas`.
        match_threshold: overlap from which an anchor answers for an object that is not its bipartite match.
        train_on_difficult: take VOC's difficult objects for objects, as the paper does; otherwise they are background.
        score_threshold: a detection's least score.
        nms_threshold: overlap above which the weaker of two detections of a class goes.
        top_before: candidates a class before, `top_after` detections an image after thinning.
    """

    def __init__(
        self,
        features: Backbone,
        num_classes: int,
        anchors: AnchorSet | None = None,
        head: HeadMaker = HeadPerMap,
        class_loss: ClassLoss | None = None,
        box_loss: BoxLoss | None = None,
        delta_scale: tuple[float, float, float, float] = DELTA_SCALE,
        match_threshold: float = 0.5,
        train_on_difficult: bool = True,
        score_threshold: float = 0.01,
        nms_threshold: float = 0.45,
        top_before: int = 400,
        top_after: int = 200,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"SSD: num_classes counts the classes beside background, at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.features = cast(nn.Module, features)
        self.strides = list(features.strides)
        self.anchors = StrideAnchors() if anchors is None else anchors
        self.class_loss = MinedCrossEntropy() if class_loss is None else class_loss
        self.box_loss = SmoothL1Loss() if box_loss is None else box_loss
        self.delta_scale, self.match_threshold = delta_scale, match_threshold
        self.train_on_difficult = train_on_difficult
        self.score_threshold, self.nms_threshold = score_threshold, nms_threshold
        self.top_before, self.top_after = top_before, top_after
        per_cell = [len(shapes) for shapes in self.anchors.shapes(self.strides)]
        self._outputs = self.class_loss.outputs(num_classes)
        self.class_head = head(features.out_channels, [count * self._outputs for count in per_cell])
        self.class_head.start_from(self.class_loss.initial_bias)
        self.box_head = head(features.out_channels, [count * 4 for count in per_cell])

    def forward(self, images: Tensor, /) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, A, outputs of the class loss), deltas (N, A, 4) and the anchors (A, 4) they belong to."""
        maps = self.features(images)
        logits = torch.cat([_by_anchor(x, self._outputs) for x in self.class_head(maps)], dim=1)
        deltas = torch.cat([_by_anchor(x, 4) for x in self.box_head(maps)], dim=1)
        anchors = self.anchors([(x.shape[-2], x.shape[-1]) for x in maps], self.strides)
        return logits, deltas, anchors.to(deltas.device)

    def losses(self, images: Tensor, targets: list[DetectionTarget]) -> dict[str, Tensor]:
        """Scalars `class` and `box` a positive anchor, see `ssd_losses`."""
        logits, deltas, anchors = self(images)
        wanted = self.assign(anchors, targets)
        if not self.box_loss.of_deltas:
            deltas = decode_deltas(deltas, anchors, self.delta_scale)
            wanted = wanted._replace(deltas=decode_deltas(wanted.deltas, anchors, self.delta_scale))
        return ssd_losses(logits, deltas, wanted, self.class_loss, self.box_loss)

    @torch.no_grad()
    def assign(self, anchors: Tensor, targets: list[DetectionTarget]) -> AnchorTargets:
        """What each anchor (A, 4) should say in each image."""
        boxes, names = [], []
        for target in targets:
            wanted = torch.ones_like(target["difficult"]) if self.train_on_difficult else ~target["difficult"]
            if "crowd" in target:
                wanted = wanted & ~target["crowd"]  # a region of many objects is none
            boxes.append(target["boxes"][wanted])
            names.append(target["labels"][wanted])
        padded_boxes = pad_sequence(boxes, batch_first=True)  # (N, G, 4)
        padded_names = pad_sequence(names, batch_first=True)  # (N, G)
        overlaps = iou(padded_boxes.flatten(0, 1), anchors).view(*padded_names.shape, len(anchors))  # (N, G, A)
        match = match_ssd(overlaps, self.match_threshold)  # (N, A)
        # column 0 stands for "no object": background, and a box that no loss looks at
        nothing = anchors.new_tensor([0.0, 0.0, 1.0, 1.0]).expand(len(targets), 1, 4)
        padded_boxes = torch.cat([nothing, padded_boxes], dim=1)
        padded_names = F.pad(padded_names, (1, 0))
        own_box = padded_boxes.gather(1, (match - NO_MATCH)[..., None].expand(-1, -1, 4))  # (N, A, 4)
        return AnchorTargets(
            labels=padded_names.gather(1, match - NO_MATCH), deltas=encode_deltas(own_box, anchors, self.delta_scale)
        )

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """Detections of each image, cut to it, best score first."""
        return class_wise_nms_of_batch(
            self.candidates(images),
            score_threshold=self.score_threshold,
            iou_threshold=self.nms_threshold,
            top_before=self.top_before,
            top_after=self.top_after,
        )

    @torch.no_grad()
    def candidates(self, images: Tensor) -> Candidates:
        """The box of every anchor, cut to the image, and its probability of each class, before NMS."""
        logits, deltas, anchors = self(images)
        scores = self.class_loss.scores(logits)  # (N, A, K)
        boxes = decode_deltas(deltas, anchors, self.delta_scale)
        return Candidates(clip_boxes(boxes, images.shape[-2], images.shape[-1]), scores)


def _by_anchor(predictions: Tensor, values: int) -> Tensor:
    """Predictions (N, S * values, H, W) of a map, one row an anchor: (N, H*W*S, values)."""
    return predictions.permute(0, 2, 3, 1).reshape(predictions.shape[0], -1, values)
