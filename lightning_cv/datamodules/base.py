"""The common ground of all data modules: loaders whose order and augmentation are functions of counters."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import cv2
import numpy as np
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_cv import interrupts
from lightning_cv.contracts import DetectionBatch, DetectionSample, Draw, LabelMap, Placement
from lightning_cv.datamodules.batches import collate_detection
from lightning_cv.datamodules.sampling import CounterBatchSampler
from lightning_cv.datasets.checksum import checksum_of_files
from lightning_cv.datasets.proposals import WithProposals, open_proposals
from lightning_cv.ops.counters import mix
from lightning_cv.transforms import DetectionTransform, EvalTransform, Mosaic

Sample = TypeVar("Sample", covariant=True)
Batch = TypeVar("Batch")
Loader = DataLoader[Any]  # what a loader yields is the batch type of each data module


class SampleSource(Protocol[Sample]):
    """A data set: a length, and samples by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Sample: ...


class BatchDataset(Dataset[Batch], Generic[Batch]):
    """Serves whole batches: each sample transformed under the seed of its (run, epoch, index), then collated.

    Args:
        source: the samples.
        transform: (sample, seed) to a prepared sample; the same seed gives the same result in any worker process.
        collate: prepared samples to a batch.
        seed: of the run.
    """

    def __init__(
        self,
        source: SampleSource[Any],
        transform: Callable[[Any, int], Any],
        collate: Callable[[list[Any]], Batch],
        seed: int,
    ) -> None:
        self.source, self.transform, self.collate, self.seed = source, transform, collate, seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draws: list[Draw]) -> Batch:
        transform = self.transform
        if isinstance(transform, DetectionTransform):
            transform = transform.for_batch(draws[0].batch, self.seed)
        return self.collate([self._prepared(transform, draw) for draw in draws])

    def _prepared(self, transform: Callable[[Any, int], Any], draw: Draw) -> Any:
        seed, sample = mix(self.seed, draw.epoch, draw.index), self.source[draw.index]
        if isinstance(transform, Mosaic):
            others = transform.partners(seed, len(self.source))
            sample = transform.combine([sample, *(self.source[index] for index in others)], seed)
        return transform(sample, seed)


def single_threaded_worker(_: int) -> None:
    """Loader workers share the cores already: OpenCV and torch must not start threads of their own in each."""
    interrupts.leave_to_parent()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def as_it_is(batch: Batch) -> Batch:
    """The batch: a loader's own default walks through it and turns tuples into lists."""
    return batch


