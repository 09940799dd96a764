"""A plain folder of pictures as a data module, and what it shares with faces. Letters: N images of a batch; C, S."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import ImageBatch, LabelMap
from lightning_cv.datamodules.base import BatchDataset, DataModule
from lightning_cv.datasets.checksum import checksum_of_names
from lightning_cv.datasets.folder import FolderImages, find_pictures, split_pictures
from lightning_cv.datasets.repairs import Repairs
from lightning_cv.transforms.autoencoder import AutoencoderEval, AutoencoderTrain, PreparedImage


def collate_images(samples: list[PreparedImage]) -> ImageBatch:
    """A batch of images of one size."""
    return {
        "images": torch.stack([sample.image for sample in samples]),
        "labels": torch.tensor([sample.label for sample in samples], dtype=torch.int64),
        "image_ids": [sample.image_id for sample in samples],
    }


class ImageFolderDataModule(DataModule):
    """Any pictures below a folder, for autoencoders: no classes, split at random, the same in every run.

    Args:
        root: the folder; png, jpg, bmp and webp files below it count.
        size: side S of an image in pixels.
        crop: side in the file's pixels of the square cut from the middle; None for the largest one.
        grey: one channel instead of three.
        flip: mirror training images at random.
        val_fraction, test_fraction: shares kept for validation and test.
        cache: keep the squares in memory, S * S * C bytes each.
        check: read every file before training, so that broken ones are left out; needless with `cache`, which does.
            Otherwise a broken one stops the run when its turn comes.
        strict: stop at the first picture that cannot be read.
        batch_size, num_workers, eval_batch_size: of the loaders.
    """

    def __init__(
        self,
        root: str,
        size: int = 64,
        crop: int | None = None,
        grey: bool = False,
        flip: bool = True,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        cache: bool = True,
        check: bool = True,
        strict: bool = False,
        batch_size: int = 64,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, eval_batch_size)
        self.root, self.cache, self.check, self.strict = root, cache, check, strict
        self.fractions = (val_fraction, test_fraction)
        self.eval_transform = AutoencoderEval(size, crop, grey)
        self.train_transform = AutoencoderTrain(size, None if cache else crop, flip, grey)
        self._of_kept = AutoencoderEval(size, None if cache else crop, grey)
        self.label_map = LabelMap(("picture",), first=0, dataset_ids=(0,))
        self._sources: dict[str, FolderImages] = {}

    def setup(self, stage: str) -> None:
        """Reads the pictures that a stage needs; those that cannot be read are told here, once."""
        self._read({"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()))

    def source(self, use: str) -> FolderImages:
        """The pictures for "train", "val" or "test", opened once."""
        self._read((use,))
        return self._sources[use]

    def _read(self, uses: tuple[str, ...]) -> None:
        missing = [use for use in uses if use not in self._sources]
        if not missing:
            return
        parts = split_pictures(find_pictures(self.root), *self.fractions)
        repairs = Repairs(self.strict)
        shrink = self.eval_transform.square if self.cache else None
        for use in missing:
            self._sources[use] = FolderImages(self.root, parts[use], repairs, shrink, self.check)
        repairs.tell(self.root)

    def checksum(self, use: str) -> str:
        """Of the names and sizes of the pictures."""
        root = Path(self.root)
        return checksum_of_names(root, (root / name for name in self.source(use).names))

    def train_set(self) -> BatchDataset[ImageBatch]:
        """Batches, mirrored at random."""
        return BatchDataset(self.source("train"), self.train_transform, collate_images, self.seed)

    def val_set(self) -> BatchDataset[ImageBatch]:
        """Batches of the validation pictures."""
        return BatchDataset(self.source("val"), self._of_kept, collate_images, self.seed)

    def test_set(self) -> BatchDataset[ImageBatch]:
        """Batches of the test pictures."""
        return BatchDataset(self.source("test"), self._of_kept, collate_images, self.seed)

    def prepare_image(self, image: NDArray[np.uint8], /) -> Tensor:
        """The tensor (C, S, S) of one RGB picture (H, W, 3)."""
        return self.eval_transform.image(image)
