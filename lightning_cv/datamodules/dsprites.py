"""dSprites as a data module."""

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import Draw, ImageBatch, LabelMap
from lightning_cv.datamodules.base import DataModule
from lightning_cv.datasets.checksum import checksum_of_tensors
from lightning_cv.datasets.dsprites import (
    FACTOR_NAMES,
    FACTOR_SIZES,
    SHAPES,
    SIDE,
    Packed,
    factors_of,
    open_sprites,
    prepare_sprites,
    rows_of,
    unpack_sprites,
)
from lightning_cv.datasets.fetch import fetch

SPLIT_SEED = 2017
"""Seed of the division into train, val and test."""

_AT_ONCE = 65_536
"""Sprites read at once for a checksum: 34 MB."""


class SpriteBatch(ImageBatch):
    """Sprites with what they were drawn from; the class of an image is its shape."""

    factors: Tensor  # int64 (N, 5), indices in the order of FACTOR_NAMES, each below `factor_sizes`


class Sprites:
    """Some of the sprites, served a batch at a time.

    Args:
        packed: all sprites, see `open_sprites`.
        rows: numbers (N,) of those that are served.
        size: side in pixels: 64, or 32, of which each pixel is the mean of four.
        fixed: factors held at one index; that index then counts as 0 of 1.
    """

    factor_names = FACTOR_NAMES

    def __init__(
        self, packed: Packed, rows: NDArray[np.int64], size: int = SIDE, fixed: Mapping[str, int] | None = None
    ) -> None:
        self.packed, self.rows, self.size = packed, rows, size
        held = dict(fixed or {})
        self.factor_sizes = tuple(1 if name in held else size for name, size in _sizes().items())
        self._first = np.array([held.get(name, 0) for name in FACTOR_NAMES])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draws: list[Draw]) -> SpriteBatch:
        rows = self.rows[[draw.index for draw in draws]]
        factors = factors_of(rows)
        return {
            "images": self.images(rows),
            "labels": torch.from_numpy(factors[:, 0].copy()),
            "image_ids": [f"dsprites_{row:06d}" for row in rows.tolist()],
            "factors": torch.from_numpy(factors - self._first),
        }

    def images(self, rows: NDArray[np.int64]) -> Tensor:
        """Sprites float32 (N, 1, size, size), 0 to 1, of image numbers (N,); any, also those of other splits."""
        whole = torch.from_numpy(unpack_sprites(self.packed[rows])).unsqueeze(1).to(torch.float32)
        return whole if self.size == SIDE else torch.nn.functional.avg_pool2d(whole, SIDE // self.size)

    def with_factors(self, factors: NDArray[np.int64]) -> Tensor:
        """Sprites float32 (N, 1, size, size) of factor indices (N, 5), as disentanglement metrics ask for them."""
        if ((factors < 0) | (factors >= self.factor_sizes)).any():
            raise ValueError(f"indices of dSprites' factors lie below {self.factor_sizes}, got {factors.max(axis=0)}")
        return self.images(rows_of(factors + self._first))


class DSpritesDataModule(DataModule):
    """dSprites from `root/dsprites`: the original file if it lies there, otherwise the same grid of factors, drawn.

    Args:
        root: data root.
        size: side in pixels, 64 or 32.
        fixed: factors that are held at one index, such as `{"orientation": 0}`, for a smaller set.
        held_out: images for validation, and as many for the test, drawn at random; the same in every run.
        download: fetch the original file where it is missing, instead of drawing.
        batch_size, num_workers, eval_batch_size: of the loaders.
    """

    def __init__(
        self,
        root: str,
        size: int = 64,
        fixed: dict[str, int] | None = None,
        held_out: int = 10_000,
        download: bool = False,
        batch_size: int = 64,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, eval_batch_size)
        if size not in (SIDE, SIDE // 2):
            raise ValueError(f"dSprites come in 64 or 32 pixels a side, got size {size}")
        self.root, self.size, self.fixed, self.download = root, size, dict(fixed or {}), download
        self.label_map = LabelMap(SHAPES, first=0, dataset_ids=(1, 2, 3))
        rows = _rows_with(self.fixed)
        if not 0 < 2 * held_out < len(rows):
            raise ValueError(f"held_out must leave some of the {len(rows)} sprites for training, got {held_out}")
        rows = np.random.default_rng(SPLIT_SEED).permutation(rows)
        self._rows = {
            "val": np.sort(rows[:held_out]),
            "test": np.sort(rows[held_out : 2 * held_out]),
            "train": np.sort(rows[2 * held_out :]),
        }
        self._packed: Packed | None = None

    def prepare_data(self) -> None:
        """Packs the original's sprites or draws them, once."""
        if self.download:
            fetch("dsprites", self.root)
        prepare_sprites(self.root)

    def setup(self, stage: str) -> None:
        """Opens the packed sprites; a missing or damaged file is told here, before anything is trained."""
        self._packed = open_sprites(self.root)

    def split(self, name: str) -> Sprites:
        """The sprites of "train", "val" or "test"."""
        if self._packed is None:
            self._packed = open_sprites(self.root)
        return Sprites(self._packed, self._rows[name], self.size, self.fixed)

    def checksum(self, use: str) -> str:
        """Of the sprites themselves, so that drawn ones and the original's differ."""
        sprites = self.split(use)
        parts = (sprites.rows[first : first + _AT_ONCE] for first in range(0, len(sprites), _AT_ONCE))
        return checksum_of_tensors(torch.from_numpy(np.asarray(sprites.packed[rows])) for rows in parts)

    def train_set(self) -> Sprites:
        """All sprites that are not held out."""
        return self.split("train")

    def val_set(self) -> Sprites:
        """Those held out for validation."""
        return self.split("val")

    def test_set(self) -> Sprites:
        """Those held out for the test."""
        return self.split("test")

    def prepare_image(self, image: NDArray[np.uint8], /) -> Tensor:
        """The tensor (1, size, size) of an RGB picture (H, W, 3): its grey values, stretched."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return torch.from_numpy(np.asarray(small, np.float32) / 255).unsqueeze(0)


def _sizes() -> dict[str, int]:
    return dict(zip(FACTOR_NAMES, FACTOR_SIZES, strict=True))


def _rows_with(fixed: Mapping[str, int]) -> NDArray[np.int64]:
    """Numbers of the sprites whose named factors have the given indices, rising."""
    sizes = _sizes()
    for name, index in fixed.items():
        if name not in sizes:
            raise ValueError(f"dSprites' factors are {', '.join(sizes)}, not {name!r}")
        if not 0 <= index < sizes[name]:
            raise ValueError(f"dSprites' {name} has the indices 0 to {sizes[name] - 1}, got {index}")
    axes = [np.array([fixed[name]]) if name in fixed else np.arange(size) for name, size in sizes.items()]
    return np.asarray(np.ravel_multi_index(np.ix_(*axes), FACTOR_SIZES), np.int64).ravel()
