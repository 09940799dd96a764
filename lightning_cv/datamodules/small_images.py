"""Small grey images with a class each, all in memory: scikit-learn's digits, MNIST and Fashion-MNIST."""

from abc import abstractmethod
from typing import ClassVar, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from lightning_cv.datamodules.base import DataModule
from lightning_cv.datasets.checksum import checksum_of_tensors
from lightning_cv.datasets.digits import digit_labels, load_digit_splits
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.fetch import fetch
from lightning_cv.datasets.memory import InMemoryImages
from lightning_cv.datasets.mnist import Binarization, DrawnAnew, Resize, fashion_labels, load_mnist_splits


class _SmallImages(DataModule):
    """Splits that are loaded as whole tensors."""

    def __init__(self, size: int, batch_size: int, num_workers: int, eval_batch_size: int | None) -> None:
        super().__init__(batch_size, num_workers, eval_batch_size)
        self.size = size
        self.label_map = digit_labels()
        self._splits: dict[str, InMemoryImages] = {}

    @abstractmethod
    def load(self, splits: tuple[str, ...]) -> dict[str, InMemoryImages]:
        """At least the splits asked for."""

    def setup(self, stage: str) -> None:
        """Loads the splits that a stage needs."""
        needed = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ())
        missing = tuple(split for split in needed if split not in self._splits)
        if missing:
            self._splits |= self.load(missing)

    def split(self, name: str) -> InMemoryImages:
        """The images of "train", "val" or "test", loaded once."""
        if name not in self._splits:
            self._splits |= self.load((name,))
        return self._splits[name]

    def checksum(self, use: str) -> str:
        """Of the pixels and classes as they lie in memory."""
        images = self.split(use)
        return checksum_of_tensors([images.images, images.labels])

    def train_set(self) -> InMemoryImages:
        """The training images."""
        return self.split("train")

    def val_set(self) -> InMemoryImages:
        """The validation images."""
        return self.split("val")

    def test_set(self) -> InMemoryImages:
        """The test images."""
        return self.split("test")

    def prepare_image(self, image: NDArray[np.uint8], /) -> Tensor:
        """The tensor (1, size, size) of an RGB picture (H, W, 3): its grey values, stretched."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        shrinks = grey.shape[0] * grey.shape[1] > self.size**2
        small = cv2.resize(grey, (self.size, self.size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return from_numpy(np.asarray(small, np.float32) / 255).unsqueeze(0)  # (1, size, size)


class DigitsDataModule(_SmallImages):
    """scikit-learn's 1,797 handwritten digits, 1258 / 270 / 269 for training, validation and test.

    Args:
        size: side of an image in pixels; 8 is the original, more is interpolated bilinearly.
        batch_size, num_workers, eval_batch_size: of the loaders.
    """

    def __init__(
        self, size: int = 16, batch_size: int = 64, num_workers: int = 0, eval_batch_size: int | None = None
    ) -> None:
        super().__init__(size, batch_size, num_workers, eval_batch_size)

    def load(self, splits: tuple[str, ...]) -> dict[str, InMemoryImages]:
        """All splits: they are small."""
        return load_digit_splits(self.size)


class MNISTDataModule(_SmallImages):
    """MNIST from `root/MNIST/raw`.

    Args:
        root: data root.
        size: side of an image in pixels; 28 is the original, more enlarges as `resize` says.
        binarization: "grey" values as they are; "static": each pixel drawn black or white once, the same in every run;
            "dynamic": training images drawn anew in each epoch, validation and test as in "static".
        val_fraction: share of the training file kept for validation; its division is the same in every run. 0 is for
            training without validation.
        resize: "pad" adds black borders, "stretch" interpolates the 28 pixels bilinearly, as the nets of
            disentangling-vae had them. Goes with grey values only.
        download: fetch the files where there are none.
        batch_size, num_workers, eval_batch_size: of the loaders.
    """

    folder: ClassVar[str] = "MNIST"
    fetched_as: ClassVar[str] = "mnist"

    def __init__(
        self,
        root: str,
        size: int = 32,
        binarization: Binarization = "grey",
        val_fraction: float = 0.1,
        download: bool = False,
        batch_size: int = 128,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
        resize: Resize = "pad",
    ) -> None:
        super().__init__(size, batch_size, num_workers, eval_batch_size)
        if binarization not in get_args(Binarization):
            raise ValueError(f"data.binarization is one of {', '.join(get_args(Binarization))}, got {binarization!r}")
        if resize not in get_args(Resize):
            raise ValueError(f"data.resize is one of {', '.join(get_args(Resize))}, got {resize!r}")
        if resize == "stretch" and binarization != "grey":
            raise ValueError(f"data.resize stretch mixes black and white: data.binarization {binarization} needs pad")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"data.val_fraction must be at least 0 and less than 1, got {val_fraction}")
        self.root, self.binarization = root, binarization
        self.val_fraction, self.download, self.resize = val_fraction, download, resize

    def prepare_data(self) -> None:
        """Fetches the files if `download` is set."""
        if self.download:
            fetch(self.fetched_as, self.root)

    def split(self, name: str) -> InMemoryImages:
        """The images of "train", "val" or "test", loaded once."""
        images = super().split(name)
        if len(images) == 0 and name != "test":
            raise DataError(
                f"{self.folder} in {self.root} has no image for {name}: data.val_fraction is {self.val_fraction:g}"
            )
        return images

    def load(self, splits: tuple[str, ...]) -> dict[str, InMemoryImages]:
        """The splits asked for."""
        return load_mnist_splits(
            self.root, self.size, self.val_fraction, splits, self.folder, self.binarization, self.resize
        )

    def train_set(self) -> InMemoryImages:
        """The training images; those of dynamic binarization are drawn batch by batch under the run's seed."""
        images = self.split("train")
        return DrawnAnew(images, self.seed) if self.binarization == "dynamic" else images


class FashionMNISTDataModule(MNISTDataModule):
    """Fashion-MNIST from `root/FashionMNIST/raw`; arguments as for `MNISTDataModule`."""

    folder = "FashionMNIST"
    fetched_as = "fashion-mnist"

    def __init__(
        self,
        root: str,
        size: int = 32,
        binarization: Binarization = "grey",
        val_fraction: float = 0.1,
        download: bool = False,
        batch_size: int = 128,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
        resize: Resize = "pad",
    ) -> None:
        super().__init__(
            root, size, binarization, val_fraction, download, batch_size, num_workers, eval_batch_size, resize
        )
        self.label_map = fashion_labels()
