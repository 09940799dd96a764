"""Detection as pairs of corners. Letters: N images, K classes, H, W cells of the map, P pairs of corners."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.contracts import Candidates, Detections, DetectionTarget
from lightning_cv.models.backbones.hourglass import ConvNorm, StackedHourglass
from lightning_cv.ops.boxes import clip_boxes, mirror_boxes
from lightning_cv.ops.corners import (
    CornerMaps,
    CornerPairs,
    CornerTargets,
    Edge,
    corner_losses,
    corner_targets,
    pair_corners,
    pool_towards,
)
from lightning_cv.ops.nms import gaussian_decay, soft_nms

HEAT_BIAS = -2.19
"""Logit of a corner's probability of 0.1, with which training starts (Law and Deng 2018, released code)."""


class CornerPool(nn.Module):
    """Running maximum towards one image edge, same shape as the input.

    Law and Deng 2018, section 3.4. Differs from the paper: one direction a module, adding two of them is the caller's.
    """

    def __init__(self, edge: Edge) -> None:
        super().__init__()
        self.edge = edge

    def forward(self, x: Tensor) -> Tensor:
        """The pooled map of (N, C, H, W)."""
        return pool_towards(x, self.edge)


class CornerHead(nn.Module):
    """Heat, tags and offsets of one kind of corner, from two pools that look along the box's edges.

    Law and Deng 2018, figure 7: a residual block whose first convolution is replaced by corner pooling.
    """

    def __init__(self, channels: int, edges: tuple[Edge, Edge], num_classes: int, hidden: int) -> None:
        super().__init__()
        pooled = channels // 2
        self.pools = nn.ModuleList(nn.Sequential(ConvNorm(channels, pooled), CornerPool(edge)) for edge in edges)
        self.merge = ConvNorm(pooled, channels, relu=False)
        self.skip = ConvNorm(channels, channels, 1, relu=False)
        self.last = ConvNorm(channels, channels)
        self.heat = _predict(channels, hidden, num_classes, bias=HEAT_BIAS)
        self.tags, self.offsets = _predict(channels, hidden, 1), _predict(channels, hidden, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, K, H, W), tags (N, H, W) and offsets (N, 2, H, W)."""
        pooled = self.pools[0](x) + self.pools[1](x)
        x = self.last(F.relu(self.merge(pooled) + self.skip(x)))
        return self.heat(x), self.tags(x)[:, 0], self.offsets(x)


class CornerNet(nn.Module):
    """A detector that finds top-left and bottom-right corners and pairs those whose tags agree.

    Law and Deng 2018, "CornerNet: detecting objects as paired keypoints". Differs from the released code: a cell is
    exactly 4 pixels (there 511/128); tags are averaged over the images of a batch (see `pull_and_push`); a box is
    wider and higher than 0 and cut to the image; soft-NMS takes the far edge as exclusive.

    Args:
        backbone: a map for each stack, all of which are trained on; the last one detects.
        num_classes: K, background not counted.
        hidden: channels of each prediction's 3x3 convolution, 256 in the paper.
        min_overlap: see `corner_radius`.
        embedding_weight: of pull and push.
        top: corners of each kind that are paired.
        tag_distance: at most so far apart are the tags of a pair.
        pairs: candidates an image.
        flip_test: look at the mirrored image too, and thin the pairs of both together.
        nms_sigma: of the Gaussian soft-NMS, see `gaussian_decay`.
        score_threshold: a detection's least score.
        top_after: detections an image.
    """

    def __init__(
        self,
        backbone: StackedHourglass,
        num_classes: int,
        hidden: int = 256,
        min_overlap: float = 0.3,
        embedding_weight: float = 0.1,
        top: int = 100,
        tag_distance: float = 0.5,
        pairs: int = 1000,
        flip_test: bool = False,
        nms_sigma: float = 0.5,
        score_threshold: float = 0.001,
        top_after: int = 100,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"CornerNet: num_classes counts the classes beside background, at least 1: {num_classes}")
        if not 0 < min_overlap < 1:
            raise ValueError(f"CornerNet: min_overlap lies between 0 and 1, got {min_overlap}")
        self.backbone, self.num_classes = backbone, num_classes
        self.min_overlap, self.embedding_weight = min_overlap, embedding_weight
        self.top, self.tag_distance, self.pairs, self.flip_test = top, tag_distance, pairs, flip_test
        self.nms_sigma, self.score_threshold, self.top_after = nms_sigma, score_threshold, top_after
        channels, stacks = backbone.out_channels, len(backbone.hourglasses)
        kinds: tuple[tuple[Edge, Edge], ...] = (("top", "left"), ("bottom", "right"))
        self.first, self.second = (
            nn.ModuleList(CornerHead(channels, edges, num_classes, hidden) for _ in range(stacks)) for edges in kinds
        )

    def forward(self, images: Tensor, /) -> list[CornerMaps]:
        """What each stack says of images (N, 3, H, W)."""
        return [self._maps(stack, x) for stack, x in enumerate(self.backbone(images))]

    def losses(self, images: Tensor, targets: list[DetectionTarget]) -> dict[str, Tensor]:
        """Scalars `heat`, `pull`, `push` and `offset`, averaged over the stacks, see `corner_losses`."""
        maps = self(images)
        wanted = self.assign(targets, *maps[0].heat.shape[-2:])
        terms = [corner_losses(one, wanted, self.embedding_weight) for one in maps]
        return {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}

    @torch.no_grad()
    def assign(self, targets: list[DetectionTarget], height: int, width: int) -> CornerTargets:
        """What maps of this size should say; crowds are no objects, difficult objects are (COCO has none)."""
        real = [~target["crowd"] if "crowd" in target else slice(None) for target in targets]
        return corner_targets(
            [target["boxes"][mask] for target, mask in zip(targets, real, strict=True)],
            [target["labels"][mask] for target, mask in zip(targets, real, strict=True)],
            self.num_classes,
            height,
            width,
            self.backbone.stride,
            self.min_overlap,
        )

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """Detections of each image, cut to it, best score first."""
        found = self._pairs(images)
        decay = gaussian_decay(self.nms_sigma)
        return [
            soft_nms(boxes, scores, labels, decay, score_threshold=self.score_threshold, top_after=self.top_after)
            for boxes, scores, labels in zip(*found, strict=True)
        ]

    @torch.no_grad()
    def candidates(self, images: Tensor) -> Candidates:
        """The pairs before soft-NMS: each counts for one class."""
        boxes, scores, labels = self._pairs(images)
        return Candidates(boxes, F.one_hot(labels - 1, self.num_classes) * scores[..., None])

    def _maps(self, stack: int, x: Tensor) -> CornerMaps:
        kinds = (self.first[stack](x), self.second[stack](x))
        return CornerMaps(*(torch.stack(both) for both in zip(*kinds, strict=True)))

    def _pairs(self, images: Tensor) -> CornerPairs:
        """Pairs with boxes in pixels."""
        found = self._pairs_once(images)
        if not self.flip_test:
            return found
        mirrored = self._pairs_once(images.flip(-1))
        mirrored = mirrored._replace(boxes=mirror_boxes(mirrored.boxes, images.shape[-1]))
        both: Sequence[tuple[Tensor, Tensor]] = list(zip(found, mirrored, strict=True))
        return CornerPairs(*(torch.cat(pair, dim=1) for pair in both))

    def _pairs_once(self, images: Tensor) -> CornerPairs:
        maps = self._maps(-1, self.backbone(images)[-1])
        found = pair_corners(maps, self.top, self.tag_distance, self.pairs)
        return found._replace(boxes=clip_boxes(found.boxes * self.backbone.stride, images.shape[-2], images.shape[-1]))


def _predict(channels: int, hidden: int, out: int, bias: float | None = None) -> nn.Sequential:
    """A prediction of every cell: 3x3 convolution with bias, ReLU, 1x1 convolution, whose bias may be given."""
    last = nn.Conv2d(hidden, out, 1)
    if bias is not None:
        nn.init.constant_(last.bias, bias)  # type: ignore[arg-type]  # bias=True gives a tensor
    return nn.Sequential(nn.Conv2d(channels, hidden, 3, 1, 1), nn.ReLU(inplace=True), last)
