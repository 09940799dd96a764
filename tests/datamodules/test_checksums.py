"""Two folders with the same annotations have one checksum; a single changed annotation gives its split another."""

import re

import numpy as np
import pytest
from PIL import Image
from small_folders import make_celeba, make_mnist

from lightning_cv import datamodules
from lightning_cv.datamodules import (
    CelebADataModule,
    DataModule,
    DetectionDataModule,
    DigitsDataModule,
    DrawnDetectionDataModule,
    DrawnInstancesDataModule,
    DrawnMultilabelDataModule,
    DrawnPanopticDataModule,
    DrawnSegmentationDataModule,
    DSpritesDataModule,
    FashionMNISTDataModule,
    ImageFolderDataModule,
    MNISTDataModule,
    VOCInstancesDataModule,
)
from lightning_cv.datasets.drawn import DRAWN_CLASSES
from lightning_cv.transforms import DetectionEval, FlipOnly

SMALL = {"train": 2, "val": 1, "test": 1, "size": 64}


def drawn(kind, root):
    module = kind(str(root), **SMALL)
    module.prepare_data()
    return module


def drawn_instances_of_voc(root):
    inside = drawn(DrawnDetectionDataModule, root).root
    return VOCInstancesDataModule(
        inside, FlipOnly(), DetectionEval(64), year="2007", class_names=list(DRAWN_CLASSES), test="test"
    )


def pictures(root):
    for number in range(8):
        Image.fromarray(np.full((20, 20, 3), number, np.uint8)).save(root / f"{number}.png")
    return ImageFolderDataModule(str(root), val_fraction=0.3, test_fraction=0.3)


def mnist(kind, root):
    make_mnist(root)
    if kind is FashionMNISTDataModule:
        (root / "MNIST").rename(root / "FashionMNIST")
    return kind(str(root), val_fraction=0.5)


def sprites(root):
    module = DSpritesDataModule(str(root), fixed={"orientation": 0, "x": 0}, held_out=20)
    module._packed = Numbered()
    return module


class Numbered:
    """Stands for 377 MB of packed sprites: each is made of its number."""

    def __getitem__(self, rows):
        return np.repeat(rows[:, None], 8, axis=1)


MAKERS = {
    DrawnDetectionDataModule: lambda root: drawn(DrawnDetectionDataModule, root),
    DrawnSegmentationDataModule: lambda root: drawn(DrawnSegmentationDataModule, root),
    DrawnInstancesDataModule: lambda root: drawn(DrawnInstancesDataModule, root),
    DrawnMultilabelDataModule: lambda root: DrawnMultilabelDataModule(**SMALL),
    DrawnPanopticDataModule: lambda root: drawn(DrawnPanopticDataModule, root),
    VOCInstancesDataModule: drawn_instances_of_voc,
    CelebADataModule: lambda root: (make_celeba(root), CelebADataModule(str(root)))[1],
    MNISTDataModule: lambda root: mnist(MNISTDataModule, root),
    FashionMNISTDataModule: lambda root: mnist(FashionMNISTDataModule, root),
    ImageFolderDataModule: pictures,
    DigitsDataModule: lambda root: DigitsDataModule(),
    DSpritesDataModule: sprites,
}
BASES = {DataModule, DetectionDataModule}
USES = ("train", "val", "test")


def checksums(module):
    return [module.checksum(use) for use in USES]


@pytest.mark.parametrize("kind", MAKERS)
def test_equal_data_have_equal_checksums_and_splits_differ(kind, tmp_path):
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(checksums(MAKERS[kind](tmp_path / name)))
    assert found[0] == found[1]
    assert all(re.fullmatch("[0-9a-f]{16}", value) for value in found[0])
    assert len(set(found[0])) == (1 if kind is CelebADataModule else 3)  # CelebA's splits share their lists


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        (DrawnDetectionDataModule, "Annotations/*.xml"),
        (DrawnSegmentationDataModule, "SegmentationClass/*.png"),
        (VOCInstancesDataModule, "SegmentationObject/*.png"),
        (DrawnInstancesDataModule, "instances_train*.json"),
        (DrawnPanopticDataModule, "panoptic_train*.json"),
    ],
)
def test_a_changed_annotation_changes_the_checksum_of_its_split(kind, pattern, tmp_path):
    module = MAKERS[kind](tmp_path)
    before = checksums(module)
    changed = min(path for path in tmp_path.rglob(pattern) if "train" in path.name)
    changed.write_bytes(changed.read_bytes() + b"\n")
    after = checksums(module)
    assert [one == two for one, two in zip(before, after, strict=True)] == [False, True, True]


def test_every_data_module_is_among_those_that_are_tried():
    kinds = {getattr(datamodules, name) for name in datamodules.__all__} - BASES
    assert all(kind in MAKERS or any(issubclass(one, kind) for one in MAKERS) for kind in kinds)
    assert all(issubclass(kind, DataModule) for kind in MAKERS)
