"""scikit-learn's handwritten digits: 1,797 real images of 8 x 8 pixels that come with the package, no download.

Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits", UCI repository (its test part).
"""

import torch
from torch.nn import functional

from lightning_cv.contracts import LabelMap
from lightning_cv.datasets.memory import InMemoryImages, stratified_split

DIGIT_CLASSES = tuple("0123456789")
"""Class names in the order of their labels, 0 to 9."""

DIGITS_SPLIT_SEED = 1998
"""Seed of the division into train, val and test."""

DIGITS_FRACTIONS = (0.7, 0.15, 0.15)
"""Shares of train, val and test: 1258, 270 and 269 images."""


def digit_labels() -> LabelMap:
    """The label map of digits: the class is the digit."""
    return LabelMap(DIGIT_CLASSES, first=0, dataset_ids=tuple(range(10)))


def load_digit_splits(size: int = 8) -> dict[str, InMemoryImages]:
    """Train, val and test as (N, 1, size, size), enlarged bilinearly where `size` is not 8; ids count the rows."""
    if size < 8:
        raise ValueError(f"digits have 8 x 8 pixels and are only enlarged, got size {size}")
    from sklearn.datasets import load_digits  # slow to import, and nothing else here needs it

    pixels, classes = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).to(torch.float32).view(-1, 1, 8, 8) / 16
    if size != 8:
        images = functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    labels = torch.from_numpy(classes).to(torch.int64)
    everything = InMemoryImages(images, labels, [f"digits_{row:04d}" for row in range(len(labels))])
    rows = stratified_split(labels, DIGITS_FRACTIONS, DIGITS_SPLIT_SEED)
    return {split: everything.subset(part) for split, part in zip(("train", "val", "test"), rows, strict=True)}
