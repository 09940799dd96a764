"""A folder of pictures as a data module, and the data blocks of what this and its neighbours open."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser, set_parsing_settings
from PIL import Image

from lightning_cv.contracts import Draw
from lightning_cv.datamodules import CelebADataModule, DataModule, DSpritesDataModule, ImageFolderDataModule
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.repairs import DataWarning

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(20):
        height, width = rng.integers(20, 60, 2)
        pixels = np.full((height, width, 3), number * 10, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:02d}.png")
    return tmp_path


def whole(dataset, epoch=0):
    return dataset[[Draw(epoch, index) for index in range(len(dataset))]]


@pytest.mark.parametrize("cache", [True, False])
def test_every_picture_is_in_one_split(folder, cache):
    module = ImageFolderDataModule(str(folder), size=16, cache=cache)
    module.setup("fit")
    module.setup("test")
    batches = [whole(split) for split in (module.train_set(), module.val_set(), module.test_set())]
    assert [len(batch["image_ids"]) for batch in batches] == [16, 2, 2]
    names = [name for batch in batches for name in batch["image_ids"]]
    assert sorted(names) == [f"{number:02d}.png" for number in range(20)]
    for batch in batches:
        for image, name in zip(batch["images"], batch["image_ids"], strict=True):
            torch.testing.assert_close(image, torch.full((3, 16, 16), int(name[:2]) * 10 / 255))
        assert batch["labels"].tolist() == [0] * len(batch["images"])


def test_grey_pictures(folder):
    for cache in (True, False):
        module = ImageFolderDataModule(str(folder), size=16, grey=True, cache=cache)
        assert whole(module.train_set())["images"].shape == (16, 1, 16, 16)
    assert module.prepare_image(np.zeros((30, 20, 3), np.uint8)).shape == (1, 16, 16)


def test_memory_and_workers_change_nothing(folder):
    rng = np.random.default_rng(1)
    for number in range(20):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    read = []
    for cache, workers in ((True, 0), (False, 0), (True, 2)):
        module = ImageFolderDataModule(str(folder), size=24, crop=20, cache=cache, batch_size=4, num_workers=workers)
        module.setup("fit")
        batches = [*module.train_dataloader(), *module.val_dataloader()]
        read.append([(batch["image_ids"], batch["images"].tolist()) for batch in batches])
    assert read[0] == read[1] == read[2]


def test_broken_pictures_are_told_once(folder):
    for number in range(0, 20, 4):
        (folder / f"{number:02d}.png").write_bytes(b"\x89PNG\r\n")
    module = ImageFolderDataModule(str(folder), size=16)
    with pytest.warns(DataWarning, match=r"x picture that cannot be read left out") as caught:
        module.setup("fit")
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module.setup("fit")  # known by now
    readable = ImageFolderDataModule(str(folder), size=16, cache=False)
    with pytest.warns(DataWarning):
        readable.setup("fit")
    assert readable.source("train").names == module.source("train").names
    with pytest.raises(DataError, match=r"\.png.*strict"):
        ImageFolderDataModule(str(folder), strict=True).setup("fit")


def test_a_folder_that_is_not_there():
    with pytest.raises(DataError, match="no folder nowhere"):
        ImageFolderDataModule("nowhere").setup("fit")


@pytest.mark.parametrize(
    ("block", "kind", "root"),
    [
        ("folder", ImageFolderDataModule, "elsewhere/pictures"),
        ("celeba", CelebADataModule, "elsewhere"),
        ("dsprites", DSpritesDataModule, "elsewhere"),
    ],
)
def test_the_data_blocks_of_the_experiments(block, kind, root, monkeypatch):
    monkeypatch.setenv("LIGHTNING_CV_DATA", "elsewhere")
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    parser = ArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(DataModule, "data")
    module = parser.instantiate(parser.parse_args(["--config", str(EXPERIMENTS / f"_base/{block}.yaml")])).data
    assert type(module) is kind
    assert module.root == root
