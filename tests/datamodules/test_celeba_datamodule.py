"""CelebA as a data module, on drawn faces."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from lightning_cv.contracts import Draw
from lightning_cv.datamodules import CelebADataModule
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.small_writers import CELEBA_ATTRIBUTES, write_celeba

COUNTS = {"train": 20, "val": 6, "test": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_celeba(root, COUNTS, seed=2)
    return str(root)


def whole(dataset, epoch=0):
    return dataset[[Draw(epoch, index) for index in range(len(dataset))]]


def squares_of(root, ids, size):
    """The middle 148 pixels by hand."""
    pictures = [np.array(Image.open(f"{root}/celeba/img_align_celeba/{name}.jpg"))[35:183, 15:163] for name in ids]
    small = [cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) for picture in pictures]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2) / 255


def test_splits_are_the_official_ones(root):
    module = CelebADataModule(root)
    module.setup("fit")
    module.setup("test")
    ids = [whole(split)["image_ids"] for split in (module.train_set(), module.val_set(), module.test_set())]
    assert [len(part) for part in ids] == [20, 6, 4]
    assert [name for part in ids for name in part] == [f"{number:06d}" for number in range(1, 31)]
    assert module.class_names == ("face",)


@pytest.mark.parametrize("size", [64, 128])
def test_evaluation_sees_the_middle(root, size):
    batch = whole(CelebADataModule(root, size=size).val_set())
    assert batch["images"].shape == (6, 3, size, size)
    torch.testing.assert_close(batch["images"], squares_of(root, batch["image_ids"], size))
    assert batch["labels"].tolist() == [0] * 6


def test_attributes_come_with_the_faces(root):
    module = CelebADataModule(root, attribute="Smiling", batch_size=5)
    module.setup("fit")
    column = CELEBA_ATTRIBUTES.index("Smiling")
    assert module.class_names == ("not Smiling", "Smiling")
    for batch in module.train_dataloader():
        rows = [int(name) - 1 for name in batch["image_ids"]]
        assert batch["attributes"].tolist() == module.table.attributes[rows].tolist()
        assert batch["labels"].tolist() == batch["attributes"][:, column].long().tolist()
    assert 0 < whole(module.train_set())["labels"].sum() < 20


def test_training_mirrors_half_of_the_faces(root):
    module = CelebADataModule(root, size=32)
    plain = squares_of(root, whole(module.train_set())["image_ids"], 32)
    mirrored = []
    for epoch in range(4):
        images = whole(module.train_set(), epoch)["images"]
        as_it_is = (images == plain).flatten(1).all(dim=1)
        turned = (images == plain.flip(-1)).flatten(1).all(dim=1)
        assert (as_it_is ^ turned).all()
        mirrored.append(turned)
    assert 20 <= sum(int(turned.sum()) for turned in mirrored) <= 60
    assert not torch.equal(mirrored[0], mirrored[1])
    unmoved = CelebADataModule(root, size=32, flip=False).train_set()
    torch.testing.assert_close(whole(unmoved)["images"], plain)


@pytest.mark.parametrize("split", ["train_set", "val_set"])
def test_faces_in_memory_are_the_same(root, split):
    kept, read = (getattr(CelebADataModule(root, size=48, crop=40, cache=cache), split)() for cache in (True, False))
    for epoch in (0, 1):
        one, other = whole(kept, epoch), whole(read, epoch)
        assert torch.equal(one["images"], other["images"])
        assert one["image_ids"] == other["image_ids"]


def test_worker_processes_change_nothing(root):
    read = []
    for workers in (0, 2):
        module = CelebADataModule(root, size=16, batch_size=7, num_workers=workers)
        module.seed = 5
        module.setup("fit")
        batches = [*module.train_dataloader(), *module.val_dataloader()]
        read.append([(batch["image_ids"], batch["images"].tolist(), batch["attributes"].tolist()) for batch in batches])
    assert read[0] == read[1]
    assert len(read[0]) == 2 + 1


def test_a_prepared_image_is_what_evaluation_sees(root):
    for cache in (False, True):
        module = CelebADataModule(root, cache=cache)
        picture = np.array(Image.open(f"{root}/celeba/img_align_celeba/000021.jpg"))
        assert torch.equal(module.prepare_image(picture), module.val_set()[[Draw(0, 0)]]["images"][0])


def test_an_empty_partition_is_told_with_the_way_out(tmp_path):
    write_celeba(tmp_path, {"train": 20}, seed=2)
    module = CelebADataModule(str(tmp_path))
    with pytest.raises(DataError, match=r"list_eval_partition\.txt.*val \(train 20, val 0, test 0\).*own_split"):
        module.setup("fit")
    own = CelebADataModule(str(tmp_path), own_split=True)
    own.setup("fit")
    own.setup("test")
    assert [len(split) for split in (own.train_set(), own.val_set(), own.test_set())] == [16, 2, 2]


def test_bad_settings(root):
    with pytest.raises(DataError, match=r"no attribute 'smiling'.*Smiling"):
        CelebADataModule(root, attribute="smiling").setup("fit")
    with pytest.raises(ValueError, match="at least 1"):
        CelebADataModule(root, crop=0)
    with pytest.raises(DataError, match="lightning-cv data get celeba --root nowhere"):
        CelebADataModule("nowhere").setup("fit")


@pytest.mark.data
def test_real_faces(shared_data):
    with pytest.raises(DataError, match="train 74, val 0, test 0"):
        CelebADataModule(str(shared_data)).setup("fit")
    module = CelebADataModule(str(shared_data), own_split=True, attribute="Male", batch_size=20, cache=True)
    module.setup("fit")
    module.setup("test")
    assert [len(split) for split in (module.train_set(), module.val_set(), module.test_set())] == [60, 7, 7]
    batch = next(iter(module.train_dataloader()))
    assert batch["images"].shape == (20, 3, 64, 64)
    assert batch["attributes"].shape == (20, 40)
    assert 0.2 < batch["images"].mean() < 0.8
