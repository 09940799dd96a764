"""What a two-stage net says of each region: its class, its exact box, and its mask.

Letters: N images, R regions of all images, K classes, G objects of an image, M side of a predicted mask.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.contracts import Detections
from lightning_cv.models.detection.delta_spread import DeltaSpread
from lightning_cv.models.detection.objects import Objects
from lightning_cv.models.detection.region_features import (
    RegionHeadMaker,
    RegionReader,
    RoIAlign,
    RoIPool,
    TwoLinearHead,
)
from lightning_cv.ops.box_losses import SmoothL1Loss
from lightning_cv.ops.boxes import DELTA_SCALE, PLAIN_SCALE, clip_boxes, decode_deltas, encode_deltas, iou
from lightning_cv.ops.masks import mask_targets, paste_masks, paste_masks_in_whole_pixels
from lightning_cv.ops.matching import NO_MATCH, match_regions
from lightning_cv.ops.nms import class_wise_nms
from lightning_cv.ops.sampling import balanced_sample

MIN_SIDE = 0.01
"""A detection with a shorter side, in pixels, is none."""


class Samples(NamedTuple):
    """The regions of an image that a step learns from, positives first."""

    boxes: Tensor  # (R_i, 4)
    owners: Tensor  # int64 (R_i,): the object's index, or NO_MATCH
    labels: Tensor  # int64 (R_i,), 0 for background


class BoxBranch(nn.Module):
    """Class and box of each region: the second stage of Fast, Faster and Mask R-CNN.

    Girshick 2015, sections 2.1 to 2.3: K + 1 classes by softmax, background first, and four deltas a class. The
    defaults are those of Fast R-CNN's released code.

    Args:
        channels, strides: of the maps, finest first; those that are read have the same channels.
        num_classes: K, background not counted.
        reader: takes a region off the maps; None is `RoIPool()`.
        head: makes a vector of it.
        samples: regions an image that count, of which at most `positive_share` are positive.
        positive, background: overlaps of regions that count, see `match_regions`. Background from 0.1 is Fast R-CNN's;
            Faster R-CNN's begins at 0.
        add_objects: in training, the objects themselves are regions, too.
        delta_scale: spread of the deltas, by which they are divided.
        measured: training steps in which mean and spread of each class are measured instead, see `DeltaSpread`.
        beta: see `SmoothL1Loss`.
        score_threshold: a detection's least score.
        nms_threshold: overlap above which the weaker of two detections of a class goes.
        top_after: detections an image.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        reader: RegionReader | None = None,
        head: RegionHeadMaker = TwoLinearHead,
        samples: int = 64,
        positive_share: float = 0.25,
        positive: float = 0.5,
        background: tuple[float, float] = (0.1, 0.5),
        add_objects: bool = True,
        delta_scale: tuple[float, float, float, float] = DELTA_SCALE,
        measured: int = 0,
        beta: float = 1.0,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.3,
        top_after: int = 100,
    ) -> None:
        super().__init__()
        self.num_classes, self.strides = num_classes, list(strides)
        self.reader = RoIPool() if reader is None else reader
        self.head = head(_read_channels(channels, self.reader), self.reader.size)
        self.samples, self.positive_share, self.add_objects = samples, positive_share, add_objects
        self.positive, self.background = positive, background
        self.spread, self.box_loss = DeltaSpread(num_classes, delta_scale, measured), SmoothL1Loss(beta)
        self.score_threshold, self.nms_threshold, self.top_after = score_threshold, nms_threshold, top_after
        self.classifier = nn.Linear(self.head.out_features, num_classes + 1)
        self.deltas = nn.Linear(self.head.out_features, 4 * num_classes)
        for layer, spread in ((self.classifier, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], /) -> tuple[Tensor, Tensor]:
        """Logits (R, K + 1) and deltas (R, K, 4) of the boxes (R_i, 4) of each image."""
        x = self.head(self.reader(maps, self.strides, boxes))
        return self.classifier(x).float(), self.deltas(x).float().view(-1, self.num_classes, 4)

    @torch.no_grad()
    def sample(self, proposals: Sequence[Tensor], objects: Sequence[Objects]) -> list[Samples]:
        """The regions of each image that count, drawn by chance from its proposals (P, 4)."""
        chosen = []
        for boxes, image in zip(proposals, objects, strict=True):
            if self.add_objects:
                boxes = torch.cat([boxes, image.boxes])
            match = match_regions(iou(image.boxes, boxes), self.positive, self.background)
            rows = balanced_sample(match, self.samples, self.positive_share)
            labels = F.pad(image.labels, (1, 0))[(match[rows] - NO_MATCH)]  # in front stands the background
            chosen.append(Samples(boxes[rows], match[rows], labels))
        return chosen

    def losses(
        self, maps: Sequence[Tensor], samples: Sequence[Samples], objects: Sequence[Objects]
    ) -> dict[str, Tensor]:
        """Scalars `classifier` and `box`, each divided by the number of regions that count (at least 1).

        Girshick 2015, equation 1, lambda 1.
        """
        logits, deltas = self(maps, [sample.boxes for sample in samples])
        labels = torch.cat([sample.labels for sample in samples])  # (R,)
        boxes = torch.cat([sample.boxes for sample in samples])
        own = torch.cat(
            [image.boxes[sample.owners[sample.owners >= 0]] for image, sample in zip(objects, samples, strict=True)]
        )
        positives = (labels > 0).nonzero()[:, 0]
        with torch.autocast(logits.device.type, enabled=False):
            exact = encode_deltas(own, boxes[positives], PLAIN_SCALE)
            if self.training:
                self.spread.measure(exact, labels[positives])
            wanted = self.spread.normalise(exact, labels[positives])
            distance = self.box_loss(deltas[positives, labels[positives] - 1], wanted)
            entropy = F.cross_entropy(logits, labels, reduction="sum")
            count = max(len(labels), 1)
            # every prediction is touched, so that a batch without objects leaves no parameter without a gradient
            return {"classifier": entropy / count, "box": (distance + 0 * deltas.sum()) / count}

    @torch.no_grad()
    def detect(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """Detections of each image among its proposals (P, 4), cut to the size (H, W), best score first."""
        logits, deltas = self(maps, proposals)
        counts = [len(boxes) for boxes in proposals]
        scores = logits.softmax(dim=-1)[:, 1:]  # (R, K)
        anchors = torch.cat(list(proposals))[:, None].expand(-1, self.num_classes, 4)
        boxes = decode_deltas(self.spread.restore(deltas), anchors, PLAIN_SCALE)  # (R, K, 4)
        found = []
        for box, score, (height, width) in zip(
            torch.split(boxes, counts), torch.split(scores, counts), sizes, strict=True
        ):
            box = clip_boxes(box, height, width)  # (P, K, 4)
            large = (box[..., 2:] - box[..., :2] >= MIN_SIDE).all(dim=-1)
            found.append(
                class_wise_nms(
                    box,
                    score * large,
                    score_threshold=self.score_threshold,
                    iou_threshold=self.nms_threshold,
                    top_before=len(score),
                    top_after=self.top_after,
                )
            )
        return found


BoxBranchMaker = Callable[[Sequence[int], Sequence[int], int], BoxBranch]
"""Builds one from the maps' channels and strides and K: a class, or a class path with its other arguments."""


class MaskBranch(nn.Module):
    """The mask of each region, K of them of M x M cells: 3x3 convolutions, one upsampling by 2, one 1x1 convolution.

    He et al. 2017, "Mask R-CNN", section 3 and figure 4, right: M is 28. Each class has its own mask, by sigmoid, so
    that masks do not compete with classes.

    Args:
        channels, strides, num_classes: as for `BoxBranch`.
        reader: takes a region off the maps; None is `RoIAlign(14)`. M is twice its size.
        width: channels of the convolutions.
        convolutions: how many come before the upsampling.
        threshold: probability from which a pixel belongs to the object.
        whole_pixels: count pixels as torchvision does, for its weights; see `mask_targets` and
            `paste_masks_in_whole_pixels`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        reader: RegionReader | None = None,
        width: int = 256,
        convolutions: int = 4,
        threshold: float = 0.5,
        whole_pixels: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes, self.strides = num_classes, list(strides)
        self.threshold, self.whole_pixels = threshold, whole_pixels
        self.reader = RoIAlign(14) if reader is None else reader
        inputs = [_read_channels(channels, self.reader)] + [width] * convolutions
        self.convs = nn.ModuleList(nn.Conv2d(before, width, 3, padding=1) for before in inputs[:-1])
        self.upsample = nn.ConvTranspose2d(inputs[-1], width, 2, 2)
        self.logits = nn.Conv2d(width, num_classes, 1)
        for layer in (*self.convs, self.upsample, self.logits):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], /) -> Tensor:
        """Logits (R, K, M, M) of the boxes (R_i, 4) of each image."""
        x = self.reader(maps, self.strides, boxes)
        for conv in self.convs:
            x = F.relu(conv(x))
        out: Tensor = self.logits(F.relu(self.upsample(x)))
        return out.float()

    def losses(
        self, maps: Sequence[Tensor], samples: Sequence[Samples], objects: Sequence[Objects]
    ) -> dict[str, Tensor]:
        """Scalar `mask`: binary cross entropy of the positive regions' own class, mean over regions and cells."""
        for image in objects:
            if image.masks is None:
                raise ValueError(
                    f"image {image.image_id}: a net of masks learns from objects with masks: data.with_masks"
                )
        positives = [sample.owners >= 0 for sample in samples]
        boxes = [sample.boxes[rows] for sample, rows in zip(samples, positives, strict=True)]
        labels = torch.cat([sample.labels[rows] for sample, rows in zip(samples, positives, strict=True)])  # (R,)
        logits = self(maps, boxes)
        with torch.autocast(logits.device.type, enabled=False):
            wanted = [
                mask_targets(image.masks, sample.owners[rows], box, logits.shape[-1], aligned=not self.whole_pixels)
                for image, sample, rows, box in zip(objects, samples, positives, boxes, strict=True)
                if image.masks is not None
            ]
            own = logits[torch.arange(len(labels), device=labels.device), labels - 1]  # (R, M, M)
            entropy = F.binary_cross_entropy_with_logits(own, torch.cat(wanted), reduction="sum")
            return {"mask": (entropy + 0 * logits.sum()) / max(own.numel(), 1)}

    @torch.no_grad()
    def masks(self, maps: Sequence[Tensor], found: Sequence[Detections], height: int, width: int) -> list[Detections]:
        """The detections with their masks, of the images' height and width."""
        logits = self(maps, [one["boxes"] for one in found])
        labels = torch.cat([one["labels"] for one in found])
        squares = logits[torch.arange(len(labels), device=labels.device), labels - 1].sigmoid()  # (R, M, M)
        paste = paste_masks_in_whole_pixels if self.whole_pixels else paste_masks
        parts = torch.split(squares, [len(one["labels"]) for one in found])
        return [
            {**one, "masks": paste(part, one["boxes"], height, width, self.threshold)}
            for one, part in zip(found, parts, strict=True)
        ]


MaskBranchMaker = Callable[[Sequence[int], Sequence[int], int], MaskBranch]
"""Builds one as `BoxBranchMaker` does."""


def _read_channels(channels: Sequence[int], reader: RegionReader) -> int:
    """The channels of the maps that are read, one number for all."""
    read = list(channels)[: reader.maps]
    if len(set(read)) != 1:
        raise ValueError(f"{type(reader).__name__}: maps that are read need the same channels, got {read}")
    return read[0]
