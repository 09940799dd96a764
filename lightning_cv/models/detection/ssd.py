"""Single-shot detection on a feature pyramid.

Letters: N images, L maps of the pyramid, A anchors of all maps together, S anchors a cell, K classes, G objects.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lightning_cv.contracts import Backbone, Candidates, Detections, DetectionTarget
from lightning_cv.models.backbones.fpn import FPN
from lightning_cv.ops.anchors import anchor_shapes, grid_anchors
from lightning_cv.ops.box_losses import BoxLoss, SmoothL1Loss
from lightning_cv.ops.boxes import DELTA_SCALE, clip_boxes, decode_deltas, encode_deltas, iou
from lightning_cv.ops.detection_losses import AnchorTargets, ssd_losses
from lightning_cv.ops.matching import NO_MATCH, match_ssd
from lightning_cv.ops.nms import class_wise_nms


class SSD(nn.Module):
    """A detector that scores and shifts a fixed set of anchors in one pass.

    Liu et al. 2016: bipartite matching then every overlap of 0.5, softmax over K + 1 with hard negative mining 3 to 1,
    smooth L1 on deltas, one 3x3 convolution for each of the two. Differs from the paper: the maps come from any
    backbone through a feature pyramid (Lin et al. 2017), all maps share the two convolutions (as in RetinaNet, Lin et
    al. 2017b, so that a class is learned from objects of every size at once), and an anchor's size is a multiple of
    its map's stride.

    Args:
        backbone: gives the maps; it normalises its input itself.
        num_classes: K, background not counted.
        channels: of every map of the pyramid.
        extra_levels: stride-2 maps after the backbone's coarsest.
        scales: anchor sizes (square root of the area) in strides of the map. Around 3 or more, several cells' anchors
            overlap an object by half, which speeds up learning.
        ratios: width by height of the anchors.
        delta_scale: see `encode_deltas`.
        match_threshold: overlap from which an anchor answers for an object that is not its bipartite match.
        negative_ratio: mined background anchors to a positive one.
        min_negatives: least number of mined background anchors an image; at 0, as in the paper's code, an image
            without objects teaches nothing.
        train_on_difficult: take VOC's difficult objects for objects, as the paper does; otherwise they are background.
        score_threshold: a detection's least score.
        nms_threshold: overlap above which the weaker of two detections of a class goes.
        top_before: candidates a class before, `top_after` detections an image after thinning.
        box_loss: of the positive anchors, between deltas or boxes as it says; None is the paper's `SmoothL1Loss()`.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        channels: int = 128,
        extra_levels: int = 3,
        scales: Sequence[float] = (2.5, 3.5),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        delta_scale: tuple[float, float, float, float] = DELTA_SCALE,
        match_threshold: float = 0.5,
        negative_ratio: float = 3.0,
        min_negatives: int = 0,
        train_on_difficult: bool = True,
        score_threshold: float = 0.01,
        nms_threshold: float = 0.45,
        top_before: int = 400,
        top_after: int = 200,
        box_loss: BoxLoss | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"SSD: num_classes counts the classes beside background, at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.pyramid = FPN(backbone, channels, extra_levels)
        self.scales, self.ratios, self.delta_scale = tuple(scales), tuple(ratios), delta_scale
        self.match_threshold, self.train_on_difficult = match_threshold, train_on_difficult
        self.negative_ratio, self.min_negatives = negative_ratio, min_negatives
        self.score_threshold, self.nms_threshold = score_threshold, nms_threshold
        self.top_before, self.top_after = top_before, top_after
        self.box_loss = SmoothL1Loss() if box_loss is None else box_loss
        per_cell = len(self.scales) * len(self.ratios)
        self.class_head = _head(channels, per_cell * (num_classes + 1))
        self.box_head = _head(channels, per_cell * 4)

    def forward(self, images: Tensor, /) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, A, K + 1), background first, deltas (N, A, 4) and the anchors (A, 4) they belong to."""
        logits, deltas, anchors = [], [], []
        for x, stride in zip(self.pyramid(images), self.pyramid.strides, strict=True):
            logits.append(_by_anchor(self.class_head(x), self.num_classes + 1))
            deltas.append(_by_anchor(self.box_head(x), 4))
            shapes = anchor_shapes([scale * stride for scale in self.scales], self.ratios).to(x.device)
            anchors.append(grid_anchors(x.shape[-2], x.shape[-1], stride, shapes))
        return torch.cat(logits, dim=1), torch.cat(deltas, dim=1), torch.cat(anchors)

    def losses(self, images: Tensor, targets: list[DetectionTarget]) -> dict[str, Tensor]:
        """Scalars `class` and `box` a positive anchor, see `ssd_losses`."""
        logits, deltas, anchors = self(images)
        wanted = self.assign(anchors, targets)
        if not self.box_loss.of_deltas:
            deltas = decode_deltas(deltas, anchors, self.delta_scale)
            wanted = wanted._replace(deltas=decode_deltas(wanted.deltas, anchors, self.delta_scale))
        return ssd_losses(logits, deltas, wanted, self.negative_ratio, self.min_negatives, self.box_loss)

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
        boxes, scores = self.candidates(images)
        return [
            class_wise_nms(
                image_boxes,
                image_scores,
                score_threshold=self.score_threshold,
                iou_threshold=self.nms_threshold,
                top_before=self.top_before,
                top_after=self.top_after,
            )
            for image_boxes, image_scores in zip(boxes, scores, strict=True)
        ]

    @torch.no_grad()
    def candidates(self, images: Tensor) -> Candidates:
        """The box of every anchor, cut to the image, and its probability of each class, before NMS."""
        logits, deltas, anchors = self(images)
        scores = logits.float().softmax(dim=-1)[..., 1:]  # (N, A, K)
        boxes = decode_deltas(deltas, anchors, self.delta_scale)
        return Candidates(clip_boxes(boxes, images.shape[-2], images.shape[-1]), scores)


def _head(channels: int, outputs: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, outputs, 3, 1, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, 0.0)  # type: ignore[arg-type]  # bias=True gives a tensor
    return conv


def _by_anchor(predictions: Tensor, values: int) -> Tensor:
    """Predictions (N, S * values, H, W) of a map, one row an anchor: (N, H*W*S, values)."""
    return predictions.permute(0, 2, 3, 1).reshape(predictions.shape[0], -1, values)
