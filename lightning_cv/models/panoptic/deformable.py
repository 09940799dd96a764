"""Deformable transformer: cells of several maps read a few places of all of them, then queries find boxes there.

Zhu et al. 2021, "Deformable DETR", in plain PyTorch. Letters: N images; L maps; S cells of all maps; Q queries; C
channels; M heads; P places a map.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.ops.deformable import cell_centres, deformable_attention, sine_positions

Sizes = Sequence[tuple[int, int]]


class DeformableAttention(nn.Module):
    """Each query reads P places a map and head, around a point or in a box: section 4.1, equation 3.

    Args:
        channels: C, a multiple of `heads`.
        levels: L.
        heads: M. In the beginning each looks into a direction of its own, the first place one cell away.
        points: P.
    """

    def __init__(self, channels: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"DeformableAttention: channels must be a multiple of heads, got {channels} and {heads}")
        self.levels, self.heads, self.points = levels, heads, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.weights = nn.Linear(channels, heads * levels * points)
        self.values, self.output = nn.Linear(channels, channels), nn.Linear(channels, channels)
        angles = torch.arange(heads) * (2 * math.pi / heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)  # (M, 2)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, points + 1)[:, None].float()  # (P, 1)
        first = (directions[:, None, None] * steps).expand(heads, levels, points, 2)
        nn.init.zeros_(self.sampling_offsets.weight)
        self.sampling_offsets.bias = nn.Parameter(first.flatten())
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        for layer in (self.values, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, queries: Tensor, references: Tensor, cells: Tensor, sizes: Sizes) -> Tensor:
        """What queries (N, Q, C) read off cells (N, S, C) of maps of the sizes, (N, Q, C).

        Args:
            queries: with their positions.
            references: (N, Q, 2), x, y from 0 to 1, offsets count in cells; or (N, Q, 4), boxes of middle and size,
                offsets count in P-ths of half a side.
            cells: of all maps.
            sizes: H, W of each map.
        """
        images, count, channels = queries.shape
        shape = (images, count, self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(queries).float().view(*shape, 2)
        weights = self.weights(queries).float().view(*shape[:3], -1).softmax(dim=-1).view(shape)
        at = references[:, :, None, None, None]  # (N, Q, 1, 1, 1, 2 or 4)
        if references.shape[-1] == 2:
            scale = offsets.new_tensor([[width, height] for height, width in sizes])[:, None]  # (L, 1, 2)
            places = at + offsets / scale
        else:
            places = at[..., :2] + offsets / self.points * at[..., 2:] * 0.5
        values = self.values(cells).float().view(images, -1, self.heads, channels // self.heads)
        out: Tensor = self.output(deformable_attention(values, sizes, places, weights))
        return out


class FeedForward(nn.Module):
    """Two linear layers around a ReLU, added to their input and normalised: (..., C) to the same."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(channels)
        for layer in (self.first, self.second):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        out: Tensor = self.norm(x + self.dropout(self.second(self.dropout(F.relu(self.first(x))))))
        return out


