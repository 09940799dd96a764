"""Panoptic SegFormer: queries that find things, queries that stand for stuff, and masks from their attention.

Letters: N images; Q queries; K thing classes, T stuff classes; C channels; S cells of all maps; H, W of the image.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.contracts import Backbone, PanopticParts, PanopticTarget
from lightning_cv.models.panoptic.base import DividingNet
from lightning_cv.models.panoptic.deformable import DeformableEncoder, Located, LocationDecoder
from lightning_cv.models.panoptic.mask_decoder import MaskDecoder, Masked
from lightning_cv.models.panoptic.segformer_losses import (
    Pairs,
    Truth,
    Weights,
    assign,
    candidates,
    count_segments,
    location_cost,
    location_terms,
    mask_pairs,
    mask_term,
    stuff_class_term,
    truth_of,
)
from lightning_cv.ops.boxes import clip_boxes
from lightning_cv.ops.mask_losses import corners
from lightning_cv.ops.panoptic import MaskWiseMerge, PanopticMerge


class Encoded(NamedTuple):
    """The maps after the encoder."""

    cells: Tensor  # (N, S, C)
    sizes: list[tuple[int, int]]  # H, W of each map, finest first
    located: Located


class PanopticSegFormer(DividingNet):
    """A net whose every segment, thing or stuff, is the mask of one query.

    Li et al. 2022, "Panoptic SegFormer: delving deeper into panoptic segmentation with transformers", and their
    released code. Differs from that code: boxes and classes of things in the mask decoder, whose losses are 0 there,
    are left out; a padded border counts as picture. A mask's quality counts values above 1 as 1, and a mask ends at 0.5
    in the image, there in the file.

    Args:
        features: gives the maps, finest first; it normalises its input itself. The masks have the finest map's cells.
        num_things: K, at least 1.
        num_stuff: T, at least 1.
        channels: C, a multiple of `heads` and of 4.
        queries: of things; more than there are in any picture, for each finds one.
        encoder_layers, location_layers: of the deformable transformer.
        thing_layers, stuff_layers: of the mask decoders, before their last look.
        heads: of every attention.
        points: places a map that deformable attention reads.
        hidden: channels within the feed-forward nets of the deformable transformer, None for 4 C.
        extra_levels: coarser maps by stride-2 convolutions, which are encoded and of which no mask is made.
        groups: of the group norms on the maps.
        dropout: in the deformable transformer.
        rounds: assignments in turn that choose the queries whose masks are learned, see `candidates`.
        weights: factors on classes, boxes, GIoU and masks, in losses and assignments.
        stuff_class_weight: factor on the classes of stuff.
        detections: things of an image that get a mask, by their scores.
        merge: how pixels are shared out; None is `MaskWiseMerge()`.
    """

    def __init__(
        self,
        features: Backbone,
        num_things: int,
        num_stuff: int,
        channels: int = 256,
        queries: int = 300,
        encoder_layers: int = 6,
        location_layers: int = 6,
        thing_layers: int = 4,
        stuff_layers: int = 6,
        heads: int = 8,
        points: int = 4,
        hidden: int | None = None,
        extra_levels: int = 1,
        groups: int = 32,
        dropout: float = 0.1,
        rounds: int = 3,
        weights: tuple[float, float, float, float] = (2.0, 5.0, 2.0, 2.0),
        stuff_class_weight: float = 4.0,
        detections: int = 100,
        merge: PanopticMerge | None = None,
    ) -> None:
        super().__init__(num_things, num_stuff, MaskWiseMerge() if merge is None else merge)
        if min(num_things, num_stuff, queries, encoder_layers, location_layers, thing_layers, stuff_layers) < 1:
            raise ValueError(
                "PanopticSegFormer: classes of things and of stuff, queries and layers are at least 1 each"
            )
        if channels % heads or channels % 4 or channels % groups:
            raise ValueError(
                f"PanopticSegFormer: channels must be a multiple of 4, of heads and of groups, got {channels}, {heads} "
                f"and {groups}"
            )
        self.features = cast(nn.Module, features)
        self.mask_levels = len(features.out_channels)
        levels, hidden = self.mask_levels + extra_levels, hidden or 4 * channels
        self.lateral = nn.ModuleList(_normed(c, channels, 1, 1, groups) for c in features.out_channels)
        inputs = [features.out_channels[-1]] + [channels] * extra_levels
        self.coarser = nn.ModuleList(_normed(c, channels, 3, 2, groups) for c in inputs[:extra_levels])
        self.encoder = DeformableEncoder(channels, levels, encoder_layers, heads, points, hidden, dropout)
        self.location = LocationDecoder(
            channels, levels, location_layers, heads, points, hidden, dropout, queries, num_things
        )
        self.thing_masks = MaskDecoder(channels, heads, self.mask_levels, thing_layers)
        self.stuff_masks = MaskDecoder(channels, heads, self.mask_levels, stuff_layers, among=True)
        self.stuff_queries = nn.Parameter(torch.empty(num_stuff, channels).normal_())
        self.stuff_positions = nn.Parameter(torch.empty(num_stuff, channels).normal_())
        self.stuff_classes = nn.ModuleList(nn.Linear(channels, 1) for _ in range(stuff_layers))
        for head in self.stuff_classes:
            assert isinstance(head, nn.Linear)
            nn.init.constant_(head.bias, -math.log(99))  # every score before training is 0.01
        self.rounds, self.weights, self.stuff_class_weight = rounds, Weights(*weights), stuff_class_weight
        self.detections = detections

    def encode(self, images: Tensor) -> Encoded:
        """What is found in images (N, 3, H, W), and the cells it is found in."""
        maps: list[Tensor] = self.features(images)
        coarse, extra = maps[-1], []
        for layer in self.coarser:
            coarse = layer(coarse)
            extra.append(coarse)
        maps = [layer(x) for layer, x in zip(self.lateral, maps, strict=True)] + extra
        sizes = [(x.shape[-2], x.shape[-1]) for x in maps]
        cells = self.encoder(maps)
        return Encoded(cells, sizes, self.location(cells, sizes))

    def losses(self, images: Tensor, targets: list[PanopticTarget]) -> dict[str, Tensor]:
        """Scalars `class`, `box`, `giou`, `mask_things`, `mask_stuff` and `class_stuff`, sums over the layers.

        Terms of things and of stuff are weighted by the share of each among the segments of the batch, in training of
        all processes' batches.
        """
        truths = [truth_of(target, self.is_thing) for target in targets]
        counts = count_segments(truths, of_all_processes=self.training)
        encoded = self.encode(images)
        size = (images.shape[-2], images.shape[-1])
        with torch.autocast(images.device.type, enabled=False):
            terms, chosen, costs = self._location_terms(encoded.located, truths, size, counts.things)
        things = self._things(encoded, chosen)
        stuff = self._stuff(encoded)
        with torch.autocast(images.device.type, enabled=False):
            pairs = [
                mask_pairs(cost, masks[: len(queries)], truth, self.weights)
                for cost, masks, queries, truth in zip(costs, things.masks[-1], chosen, truths, strict=True)
            ]
            mine, owned = (
                [pair.queries for pair in pairs],
                [t.masks[p.things] for t, p in zip(truths, pairs, strict=True)],
            )
            present = [truth.present.nonzero()[:, 0] for truth in truths]
            known = [truth.stuff[truth.present] for truth in truths]
            share = counts.things / (counts.things + counts.stuff)
            terms["mask_things"] = self.weights.mask * mask_term(things.masks, mine, owned, counts.things)
            terms = {name: share * value for name, value in terms.items()}
            terms["mask_stuff"] = self.weights.mask * mask_term(stuff.masks, present, known, counts.stuff)
            known_classes = stuff_class_term(self._stuff_logits(stuff), truths, counts.stuff)
            terms["class_stuff"] = self.stuff_class_weight * known_classes
            return terms | {name: (1 - share) * terms[name] for name in ("mask_stuff", "class_stuff")}

    def _location_terms(
        self, located: Located, truths: Sequence[Truth], size: tuple[int, int], count: float
    ) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
        """The terms of all layers, the queries (Q_i,) whose masks are learned, and their costs (Q_i, G)."""
        terms: dict[str, Tensor] = {}
        chosen: list[Tensor] = []
        costs: list[Tensor] = []
        last = len(located.logits) - 1
        for layer, (logits, boxes) in enumerate(zip(located.logits, located.boxes, strict=True)):
            pairs: list[Pairs] = []
            for image, truth in enumerate(truths):
                cost = location_cost(logits[image], boxes[image], truth, self.weights)
                if layer < last:
                    pairs.append(assign(cost))
                    continue
                best, queries = candidates(cost, self.rounds)
                pairs.append(best)
                chosen.append(queries)
                costs.append(cost[queries])
            of_layer = location_terms(logits, boxes, truths, pairs, size, self.weights, count)
            terms = {name: terms.get(name, 0) + value for name, value in of_layer.items()}
        return terms, chosen, costs

    def _things(self, encoded: Encoded, chosen: Sequence[Tensor]) -> Masked:
        """Masks of the chosen queries (Q_i,) of each image; rows beyond them are of no meaning."""
        most = max(1, *(len(queries) for queries in chosen))
        rows = torch.stack([F.pad(queries, (0, most - len(queries))) for queries in chosen])  # (N, most)
        queries = encoded.located.queries
        return self._masks(
            self.thing_masks, queries.gather(1, rows[..., None].expand(-1, -1, queries.shape[2])), encoded
        )

    def _stuff(self, encoded: Encoded) -> Masked:
        queries = self.stuff_queries.expand(len(encoded.cells), -1, -1)
        return self._masks(self.stuff_masks, queries, encoded, self.stuff_positions)

    def _masks(
        self, decoder: MaskDecoder, queries: Tensor, encoded: Encoded, positions: Tensor | None = None
    ) -> Masked:
        sizes = encoded.sizes[: self.mask_levels]
        cells = encoded.cells[:, : sum(height * width for height, width in sizes)]
        masked: Masked = decoder(queries, positions, cells, sizes)
        return masked

    def _stuff_logits(self, stuff: Masked) -> list[Tensor]:
        """Whether each stuff class is there, (N, T) of each layer."""
        heads = zip(self.stuff_classes, stuff.queries, strict=True)
        return [head(queries.float())[..., 0] for head, queries in heads]

    @torch.no_grad()
    def parts(self, images: Tensor) -> list[PanopticParts]:
        """The best things and all stuff classes of each image, with their masks' quality in their scores."""
        encoded = self.encode(images)
        stuff = self._stuff(encoded)
        scores = self._stuff_logits(stuff)[-1].sigmoid()  # (N, T)
        size = (images.shape[-2], images.shape[-1])
        return [
            self._parts(encoded, image, stuff.masks[-1][image], scores[image], size) for image in range(len(images))
        ]

    def _parts(
        self, encoded: Encoded, image: int, stuff: Tensor, stuff_scores: Tensor, size: tuple[int, int]
    ) -> PanopticParts:
        """Of one image, whose stuff has masks (T, h, w) and scores (T,)."""
        located = encoded.located
        scores, best = (
            located.logits[-1][image].sigmoid().flatten().topk(min(self.detections, located.logits[-1][image].numel()))
        )
        queries, rows = torch.unique(best // self.num_things, return_inverse=True)  # a query may be of several classes
        alone = Encoded(
            encoded.cells[image : image + 1], encoded.sizes, Located(located.queries[image : image + 1], [], [])
        )
        masks = self._things(alone, [queries]).masks[-1][0]  # (U, h, w)
        shown = F.interpolate(torch.cat([masks, stuff])[None], size=size, mode="bilinear", align_corners=False)[0]
        inside = shown > 0.5
        quality = (shown.clamp(max=1) * inside).flatten(1).sum(1) / (inside.flatten(1).sum(1) + 1)  # (U + T,)
        order = torch.cat([rows, torch.arange(len(queries), len(shown), device=rows.device)])
        things, kinds = self.is_thing.nonzero()[:, 0], (~self.is_thing).nonzero()[:, 0]
        pixels = shown.new_tensor([size[1], size[0]] * 2)
        boxes = clip_boxes(corners(located.boxes[-1][image][best // self.num_things]) * pixels, *size)
        return PanopticParts(
            masks=inside[order],
            labels=torch.cat([things[best % self.num_things], kinds]),
            scores=torch.cat([scores, stuff_scores]) * quality[order].square(),
            is_thing=torch.arange(len(order), device=rows.device) < len(best),
            boxes=torch.cat([boxes, boxes.new_zeros(len(kinds), 4)]),
        )


def _normed(inputs: int, channels: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    """A convolution and a group norm."""
    conv = nn.Conv2d(inputs, channels, kernel, stride, kernel // 2, bias=False)
    nn.init.xavier_uniform_(conv.weight)
    return nn.Sequential(conv, nn.GroupNorm(groups, channels))
