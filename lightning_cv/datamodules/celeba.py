"""CelebA's faces as a data module. Letters: N images of a batch; A attributes; S side of an image."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import Draw, ImageBatch, LabelMap
from lightning_cv.datamodules.base import BatchDataset, DataModule
from lightning_cv.datamodules.folder import collate_images
from lightning_cv.datasets.celeba import (
    ATTRIBUTES_FILE,
    IDENTITY_FILE,
    PARTITION_FILE,
    PARTITIONS,
    CelebAFaces,
    CelebATable,
    read_celeba,
)
from lightning_cv.datasets.errors import DataError
from lightning_cv.transforms.autoencoder import AutoencoderEval, AutoencoderTrain


class FaceBatch(ImageBatch):
    """Faces with all their attributes."""

    attributes: Tensor  # bool (N, A), in the order of `CelebATable.attribute_names`


class Faces(BatchDataset[ImageBatch]):
    """Whole batches of faces.

    Args:
        source: the faces.
        transform: (sample, seed) to a prepared sample.
        seed: of the run.
    """

    source: CelebAFaces

    def __init__(self, source: CelebAFaces, transform: AutoencoderEval, seed: int) -> None:
        super().__init__(source, transform, collate_images, seed)
        self.attributes = torch.from_numpy(source.attributes)  # (N, A) of all these faces

    def __getitem__(self, draws: list[Draw]) -> FaceBatch:
        attributes = self.attributes[[draw.index for draw in draws]]
        return {**super().__getitem__(draws), "attributes": attributes}


class CelebADataModule(DataModule):
    """Aligned faces from `root/celeba` in the official partition; the picture's middle, resized.

    Args:
        root: data root.
        size: side S of an image in pixels, usually 64 or 128.
        crop: side of the square cut from the middle of the 178 x 218 pixels.
        attribute: name of the attribute that is the class, 0 or 1; None gives all faces the class 0.
        flip: mirror training images at random.
        own_split: divide the official training images 80 / 10 / 10 by a fixed seed, for a folder that holds no others.
        cache: keep the prepared faces in memory: 2.5 GB for all at size 64, read in some minutes.
        strict: rows of pictures that are not there are an error instead of left out.
        batch_size, num_workers, eval_batch_size: of the loaders.
    """

    def __init__(
        self,
        root: str,
        size: int = 64,
        crop: int = 148,
        attribute: str | None = None,
        flip: bool = True,
        own_split: bool = False,
        cache: bool = False,
        strict: bool = False,
        batch_size: int = 64,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, eval_batch_size)
        self.root, self.attribute, self.own_split = root, attribute, own_split
        self.cache, self.strict = cache, strict
        self.eval_transform = AutoencoderEval(size, crop)
        self._train_transform = AutoencoderTrain(size, None if cache else crop, flip)
        self._of_kept = AutoencoderEval(size, None if cache else crop)
        names = ("face",) if attribute is None else (f"not {attribute}", attribute)
        self.label_map = LabelMap(names, first=0, dataset_ids=tuple(range(len(names))))
        self._table: CelebATable | None = None
        self._sources: dict[str, CelebAFaces] = {}

    def setup(self, stage: str) -> None:
        """Reads the lists, and the faces that a stage needs if they are kept in memory."""
        for use in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            self.source(use)

    def files_of(self, use: str) -> list[Path]:
        """The lists of all faces."""
        return [self.table.folder.parent / name for name in (ATTRIBUTES_FILE, PARTITION_FILE, IDENTITY_FILE)]

    @property
    def table(self) -> CelebATable:
        """What the lists say of all images, read once."""
        if self._table is None:
            self._table = read_celeba(self.root, self.strict)
        return self._table

    def source(self, use: str) -> CelebAFaces:
        """The faces for "train", "val" or "test", opened once."""
        if use not in self._sources:
            rows = self._rows(use)
            labels = None if self.attribute is None else self.table.attribute(self.attribute)[rows].astype(np.int64)
            shrink = self.eval_transform.square if self.cache else None
            self._sources[use] = CelebAFaces(self.table, rows, labels, shrink)
        return self._sources[use]

    def _rows(self, use: str) -> NDArray[np.int64]:
        rows = self.table.own_rows(use) if self.own_split else self.table.rows(use)
        if len(rows) == 0:
            counts = ", ".join(f"{split} {len(self.table.rows(split))}" for split in PARTITIONS)
            raise DataError(
                f"{self.table.folder.parent / PARTITION_FILE} leaves no picture of this folder for {use} ({counts}): "
                "`data.own_split: true` divides the training pictures instead"
            )
        return rows

    def train_set(self) -> Faces:
        """Batches, mirrored at random."""
        return Faces(self.source("train"), self._train_transform, self.seed)

    def val_set(self) -> Faces:
        """Batches of the validation faces."""
        return Faces(self.source("val"), self._of_kept, self.seed)

    def test_set(self) -> Faces:
        """Batches of the test faces."""
        return Faces(self.source("test"), self._of_kept, self.seed)

    def prepare_image(self, image: NDArray[np.uint8], /) -> Tensor:
        """The tensor (3, S, S) of one RGB picture (H, W, 3)."""
        return self.eval_transform.image(image)