class EncoderLayer(nn.Module):
    """Deformable attention from every cell to all maps, then a feed-forward net."""

    def __init__(self, channels: int, levels: int, heads: int, points: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = DeformableAttention(channels, levels, heads, points)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(channels)
        self.feed = FeedForward(channels, hidden, dropout)

    def forward(self, cells: Tensor, positions: Tensor, references: Tensor, sizes: Sizes) -> Tensor:
        """Cells (N, S, C) with positions (N, S, C), and references (N, S, 2) where they lie."""
        read = self.attention(cells + positions, references, cells, sizes)
        out: Tensor = self.feed(self.norm(cells + self.dropout(read)))
        return out


class DeformableEncoder(nn.Module):
    """The maps' cells (N, S, C) after all layers. Each map has a code of its own beside its cells' places.

    Differs from the released code, which knows the padded border of a batch: here it is picture like the rest.

    Args:
        channels: C.
        levels: L.
        layers: how many.
        heads, points: see `DeformableAttention`.
        hidden: channels within a `FeedForward`.
        dropout: share of numbers that is dropped in training.
    """

    def __init__(
        self, channels: int, levels: int, layers: int, heads: int, points: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.level_codes = nn.Parameter(torch.empty(levels, channels).normal_())
        self.layers = nn.ModuleList(
            EncoderLayer(channels, levels, heads, points, hidden, dropout) for _ in range(layers)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Cells of maps (N, C, H, W), finest first, row by row."""
        sizes = [(x.shape[-2], x.shape[-1]) for x in maps]
        cells = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)  # (N, S, C)
        codes = self.level_codes.repeat_interleave(torch.tensor([h * w for h, w in sizes], device=cells.device), dim=0)
        positions = sine_positions(sizes, cells.shape[-1], cells.device) + codes  # (S, C)
        references = cell_centres(sizes, cells.device).expand(len(cells), -1, -1)
        for layer in self.layers:
            cells = layer(cells, positions, references, sizes)
        return cells


class DecoderLayer(nn.Module):
    """Attention among the queries, deformable attention to the cells, a feed-forward net."""

    def __init__(self, channels: int, levels: int, heads: int, points: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.among = nn.MultiheadAttention(channels, heads, dropout, batch_first=True)
        self.attention = DeformableAttention(channels, levels, heads, points)
        self.dropout = nn.Dropout(dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.feed = FeedForward(channels, hidden, dropout)

    def forward(self, x: Tensor, positions: Tensor, references: Tensor, cells: Tensor, sizes: Sizes) -> Tensor:
        """Queries (N, Q, C) with positions (N, Q, C); references (N, Q, 2 or 4)."""
        places = x + positions
        x = self.norms[0](x + self.dropout(self.among(places, places, x, need_weights=False)[0]))
        x = self.norms[1](x + self.dropout(self.attention(x + positions, references, cells, sizes)))
        out: Tensor = self.feed(x)
        return out


class Located(NamedTuple):
    """What the location decoder says after each layer, the last one last."""

    queries: Tensor  # (N, Q, C) after the last layer
    logits: list[Tensor]  # (N, Q, K) of classes, sigmoid
    boxes: list[Tensor]  # (N, Q, 4): middle and size, shares of the image


class LocationDecoder(nn.Module):
    """Queries that find things: a class and a box each, the box made better layer by layer.

    Zhu et al. 2021, sections 4.1 and A.4 ("iterative bounding box refinement"): each layer corrects the box of the one
    before, through which no gradient goes back. The first begins at a learned point.

    Args:
        channels, levels, layers, heads, points, hidden, dropout: see `DeformableEncoder`.
        queries: Q.
        num_classes: K.
        prior: every score before training.
    """

    def __init__(
        self,
        channels: int,
        levels: int,
        layers: int,
        heads: int,
        points: int,
        hidden: int,
        dropout: float,
        queries: int,
        num_classes: int,
        prior: float = 0.01,
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(queries, channels).normal_())
        self.positions = nn.Parameter(torch.empty(queries, channels).normal_())
        self.reference_points = nn.Linear(channels, 2)
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)
        self.layers = nn.ModuleList(
            DecoderLayer(channels, levels, heads, points, hidden, dropout) for _ in range(layers)
        )
        self.classes = nn.ModuleList(nn.Linear(channels, num_classes) for _ in range(layers))
        self.boxes = nn.ModuleList(_box_head(channels) for _ in range(layers))
        for head in self.classes:
            assert isinstance(head, nn.Linear)
            nn.init.constant_(head.bias, -math.log((1 - prior) / prior))
        first = self.boxes.get_submodule("0.4")
        assert isinstance(first, nn.Linear)
        nn.init.constant_(first.bias[2:], -2.0)  # boxes begin at an eighth of the image

    def forward(self, cells: Tensor, sizes: Sizes) -> Located:
        """What is found in cells (N, S, C) of maps of the sizes."""
        x = self.queries.expand(len(cells), -1, -1)
        positions = self.positions.expand(len(cells), -1, -1)
        references = self.reference_points(positions).float().sigmoid()  # (N, Q, 2)
        logits, boxes = [], []
        for layer, classes, head in zip(self.layers, self.classes, self.boxes, strict=True):
            x = layer(x, positions, references, cells, sizes)
            moved = head(x).float()
            before = references.logit(1e-5)
            moved = moved + (before if before.shape[-1] == 4 else F.pad(before, (0, 2)))
            boxes.append(moved.sigmoid())
            logits.append(classes(x).float())
            references = boxes[-1].detach()
        return Located(x, logits, boxes)


def _box_head(channels: int) -> nn.Sequential:
    """Three linear layers, the last of which begins at 0."""
    last = nn.Linear(channels, 4)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU(), last)
