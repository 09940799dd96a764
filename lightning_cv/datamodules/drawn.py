"""Drawn scenes as data modules: the VOC folder is drawn at first use, then read like any other."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import SegmentationBatch
from lightning_cv.datamodules.base import BatchDataset, DataModule
from lightning_cv.datamodules.batches import collate_segmentation
from lightning_cv.datamodules.voc import VOCDetectionDataModule, VOCSegmentationDataModule
from lightning_cv.datasets.checksum import checksum_of_tensors
from lightning_cv.datasets.drawn import DRAWN_CLASSES, MOST_OBJECTS, DrawnLabels
from lightning_cv.datasets.windows import TrainingWindows
from lightning_cv.datasets.writers import drawn_folder, write_voc
from lightning_cv.transforms import (
    DetectionEval,
    DetectionTransform,
    EvalTransform,
    FlipOnly,
    SegmentationEval,
    SegmentationFlip,
    SegmentationTransform,
)

_YEAR = "2007"  # of the layout: drawn scenes are no year's
_TOLD = 8
"""Scenes that a checksum looks at: one is drawn in 2 ms, and all are drawn alike."""


class DrawnDetectionDataModule(VOCDetectionDataModule):
    """Boxes of drawn scenes: 10 classes, 1 to 8 overlapping objects a scene, or another number.

    Args:
        root: data root; the scenes lie in its folder `drawn`.
        train, val, test: numbers of scenes.
        size: of a scene in pixels.
        draw_seed: of the scenes; the run's seed does not touch them.
        train_transform, eval_transform: None for mirroring with slight colour gains, and for the scenes as they are.
        batch_size, cache, num_workers, eval_batch_size, proposals: as for `VOCDetectionDataModule`.
        max_objects: of a scene; 1 for localization.
    """

    def __init__(
        self,
        root: str,
        train: int = 2000,
        val: int = 300,
        test: int = 300,
        size: int = 128,
        draw_seed: int = 0,
        train_transform: DetectionTransform | None = None,
        eval_transform: EvalTransform | None = None,
        batch_size: int = 32,
        cache: bool = True,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
        proposals: str | None = None,
        max_objects: int = MOST_OBJECTS,
    ) -> None:
        self.counts, self.size, self.draw_seed = {"train": train, "val": val, "test": test}, size, draw_seed
        self.max_objects = max_objects
        super().__init__(
            str(drawn_folder(root, "voc", self.counts, size, draw_seed, max_objects)),
            train_transform or FlipOnly(jitter=0.1),
            eval_transform or DetectionEval(size),
            batch_size=batch_size,
            year=_YEAR,
            class_names=list(DRAWN_CLASSES),
            cache=cache,
            num_workers=num_workers,
            eval_batch_size=eval_batch_size,
            proposals=proposals,
            single_object=max_objects == 1,
        )

    def prepare_data(self) -> None:
        """Draws the scenes unless they are there."""
        write_voc(self.root, _YEAR, self.counts, self.draw_seed, self.size, self.max_objects)


class DrawnSegmentationDataModule(VOCSegmentationDataModule):
    """Class masks of drawn scenes: the ground and 10 classes; arguments as for `DrawnDetectionDataModule`.

    Args:
        binary, windows: see `VOCSegmentationDataModule`.
    """

    def __init__(
        self,
        root: str,
        train: int = 2000,
        val: int = 300,
        test: int = 300,
        size: int = 128,
        draw_seed: int = 0,
        train_transform: SegmentationTransform | None = None,
        eval_transform: SegmentationEval | None = None,
        batch_size: int = 32,
        cache: bool = True,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
        binary: bool = False,
        windows: TrainingWindows | None = None,
    ) -> None:
        self.counts, self.size, self.draw_seed = {"train": train, "val": val, "test": test}, size, draw_seed
        super().__init__(
            str(drawn_folder(root, "voc", self.counts, size, draw_seed)),
            train_transform or SegmentationFlip(jitter=0.1),
            eval_transform or SegmentationEval(32),
            batch_size=batch_size,
            year=_YEAR,
            class_names=list(DRAWN_CLASSES),
            cache=cache,
            num_workers=num_workers,
            eval_batch_size=eval_batch_size,
            binary=binary,
            windows=windows,
        )

    def prepare_data(self) -> None:
        """Draws the scenes unless they are there."""
        write_voc(self.root, _YEAR, self.counts, self.draw_seed, self.size)


class DrawnMultilabelDataModule(DataModule):
    """Label planes of drawn scenes: 10 classes that overlap, each where its objects are, also behind others.

    For `MultilabelSegModule`. Nothing is written: scenes are drawn as they are asked for.

    Args:
        train, val, test: numbers of scenes.
        size: of a scene in pixels.
        draw_seed: of the scenes; the run's seed does not touch them.
        train_transform, eval_transform: None for mirroring with slight colour gains, and for the scenes as they are.
        batch_size, num_workers, eval_batch_size: as for `VOCDetectionDataModule`.
    """

    def __init__(
        self,
        train: int = 2000,
        val: int = 300,
        test: int = 300,
        size: int = 128,
        draw_seed: int = 0,
        train_transform: SegmentationTransform | None = None,
        eval_transform: SegmentationEval | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, eval_batch_size)
        counts = {"train": train, "val": val, "test": test}
        self.sources = {split: DrawnLabels(split, count, draw_seed, size) for split, count in counts.items()}
        self.label_map = self.sources["train"].label_map
        self.train_transform = train_transform or SegmentationFlip(jitter=0.1)
        self.eval_transform = eval_transform or SegmentationEval(32)

    def checksum(self, use: str) -> str:
        """Of the settings by which scenes are drawn, and of the first ones, by which other ways to draw are told."""
        source = self.sources[use]
        first = [source[index] for index in range(min(len(source), _TOLD))]
        settings = torch.tensor([source.count, source.seed, source.size])
        pixels = (torch.from_numpy(array) for scene in first for array in (scene["image"], scene["mask"]))
        return checksum_of_tensors([settings, *pixels])

    def train_set(self) -> BatchDataset[SegmentationBatch]:
        """Augmented batches."""
        return BatchDataset(self.sources["train"], self.train_transform, collate_segmentation, self.seed)

    def val_set(self) -> BatchDataset[SegmentationBatch]:
        """Padded batches of the validation scenes."""
        return BatchDataset(self.sources["val"], self.eval_transform, collate_segmentation, self.seed)

    def test_set(self) -> BatchDataset[SegmentationBatch]:
        """Padded batches of the test scenes."""
        return BatchDataset(self.sources["test"], self.eval_transform, collate_segmentation, self.seed)

    def prepare_image(self, image: NDArray[np.uint8], /) -> Tensor:
        """The tensor that evaluation would make of one RGB picture (H, W, 3), which lies in its upper left corner."""
        return self.eval_transform.image(image)
