"""dSprites as a data module."""

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import Draw, ImageBatch, LabelMap
from lightning_cv.datamodules.base import DataModule
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
)

SPLIT_SEED = 2017
"""Seed of the division into train, val and test."""


class Sprites:
    """Some of the sprites, served a batch at a time; the class of an image is its shape.

    Args:
        packed: all sprites, see `open_sprites`.
        rows: numbers (N,) of those that are served.
        size: side in pixels: 64, or 32, of which each pixel is the mean of four.
    """

    factor_names = FACTOR_NAMES
    factor_sizes = FACTOR_SIZES

    def __init__(self, packed: Packed, rows: NDArray[np.int64], size: int = SIDE) -> None:
        self.packed, self.rows, self.size = packed, rows, size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draws: list[Draw]) -> ImageBatch:
        rows = self.rows[[draw.index for draw in draws]]
        labels = torch.from_numpy(factors_of(rows)[:, 0].copy())
        return {"images": self.images(rows), "labels": labels, "image_ids": [f"dsprites_{row:06d}" for row in rows]}

    def images(self, rows: NDArray[np.int64]) -> Tensor:
        """Sprites float32 (N, 1, size, size), 0 to 1, of image numbers (N,); any, also those of other splits."""
        bits = np.unpackbits(self.packed[rows], axis=1)
        whole = torch.from_numpy(bits).view(-1, 1, SIDE, SIDE).to(torch.float32)
        return whole if self.size == SIDE else torch.nn.functional.avg_pool2d(whole, SIDE // self.size)

    def with_factors(self, factors: NDArray[np.int64]) -> Tensor:
        """Sprites float32 (N, 1, size, size) of factor indices (N, 5), as disentanglement metrics ask for them."""
        return self.images(rows_of(factors))


class DSpritesDataModule(DataModule):
    """dSprites from `root/dsprites`: the original file if it lies there, otherwise the same grid of factors, drawn.

    Args:
        root: data root.
        size: side in pixels, 64 or 32.
        fixed: factors that are held at one index, such as `{"orientation": 0}`, for a smaller set.
        held_out: images for validation, and as many for the test, drawn at random; the same in every run.
        batch_size, num_workers, eval_batch_size: of the loaders.
    """

    def __init__(
        self,
        root: str,
        size: int = 64,
        fixed: dict[str, int] | None = None,
        held_out: int = 10_000,
        batch_size: int = 64,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, eval_batch_size)
        if size not in (SIDE, SIDE // 2):
            raise ValueError(f"dSprites come in 64 or 32 pixels a side, got size {size}")
        self.root, self.size = root, size
        self.label_map = LabelMap(SHAPES, first=0, dataset_ids=(1, 2, 3))
        rows = _rows_with(fixed or {})
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
        """Packs the original's or draws the sprites, once."""
        prepare_sprites(self.root)

    def split(self, name: str) -> Sprites:
        """The sprites of "train", "val" or "test"."""
        if self._packed is None:
            self._packed = open_sprites(self.root)
        return Sprites(self._packed, self._rows[name], self.size)

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


def _rows_with(fixed: Mapping[str, int]) -> NDArray[np.int64]:
    """Numbers of the sprites whose named factors have the given indices."""
    axes = [np.arange(size) for size in FACTOR_SIZES]
    for name, index in fixed.items():
        if name not in FACTOR_NAMES:
            raise ValueError(f"dSprites' factors are {', '.join(FACTOR_NAMES)}, not {name!r}")
        position = FACTOR_NAMES.index(name)
        if not 0 <= index < FACTOR_SIZES[position]:
            raise ValueError(f"dSprites' {name} has the indices 0 to {FACTOR_SIZES[position] - 1}, got {index}")
        axes[position] = np.array([index])
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    return rows_of(grid)
