"""VOC folders as data modules: the real ones, and any folder in that layout with class names of its own."""

from abc import abstractmethod
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.contracts import LabelMap, SegmentationBatch
from lightning_cv.datamodules.base import BatchDataset, DataModule, DetectionDataModule
from lightning_cv.datamodules.batches import collate_segmentation
from lightning_cv.datasets.fetch import fetch
from lightning_cv.datasets.repairs import Repairs
from lightning_cv.datasets.voc import (
    VOC_CLASSES,
    VOCDetection,
    VOCInstances,
    VOCSegmentation,
    mask_labels,
    voc_box_labels,
)
from lightning_cv.datasets.voc_lists import SBD, Kind, Listed, read_split, years_of
from lightning_cv.datasets.windows import TrainingWindows, WindowedImages
from lightning_cv.transforms import (
    DetectionTransform,
    EvalTransform,
    SegmentationEval,
    SegmentationTransform,
)

Source = TypeVar("Source", VOCDetection, VOCInstances, VOCSegmentation)


class _VOCFolder(DataModule, Generic[Source]):
    """Which lists are read when: what both kinds of VOC data modules share."""

    def __init__(
        self, root: str, year: str, splits: dict[str, str], class_names: tuple[str, ...], cache: bool, download: bool,
        batch_size: int, num_workers: int, eval_batch_size: int | None,
    ) -> None:  # fmt: skip
        super().__init__(batch_size, num_workers, eval_batch_size)
        self.root, self.year, self.splits, self.names_of_objects = root, year, splits, class_names
        self.cache, self.download = cache, download
        self._sources: dict[str, Source] = {}

    def listed(self, use: str, kind: Kind) -> list[Listed]:
        """The images for "train", "val" or "test", as the lists have them."""
        return read_split(self.root, self.year, kind, self.splits[use], Repairs())

    @abstractmethod
    def read(self, use: str) -> Source:
        """The samples for "train", "val" or "test"."""

    def prepare_data(self) -> None:
        """Fetches the folder if `download` is set and it is missing."""
        if self.download:
            for year in sorted({self.year, *(year for split in self.splits.values() for year in years_of(split))}):
                fetch(SBD if year == SBD else f"voc{year}", self.root)

    def setup(self, stage: str) -> None:
        """Reads the lists that a stage needs; a missing folder is told here, before anything is trained."""
        for use in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            self.source(use)

    def source(self, use: str) -> Source:
        """The samples for "train", "val" or "test", read once."""
        if use not in self._sources:
            self._sources[use] = self.read(use)
        return self._sources[use]


class VOCDetectionDataModule(_VOCFolder[VOCDetection], DetectionDataModule):
    """Boxes of a VOC folder.

    Args:
        root: the folder that holds `VOCdevkit`.
        train_transform: augmentation of the training images.
        eval_transform: what validation, test and prediction see.
        batch_size: images of a training batch, in each process.
        year: names the folder `VOC{year}`.
        train, val, test: lists of `ImageSets/Main`, also of other years: "2007/trainval+2012/trainval".
        class_names: of another VOC-like folder, in the order of their labels; None for VOC's 20.
        keep_difficult: False leaves the objects marked difficult out of the training images.
        strict: stop at the first annotation that would have to be mended or left out.
        single_object: only images with exactly one object that is not difficult, for localization.
        cache: keep decoded pictures in memory.
        download: fetch the years that the lists name where their folders are missing.
        num_workers, eval_batch_size: loader processes, and images of a batch in evaluation (None: as in training).
        proposals: boxes of likely objects for nets that need them: what `lightning-cv proposals build` wrote for all
            splits in use, or an `.npz` (`datasets.proposals`).
    """

    def __init__(
        self,
        root: str,
        train_transform: DetectionTransform,
        eval_transform: EvalTransform,
        batch_size: int = 16,
        year: str = "2007",
        train: str = "train",
        val: str = "val",
        test: str = "test",
        class_names: list[str] | None = None,
        keep_difficult: bool = True,
        strict: bool = False,
        single_object: bool = False,
        cache: bool = False,
        download: bool = False,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
        proposals: str | None = None,
    ) -> None:
        names = tuple(class_names) if class_names is not None else VOC_CLASSES
        splits = {"train": train, "val": val, "test": test}
        super().__init__(root, year, splits, names, cache, download, batch_size, num_workers, eval_batch_size)
        self.train_transform, self.eval_transform = train_transform, eval_transform
        self.keep_difficult, self.strict, self.single_object = keep_difficult, strict, single_object
        self.proposals = proposals
        self.label_map: LabelMap = voc_box_labels(names)

    def files_of(self, use: str) -> list[Path]:
        """The annotations of the listed images, in their order."""
        return [item.xml for item in self.listed(use, "Main")]

    def read(self, use: str) -> VOCDetection:
        """The samples for "train", "val" or "test"."""
        keep = self.keep_difficult or use != "train"
        return VOCDetection(
            self.root, self.year, self.splits[use], self.names_of_objects, keep, self.cache, self.strict,
            self.single_object,
        )  # fmt: skip