class DataModule(LightningDataModule, ABC):
    """Chooses splits, transforms and loaders; knows no net.

    A subclass sets up its data in `setup` and gives `train_set()`, `val_set()`, `test_set()`: data sets that take a
    list of `Draw`s and return a batch. `seed` is the run's, set by the command line.
    """

    label_map: LabelMap
    seed: int = 0

    def __init__(self, batch_size: int, num_workers: int = 0, eval_batch_size: int | None = None) -> None:
        super().__init__()
        if batch_size < 1 or (eval_batch_size is not None and eval_batch_size < 1):
            raise ValueError(f"data.batch_size must be at least 1, got {batch_size} (evaluation: {eval_batch_size})")
        self.batch_size, self.num_workers = batch_size, num_workers
        self.eval_batch_size = eval_batch_size or batch_size

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of their ids."""
        return self.label_map.names

    @abstractmethod
    def train_set(self) -> Sized:
        """Batches for training, augmented."""

    @abstractmethod
    def val_set(self) -> Sized:
        """Batches for validation, not augmented."""

    @abstractmethod
    def test_set(self) -> Sized:
        """Batches for the test, not augmented."""

    @abstractmethod
    def prepare_image(self, image: NDArray[np.uint8], /) -> Tensor:
        """The tensor (C, H, W) that evaluation would make of one RGB image (H, W, 3), for prediction."""

    def files_of(self, use: str) -> list[Path]:
        """The lists and annotations that say what "train", "val" or "test" is; none where a data module has none."""
        return []

    def checksum(self, use: str) -> str | None:
        """What "train", "val" or "test" is, in 16 hex digits: of `files_of`; None where a data module does not say.

        Pictures that annotations belong to are named by them and not read.
        """
        files = self.files_of(use)
        return checksum_of_files(files) if files else None

    def batches_per_epoch(self) -> int:
        """Training batches of an epoch in this process, under the trainer's `limit_train_batches`.

        Schedules count in it. Lightning's own count would build the training loader before a checkpoint's progress is
        restored, and that loader would start at the wrong sample.
        """
        batches = len(self._sampler(self.train_set(), self.batch_size, shuffle=True))
        return _limited(batches, self.trainer.limit_train_batches if self.trainer else None)

    def train_dataloader(self) -> Loader:
        """Shuffled batches, going on where the trainer's progress says that training stopped."""
        dataset = self.train_set()
        seen = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready if self.trainer else 0
        limit = self.batches_per_epoch() if self.trainer else None
        return self._loader(dataset, self._sampler(dataset, self.batch_size, shuffle=True, start=seen, limit=limit))

    def val_dataloader(self) -> Loader:
        """The validation split in order."""
        return self._eval_loader(self.val_set())

    def test_dataloader(self) -> Loader:
        """The test split in order."""
        return self._eval_loader(self.test_set())

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The batch on the device. Lightning would look at each image id, and on the CPU at everything, for nothing."""
        if device.type == "cpu":
            return batch
        if not isinstance(batch, dict) or "image_ids" not in batch:
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        rest = {name: values for name, values in batch.items() if name != "image_ids"}
        return super().transfer_batch_to_device(rest, device, dataloader_idx) | {"image_ids": batch["image_ids"]}

    def _eval_loader(self, dataset: Sized) -> Loader:
        return self._loader(dataset, self._sampler(dataset, self.eval_batch_size, shuffle=False))

    def _sampler(
        self, dataset: Sized, batch_size: int, *, shuffle: bool, start: int = 0, limit: int | None = None
    ) -> CounterBatchSampler:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        connector = getattr(self.trainer, "_accelerator_connector", None)
        if world_size > 1 and getattr(connector, "use_distributed_sampler", False):
            raise ValueError(
                "our loaders share out the samples themselves: with several processes the Trainer needs "
                "use_distributed_sampler=False (experiments/_base/trainer.yaml), or it would share them out again"
            )
        return CounterBatchSampler(
            len(dataset),
            batch_size,
            seed=self.seed,
            shuffle=shuffle,
            drop_last=shuffle and len(dataset) >= batch_size * world_size,
            rank=rank,
            world_size=world_size,
            start=start,
            limit=limit,
        )

    def _loader(self, dataset: Any, sampler: CounterBatchSampler) -> Loader:  # any Dataset that takes Draws
        return DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,
            collate_fn=as_it_is,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=single_threaded_worker,
        )


class DetectionDataModule(DataModule):
    """A data module of boxes: what evaluation shows of a picture is the business of its `eval_transform`.

    With `proposals`, a folder or file of them (`datasets.proposals`), each sample has its picture's.
    """

    train_transform: DetectionTransform
    eval_transform: EvalTransform
    proposals: str | None = None

    @abstractmethod
    def source(self, use: Any) -> SampleSource[DetectionSample]:  # Any: "train", "val" or "test"
        """The samples for a use, read once."""

    def samples(self, use: str) -> SampleSource[DetectionSample]:
        """The samples for a use, with proposals where there are some."""
        source = self.source(use)
        return source if self.proposals is None else WithProposals(source, open_proposals(self.proposals))

    def train_set(self) -> BatchDataset[DetectionBatch]:
        """Augmented batches."""
        return BatchDataset(self.samples("train"), self.train_transform, collate_detection, self.seed)

    def val_set(self) -> BatchDataset[DetectionBatch]:
        """Batches of the validation split as evaluation shows them."""
        return BatchDataset(self.samples("val"), self.eval_transform, collate_detection, self.seed)

    def test_set(self) -> BatchDataset[DetectionBatch]:
        """Batches of the test split as evaluation shows them."""
        return BatchDataset(self.samples("test"), self.eval_transform, collate_detection, self.seed)

    def prepare_image(self, image: NDArray[np.uint8], /) -> Tensor:
        """The tensor (3, h, w) that evaluation would make of one RGB picture (H, W, 3)."""
        return self.eval_transform.image(image)

    def prepare_among(self, image: NDArray[np.uint8], proposals: NDArray[np.float32], /) -> DetectionBatch:
        """The batch that evaluation would make of one RGB picture (H, W, 3), its proposals (P, 4), and no objects.

        Proposals are in pixels of the picture; those of the batch's target in pixels of its image (1, 3, h, w).
        """
        sample: DetectionSample = {
            "image_id": "",
            "image": image,
            "boxes": np.zeros((0, 4), np.float32),
            "labels": np.zeros(0, np.int64),
            "difficult": np.zeros(0, np.bool_),
            "proposals": proposals,
        }
        return collate_detection([self.eval_transform(sample, 0)])

    def placement(self, height: int, width: int) -> Placement:
        """Where that tensor shows a picture of this size."""
        return self.eval_transform.placement(height, width)


def _limited(batches: int, limit: int | float | None) -> int:
    """How many of an epoch's batches Lightning will use under its `limit_train_batches`, at least one."""
    if isinstance(limit, int):
        return max(1, min(batches, limit))
    return max(1, int(batches * (1.0 if limit is None else limit)))
