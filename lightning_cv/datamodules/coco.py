"""COCO folders as data modules: the real ones, and any folder in that layout with classes of its own."""

from abc import abstractmethod
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import PanopticBatch, Placement
from lightning_cv.datamodules.base import BatchDataset, DataModule, DetectionDataModule
from lightning_cv.datamodules.batches_panoptic import collate_panoptic, pad_images
from lightning_cv.datasets.coco import CocoDetection
from lightning_cv.datasets.coco_json import FETCHED_AS, data_root
from lightning_cv.datasets.coco_panoptic import CocoPanoptic
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.fetch import fetch
from lightning_cv.transforms import DetectionTransform, EvalTransform
from lightning_cv.transforms.panoptic import PanopticEval, PanopticTransform

Source = TypeVar("Source", CocoDetection, CocoPanoptic)
Use = Literal["train", "val", "test"]


class _CocoFolder(DataModule, Generic[Source]):
    """Which json is read when: what both kinds of COCO data modules share.

    The classes are those of the files, known once one is read; all splits must declare the same.
    """

    fetched: tuple[str, ...]  # the parts of the real data set that a kind of reader needs

    def __init__(
        self, root: str, year: str, splits: dict[str, str], annotations: str | None, images: str | None, strict: bool,
        cache: bool, download: bool, batch_size: int, num_workers: int, eval_batch_size: int | None,
    ) -> None:  # fmt: skip
        super().__init__(batch_size, num_workers, eval_batch_size)
        if download and Path(root).name != "coco":
            raise ValueError(f"data.download puts COCO into a folder named coco, but data.root is {root}")
        self.root, self.year, self.splits = root, year, splits
        self.annotations, self.images = annotations, images
        self.strict, self.cache, self.download = strict, cache, download
        self._sources: dict[str, Source] = {}

    @abstractmethod
    def read(self, use: Use) -> Source:
        """The samples for "train", "val" or "test"."""

    def prepare_data(self) -> None:
        """Fetches what is missing if `download` is set."""
        if self.download:
            fetch(FETCHED_AS, data_root(Path(self.root)), self.fetched)

    def setup(self, stage: str) -> None:
        """Reads the files that a stage needs; a missing folder is told here, before anything is trained."""
        needed: dict[str, tuple[Use, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        for use in needed.get(stage, ()):
            self.source(use)

    def source(self, use: Use) -> Source:
        """The samples for "train", "val" or "test", read once; test and val may be the same."""
        if use == "test" and self.splits["test"] == self.splits["val"]:
            use = "val"
        if use not in self._sources:
            source = self.read(use)
            if getattr(self, "label_map", source.label_map) != source.label_map:
                raise DataError(f"{source.source} declares other categories than the files of the other splits")
            self.label_map = source.label_map
            self._sources[use] = source
        return self._sources[use]

    def files_of(self, use: str) -> list[Path]:
        """The json of the split."""
        return [self.source(use).source]  # type: ignore[arg-type]  # the base class takes any word

    def path(self, pattern: str | None, use: Use) -> str | None:
        """A path below the root with the split and the year filled in."""
        return None if pattern is None else pattern.format(split=self.splits[use], year=self.year)


class CocoDetectionDataModule(_CocoFolder[CocoDetection], DetectionDataModule):
    """Boxes of a COCO folder, and masks when asked.

    Args:
        root: the folder that holds `annotations`.
        train_transform: augmentation of the training images.
        eval_transform: what validation, test and prediction see.
        batch_size: images of a training batch, in each process.
        year: part of the file names.
        train, val, test: splits, the other part; COCO's own test images have no public annotations.
        annotations, images: paths below the root in other layouts, such as "{split}/_annotations.coco.json" and
            "{split}"; None for `annotations/instances_{split}{year}.json` and `{split}{year}`.
        with_masks: give masks of the objects as well.
        keep_empty: False leaves images without objects out of training.
        keep_crowd: False leaves COCO's crowd regions out of training; in evaluation they always stay.
        strict: stop at the first annotation that would have to be mended or left out.
        cache: keep decoded pictures in memory.
        download: fetch COCO 2017 where files are missing; `root` must be named "coco".
        num_workers, eval_batch_size: loader processes, and images of a batch in evaluation (None: as in training).
        proposals: boxes of likely objects, as for `VOCDetectionDataModule`.
    """

    fetched = ("train", "val", "annotations")

    def __init__(
        self,
        root: str,
        train_transform: DetectionTransform,
        eval_transform: EvalTransform,
        batch_size: int = 16,
        year: str = "2017",
        train: str = "train",
        val: str = "val",
        test: str = "val",
        annotations: str | None = None,
        images: str | None = None,
        with_masks: bool = False,
        keep_empty: bool = True,
        keep_crowd: bool = True,
        strict: bool = False,
        cache: bool = False,
        download: bool = False,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
        proposals: str | None = None,
    ) -> None:
        splits = {"train": train, "val": val, "test": test}
        super().__init__(
            root, year, splits, annotations, images, strict, cache, download, batch_size, num_workers, eval_batch_size
        )
        self.train_transform, self.eval_transform = train_transform, eval_transform
        self.with_masks, self.keep_empty, self.keep_crowd = with_masks, keep_empty, keep_crowd
        self.proposals = proposals

    def read(self, use: Use) -> CocoDetection:
        """The samples for "train", "val" or "test"."""
        return CocoDetection(
            self.root,
            self.splits[use],
            self.year,
            self.path(self.annotations, use),
            self.path(self.images, use),
            keep_empty=self.keep_empty or use != "train",
            keep_crowd=self.keep_crowd or use != "train",
            with_masks=self.with_masks,
            strict=self.strict,
            cache=self.cache,
        )


class CocoPanopticDataModule(_CocoFolder[CocoPanoptic]):
    """Segments of a COCO folder, things and stuff; arguments as for `CocoDetectionDataModule`.

    `annotations` is None for `annotations/panoptic_{split}{year}.json`; the PNG files lie beside it in a folder of its
    name without the ending. `is_thing` tells the classes apart once a split is read.
    """

    fetched = ("train", "val", "panoptic")
    is_thing: tuple[bool, ...]

    def __init__(
        self,
        root: str,
        train_transform: PanopticTransform,
        eval_transform: PanopticEval,
        batch_size: int = 8,
        year: str = "2017",
        train: str = "train",
        val: str = "val",
        test: str = "val",
        annotations: str | None = None,
        images: str | None = None,
        strict: bool = False,
        cache: bool = False,
        download: bool = False,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
    ) -> None:
        splits = {"train": train, "val": val, "test": test}
        super().__init__(
            root, year, splits, annotations, images, strict, cache, download, batch_size, num_workers, eval_batch_size
        )
        self.train_transform, self.eval_transform = train_transform, eval_transform

    def read(self, use: Use) -> CocoPanoptic:
        """The samples for "train", "val" or "test"."""
        source = CocoPanoptic(
            self.root,
            self.splits[use],
            self.year,
            self.path(self.annotations, use),
            images=self.path(self.images, use),
            strict=self.strict,
            cache=self.cache,
        )
        is_thing = tuple(source.is_thing.tolist())
        if getattr(self, "is_thing", is_thing) != is_thing and source.label_map == self.label_map:
            name = next(n for n, a, b in zip(self.label_map.names, is_thing, self.is_thing, strict=True) if a != b)
            raise DataError(f"{source.source} and the files of the other splits disagree whether {name!r} is a thing")
        self.is_thing = is_thing
        return source

    def train_set(self) -> BatchDataset[PanopticBatch]:
        """Augmented batches."""
        return BatchDataset(self.source("train"), self.train_transform, collate_panoptic, self.seed)

    def val_set(self) -> BatchDataset[PanopticBatch]:
        """Batches of the validation split."""
        return BatchDataset(self.source("val"), self.eval_transform, collate_panoptic, self.seed)

    def test_set(self) -> BatchDataset[PanopticBatch]:
        """Batches of the test split."""
        return BatchDataset(self.source("test"), self.eval_transform, collate_panoptic, self.seed)

    def prepare_image(self, image: NDArray[np.uint8], /) -> Tensor:
        """The tensor (3, h, w) that evaluation would make of one RGB picture (H, W, 3), its border padded."""
        return pad_images([self.eval_transform.image(image)])[0]

    def placement(self, height: int, width: int) -> Placement:
        """Where that tensor shows a picture of this size."""
        return self.eval_transform.placement(height, width)
