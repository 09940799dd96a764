"""Masks from attention: how strongly a query asks for each cell says where its segment is.

Li et al. 2022, "Panoptic SegFormer", section 3.4, as in their released code. Letters: N images; Q queries; S cells of
the maps that are read, L of them; C channels; M heads; h, w cells of the finest map.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Sizes = Sequence[tuple[int, int]]


class MaskAsker(nn.Module):
    """The mask of each query from the products of queries and keys, before they become attention.

    Those of each map pass a linear layer over the heads, are brought to the finest map and joined. A mask is at least 0
    and learns to be 1 within its segment: the code has a ReLU where other nets have a sigmoid.

    Args:
        channels: C, a multiple of `heads`.
        heads: M.
        levels: L.
    """

    def __init__(self, channels: int, heads: int, levels: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"MaskAsker: channels must be a multiple of heads, got {channels} and {heads}")
        self.heads = heads
        self.query, self.key = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.of_level = nn.ModuleList(nn.Linear(heads, heads) for _ in range(levels))
        self.fuse = nn.Linear(heads * levels, 1)
        for layer in (self.query, self.key, *self.of_level, self.fuse):
            nn.init.xavier_uniform_(layer.weight)

    def asked(self, queries: Tensor, cells: Tensor) -> Tensor:
        """Products (N, M, Q, S) of queries (N, Q, C) and cells (N, S, C), float32."""
        q, k = self.in_heads(self.query(queries)), self.in_heads(self.key(cells))
        with torch.autocast(q.device.type, enabled=False):
            products: Tensor = q.float() @ k.float().transpose(-2, -1) * q.shape[-1] ** -0.5
            return products

    def in_heads(self, x: Tensor) -> Tensor:
        """(N, M, S, C / M) of (N, S, C)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def masks(self, products: Tensor, sizes: Sizes) -> Tensor:
        """Masks (N, Q, h, w), float32, at least 0, of products (N, M, Q, S)."""
        with torch.autocast(products.device.type, enabled=False):
            return self._joined(products.float(), sizes)

    def _joined(self, products: Tensor, sizes: Sizes) -> Tensor:
        images, _, queries, _ = products.shape
        parts = torch.split(products.permute(0, 2, 3, 1), [h * w for h, w in sizes], dim=2)  # each (N, Q, h * w, M)
        maps = []
        for part, layer, (height, width) in zip(parts, self.of_level, sizes, strict=True):
            x = F.relu(layer(part)).transpose(2, 3).reshape(images * queries, self.heads, height, width)
            if (height, width) != tuple(sizes[0]):
                x = F.interpolate(x, size=sizes[0], mode="bilinear", align_corners=False)
            maps.append(x)
        joined = torch.cat(maps, dim=1)  # (N * Q, L * M, h, w)
        fused = F.conv2d(joined, self.fuse.weight[..., None, None], self.fuse.bias)
        return F.relu(fused).view(images, queries, *sizes[0])


class MaskAttention(MaskAsker):
    """The masks, and what the queries read by the same attention."""

    def __init__(self, channels: int, heads: int, levels: int) -> None:
        super().__init__(channels, heads, levels)
        self.value, self.output = nn.Linear(channels, channels), nn.Linear(channels, channels)
        for layer in (self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, queries: Tensor, cells: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
        """What queries (N, Q, C) read off cells (N, S, C), the same shape, and masks (N, Q, h, w)."""
        products = self.asked(queries, cells)
        read = products.softmax(dim=-1).to(cells.dtype) @ self.in_heads(self.value(cells))
        return self.output(read.transpose(1, 2).flatten(2)), self.masks(products, sizes)


class MaskLayer(nn.Module):
    """Attention among the queries, if asked for, attention with masks, and two linear layers, each added and normed."""

    def __init__(self, channels: int, heads: int, levels: int, among: bool) -> None:
        super().__init__()
        self.among = nn.MultiheadAttention(channels, heads, batch_first=True) if among else None
        self.attention = MaskAttention(channels, heads, levels)
        first, second = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.feed = nn.Sequential(first, nn.GELU(), second)
        self.norms = nn.ModuleList(nn.LayerNorm(channels, eps=1e-6) for _ in range(3 if among else 2))
        for layer in (first, second):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, queries: Tensor, cells: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
        """Queries (N, Q, C) after the layer, and its masks (N, Q, h, w)."""
        if self.among is not None:
            queries = self.norms[2](queries + self.among(queries, queries, queries, need_weights=False)[0])
        read, masks = self.attention(queries, cells, sizes)
        queries = self.norms[0](queries + read)
        return self.norms[1](queries + self.feed(queries)), masks


class Masked(NamedTuple):
    """What a mask decoder says."""

    queries: list[Tensor]  # (N, Q, C) after each layer
    masks: list[Tensor]  # (N, Q, h, w) of each layer, and after them those that count


class MaskDecoder(nn.Module):
    """Queries become masks in some layers, each of which is supervised, and a last look that gives masks alone.

    Args:
        channels: C.
        heads: M.
        levels: L, the finest so many maps are read.
        layers: before the last look.
        among: queries attend to one another, as those of stuff do.
    """

    def __init__(self, channels: int, heads: int, levels: int, layers: int, among: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MaskLayer(channels, heads, levels, among) for _ in range(layers))
        self.last = MaskAsker(channels, heads, levels)

    def forward(self, queries: Tensor, positions: Tensor | None, cells: Tensor, sizes: Sizes) -> Masked:
        """Masks of queries (N, Q, C), with positions (Q, C) or without, on cells (N, S, C) of maps of the sizes."""
        after, masks = [], []
        for layer in self.layers:
            queries, mask = layer(queries if positions is None else queries + positions, cells, sizes)
            after.append(queries)
            masks.append(mask)
        asked = self.last.asked(queries if positions is None else queries + positions, cells)
        return Masked(after, [*masks, self.last.masks(asked, sizes)])
