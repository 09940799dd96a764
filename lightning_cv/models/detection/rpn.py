"""Region proposal network: which anchors hold an object of whatever class, and where exactly.

Letters: N images, L maps, A anchors of all maps together, S anchors a cell, G objects and P proposals of an image.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms

from lightning_cv.models.detection.objects import Objects
from lightning_cv.ops.anchors import AnchorSet, RegionAnchors
from lightning_cv.ops.box_losses import SmoothL1Loss
from lightning_cv.ops.boxes import PLAIN_SCALE, clip_boxes, decode_deltas, encode_deltas, iou
from lightning_cv.ops.matching import IGNORED, match_rpn
from lightning_cv.ops.sampling import balanced_sample


class Regions(NamedTuple):
    """What the net says of the anchors of each map, finest first: one entry a map in every list."""

    logits: list[Tensor]  # (N, A_l): whether there is an object
    deltas: list[Tensor]  # (N, A_l, 4)
    anchors: list[Tensor]  # (A_l, 4)


class RPN(nn.Module):
    """A 3x3 convolution over every map, and from it an objectness and four deltas an anchor.

    Ren et al. 2015, "Faster R-CNN", section 3.1, with the constants of their code. On the maps of an FPN all share the
    same layers (Lin et al. 2017, section 4.1). No gradient goes through the proposals' coordinates, as in the paper's
    approximate joint training.

    Args:
        channels, strides: of the maps, finest first; all have the same channels.
        anchors: None is `RegionAnchors()`, the paper's nine a cell of one map.
        hidden: channels of the convolution, 512 in the paper with VGG; None for those of the maps.
        inside_only: in training, anchors that cross the image's edge are ignored, as in the paper; torchvision and
            Detectron2 count them.
        positive, negative: overlaps of anchors that count, see `match_rpn`.
        samples: anchors an image that count, of which at most `positive_share` are positive.
        beta: see `SmoothL1Loss`; 1/9 is the code's sigma of 3.
        top_before: best anchors a map before NMS, in training and in use.
        top_after: proposals an image after it, likewise.
        nms_threshold: overlap above which the weaker of two proposals of a map goes.
        min_size: least side of a proposal in pixels of the image. The paper's code has 16 in pixels of the file, which
            the pictures' scale makes 25.6 for most of VOC. A proposal of no width or height, such as one in the
            padding, is none even where this is 0.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        anchors: AnchorSet | None = None,
        hidden: int | None = None,
        inside_only: bool = True,
        positive: float = 0.7,
        negative: float = 0.3,
        samples: int = 256,
        positive_share: float = 0.5,
        beta: float = 1 / 9,
        top_before: tuple[int, int] = (12000, 6000),
        top_after: tuple[int, int] = (2000, 300),
        nms_threshold: float = 0.7,
        min_size: float = 16.0,
    ) -> None:
        super().__init__()
        self.anchors = RegionAnchors() if anchors is None else anchors
        self.strides = list(strides)
        per_cell = [len(shapes) for shapes in self.anchors.shapes(self.strides)]
        if len(set(channels)) != 1 or len(set(per_cell)) != 1:
            raise ValueError(
                f"RPN: maps share its layers, so they need the same channels and anchors a cell, got {list(channels)} "
                f"and {per_cell}"
            )
        self.inside_only, self.positive, self.negative = inside_only, positive, negative
        self.samples, self.positive_share, self.box_loss = samples, positive_share, SmoothL1Loss(beta)
        self.top_before, self.top_after = top_before, top_after
        self.nms_threshold, self.min_size = nms_threshold, min_size
        hidden = hidden or channels[0]
        self.conv = nn.Conv2d(channels[0], hidden, 3, padding=1)
        self.objectness = nn.Conv2d(hidden, per_cell[0], 1)
        self.deltas = nn.Conv2d(hidden, 4 * per_cell[0], 1)
        for conv in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # bias=True gives a tensor

    def forward(self, maps: list[Tensor], /) -> Regions:
        """What it says of all anchors of maps (N, channels, H, W)."""
        sizes = [(x.shape[-2], x.shape[-1]) for x in maps]
        anchors = self.anchors(sizes, self.strides).to(maps[0].device)
        logits, deltas = [], []
        for x in maps:
            hidden = F.relu(self.conv(x))
            logits.append(self.objectness(hidden).permute(0, 2, 3, 1).flatten(1).float())
            deltas.append(self.deltas(hidden).permute(0, 2, 3, 1).reshape(len(x), -1, 4).float())
        return Regions(logits, deltas, list(torch.split(anchors, [x.shape[1] for x in logits])))

    def losses(self, regions: Regions, objects: list[Objects]) -> dict[str, Tensor]:
        """Scalars `rpn_objectness` and `rpn_box`, each divided by the number of anchors that count (at least 1).

        Ren et al. 2015, equation 1, in the form of their code: both terms over 256 anchors an image, weight 1.
        """
        logits, deltas = torch.cat(regions.logits, dim=1), torch.cat(regions.deltas, dim=1)  # (N, A), (N, A, 4)
        anchors = torch.cat(regions.anchors)  # (A, 4)
        with torch.autocast(logits.device.type, enabled=False):
            # every prediction is touched, so that a batch without objects leaves no parameter without a gradient
            entropy, distance, count = 0 * logits.sum(), 0 * deltas.sum(), 0
            for image, (image_logits, image_deltas) in enumerate(zip(logits, deltas, strict=True)):
                match = self.match(anchors, objects[image])  # (A,)
                chosen = balanced_sample(match, self.samples, self.positive_share)
                positives = chosen[match[chosen] >= 0]
                is_object = (match[chosen] >= 0).float()
                entropy = entropy + F.binary_cross_entropy_with_logits(image_logits[chosen], is_object, reduction="sum")
                own = objects[image].boxes[match[positives]]
                wanted = encode_deltas(own, anchors[positives], PLAIN_SCALE)
                distance = distance + self.box_loss(image_deltas[positives], wanted)
                count += len(chosen)
            return {"rpn_objectness": entropy / max(count, 1), "rpn_box": distance / max(count, 1)}

    @torch.no_grad()
    def match(self, anchors: Tensor, objects: Objects) -> Tensor:
        """Object of each anchor, int64 (A,), see `match_rpn`; those that the cross-boundary rule ignores are -2."""
        overlaps = iou(objects.boxes, anchors)  # (G, A)
        if not self.inside_only:
            return match_rpn(overlaps, self.positive, self.negative)
        height, width = objects.size
        inside = (anchors[:, :2] >= 0).all(dim=1) & (anchors[:, 2] <= width) & (anchors[:, 3] <= height)
        match = torch.full((len(anchors),), IGNORED, device=anchors.device)
        match[inside] = match_rpn(overlaps[:, inside], self.positive, self.negative)
        return match

    @torch.no_grad()
    def proposals(
        self, regions: Regions, sizes: Sequence[tuple[int, int]], training: bool
    ) -> list[tuple[Tensor, Tensor]]:
        """Boxes (P, 4) and scores (P,), 0 to 1, of each image, best first.

        Args:
            regions: what the net said.
            sizes: height and width of the picture in each image, to which boxes are cut.
            training: which of the two numbers before and after NMS count.
        """
        before, after = (pair[0 if training else 1] for pair in (self.top_before, self.top_after))
        boxes, logits, levels = [], [], []
        for level, (logit, delta, anchor) in enumerate(zip(*regions, strict=True)):
            best, rows = logit.topk(min(before, logit.shape[1]), dim=1)  # (N, T)
            chosen = delta.gather(1, rows[..., None].expand(-1, -1, 4))  # (N, T, 4)
            boxes.append(decode_deltas(chosen, anchor[rows], PLAIN_SCALE))
            logits.append(best)
            levels.append(torch.full((best.shape[1],), level, device=best.device))
        every_box, scores, of_level = torch.cat(boxes, dim=1), torch.cat(logits, dim=1).sigmoid(), torch.cat(levels)
        found = []
        for image, (height, width) in enumerate(sizes):
            cut = clip_boxes(every_box[image], height, width)
            sides = cut[:, 2:] - cut[:, :2]
            large = ((sides >= self.min_size) & (sides > 0)).all(dim=1)
            cut, score = cut[large], scores[image][large]
            keep = batched_nms(cut, score, of_level[large], self.nms_threshold)[:after]
            found.append((cut[keep], score[keep]))
        return found


RPNMaker = Callable[[Sequence[int], Sequence[int]], RPN]
"""Builds one from the channels and strides of the maps: a class, or a class path with its other arguments."""
