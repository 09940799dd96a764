"""idx files: what they hold, and one clear message for each way they can be wrong."""

import gzip
import struct

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.mnist import load_mnist, load_mnist_splits, read_idx

NAMES = {"train": "train", "test": "t10k"}


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def root(tmp_path):
    """40 training images, compressed, and 10 test images, not."""
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 10)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, content in (("images-idx3", idx(images)), ("labels-idx1", idx(labels))):
            path = raw / f"{NAMES[part]}-{name}-ubyte"
            if part == "train":
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
    return tmp_path


def test_images_and_labels(root):
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    train = load_mnist(root, "train")
    np.testing.assert_array_equal(train.images[:, 0], images)
    assert train.labels.tolist() == [row % 10 for row in range(40)]
    assert train.ids[:2] == ["train_00000", "train_00001"]
    assert len(load_mnist(root, "test")) == 10


def test_borders_are_added_evenly(root):
    padded, plain = load_mnist(root, "test", size=32).images, load_mnist(root, "test").images
    assert padded.shape == (10, 1, 32, 32)
    assert torch.equal(padded[:, :, 2:30, 2:30], plain)
    assert padded.sum() == plain.sum()
    with pytest.raises(ValueError, match="size 20"):
        load_mnist(root, "test", size=20)


def test_splits_of_the_training_file(root):
    splits = load_mnist_splits(root, val_fraction=0.25)
    assert {name: len(split) for name, split in splits.items()} == {"train": 30, "val": 10, "test": 10}
    assert sorted(splits["train"].ids + splits["val"].ids) == load_mnist(root, "train").ids
    assert splits["val"].labels.bincount().tolist() == [1] * 10
    assert load_mnist_splits(root, val_fraction=0.25)["val"].ids == splits["val"].ids
    assert list(load_mnist_splits(root, parts=("test",))) == ["test"]


def test_missing_file_names_the_command(root):
    (root / "MNIST/raw/train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=rf"train-labels-idx1-ubyte.*`lightning-cv data get mnist --root {root}`"):
        load_mnist(root, "train")


BROKEN = {
    "cut gzip": (gzip.compress(idx(np.zeros((3, 28, 28), np.uint8)))[:-9], ".gz", "not a readable gzip file"),
    "no gzip": (b"hello there", ".gz", "not a readable gzip file"),
    "no idx": (b"\x89PNG\r\n\x1a\n", "", "is not an idx file: its first bytes are 89504e47, not 00000803"),
    "labels for images": (idx(np.zeros(3, np.uint8)), "", "first bytes are 00000801, not 00000803"),
    "nothing": (b"", "", "is not an idx file"),
    "cut header": (idx(np.zeros((3, 28, 28), np.uint8))[:9], "", "ends within its header of 16 bytes"),
    "cut data": (idx(np.zeros((3, 28, 28), np.uint8))[:-1], "", r"2351 bytes of data.*\(3, 28, 28\) says 2352"),
    "more data": (idx(np.zeros((3, 28, 28), np.uint8)) + b"0", "", r"2353 bytes of data.*says 2352"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files(tmp_path, kind):
    content, suffix, message = BROKEN[kind]
    path = tmp_path / f"train-images-idx3-ubyte{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 28, 28), np.uint8), np.zeros(4, np.uint8), "holds 3 images, .* 4 labels"),
        (np.zeros((3, 8, 9), np.uint8), np.zeros(3, np.uint8), "9 x 8 pixels, not 28 x 28"),
        (np.zeros((3, 28, 28), np.uint8), np.full(3, 10, np.uint8), "the label 10: digits are 0 to 9"),
    ],
)
def test_files_that_contradict_each_other(root, images, labels, message):
    (root / "MNIST/raw/t10k-images-idx3-ubyte").write_bytes(idx(images))
    (root / "MNIST/raw/t10k-labels-idx1-ubyte").write_bytes(idx(labels))
    with pytest.raises(DataError, match=message):
        load_mnist(root, "test")


@pytest.mark.data
def test_real_mnist(shared_data, tmp_path):
    train, test = load_mnist(shared_data, "train"), load_mnist(shared_data, "test")
    assert (len(train), len(test)) == (50_000, 5_000)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]  # how MNIST begins
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for path in (shared_data / "MNIST/raw").glob("t10k*.gz"):  # torchvision wants all four files, unpacked
        for name in (path.stem, path.stem.replace("t10k", "train")):
            (raw / name).write_bytes(gzip.decompress(path.read_bytes()))
    oracle = MNIST(tmp_path, train=False)
    assert torch.equal(test.images[:, 0], oracle.data)
    assert torch.equal(test.labels, oracle.targets)