class VOCInstancesDataModule(_VOCFolder[VOCInstances], DetectionDataModule):
    """Boxes and masks of the objects of a VOC folder; arguments as for `VOCDetectionDataModule`.

    The lists are those of `ImageSets/Segmentation`: only their images have object masks.
    """

    def __init__(
        self,
        root: str,
        train_transform: DetectionTransform,
        eval_transform: EvalTransform,
        batch_size: int = 8,
        year: str = "2012",
        train: str = "train",
        val: str = "val",
        test: str = "val",
        class_names: list[str] | None = None,
        cache: bool = False,
        download: bool = False,
        strict: bool = False,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
    ) -> None:
        names = tuple(class_names) if class_names is not None else VOC_CLASSES
        splits = {"train": train, "val": val, "test": test}
        super().__init__(root, year, splits, names, cache, download, batch_size, num_workers, eval_batch_size)
        self.train_transform, self.eval_transform, self.strict = train_transform, eval_transform, strict
        self.label_map: LabelMap = voc_box_labels(names)

    def files_of(self, use: str) -> list[Path]:
        """The annotations and object masks of the listed images, in their order."""
        return [file for item in self.listed(use, "Segmentation") for file in (item.xml, item.object_mask)]

    def read(self, use: str) -> VOCInstances:
        """The samples for "train", "val" or "test"."""
        return VOCInstances(self.root, self.year, self.splits[use], self.names_of_objects, self.cache, self.strict)


class VOCSegmentationDataModule(_VOCFolder[VOCSegmentation]):
    """Class masks of a VOC folder; arguments as for `VOCDetectionDataModule`, lists of `ImageSets/Segmentation`.

    Class 0 is the background; `class_names` are those of the objects, from 1.

    Args:
        binary: every object's pixels are of one class, "object", whatever the object; for nets with one logit.
        multilabel: label planes (K, H, W) of the objects, for `MultilabelSegModule`; VOC's do not overlap.
        windows: train on parts of the images, such as `ObjectWindows` or `ProposalWindows` of `datasets.windows`, which
            needs object masks; None for whole images. Validation and test see whole images.
    """

    def __init__(
        self,
        root: str,
        train_transform: SegmentationTransform,
        eval_transform: SegmentationEval,
        batch_size: int = 8,
        year: str = "2007",
        train: str = "train",
        val: str = "val",
        test: str = "test",
        class_names: list[str] | None = None,
        cache: bool = False,
        download: bool = False,
        strict: bool = False,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
        binary: bool = False,
        windows: TrainingWindows | None = None,
        multilabel: bool = False,
    ) -> None:
        if multilabel and windows is not None:
            raise ValueError("VOCSegmentationDataModule: windows are of class masks, not of label planes")
        names = tuple(class_names) if class_names is not None else VOC_CLASSES
        splits = {"train": train, "val": val, "test": test}
        super().__init__(root, year, splits, names, cache, download, batch_size, num_workers, eval_batch_size)
        self.train_transform, self.eval_transform, self.strict = train_transform, eval_transform, strict
        self.binary, self.multilabel, self.windows = binary, multilabel, windows
        self._windowed: WindowedImages | None = None
        self.label_map: LabelMap = mask_labels(names, binary, multilabel)

    def files_of(self, use: str) -> list[Path]:
        """The class masks of the listed images, in their order; of windows also object masks and proposals."""
        listed = self.listed(use, "Segmentation")
        files = [item.class_mask for item in listed]
        if self.windows is not None and use == "train":
            files += [*(item.object_mask for item in listed), *self.windows.files()]
        return files

    def read(self, use: str) -> VOCSegmentation:
        """The samples for "train", "val" or "test"."""
        modes = {"binary": self.binary, "multilabel": self.multilabel}
        return VOCSegmentation(
            self.root, self.year, self.splits[use], self.names_of_objects, self.cache, self.strict, **modes
        )

    def train_set(self) -> BatchDataset[SegmentationBatch]:
        """Augmented batches."""
        return BatchDataset(self._train_source(), self.train_transform, collate_segmentation, self.seed)

    def _train_source(self) -> VOCSegmentation | WindowedImages:
        if self.windows is None:
            return self.source("train")
        if self._windowed is None:
            self._windowed = self.windows.of(self.source("train"))
        return self._windowed

    def val_set(self) -> BatchDataset[SegmentationBatch]:
        """Padded batches of the validation list."""
        return BatchDataset(self.source("val"), self.eval_transform, collate_segmentation, self.seed)

    def test_set(self) -> BatchDataset[SegmentationBatch]:
        """Padded batches of the test list."""
        return BatchDataset(self.source("test"), self.eval_transform, collate_segmentation, self.seed)

    def prepare_image(self, image: NDArray[np.uint8], /) -> Tensor:
        """The tensor that evaluation would make of one RGB picture (H, W, 3), which lies in its upper left corner."""
        return self.eval_transform.image(image)
