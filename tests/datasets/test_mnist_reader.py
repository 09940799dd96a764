"""idx files: what they hold, and one clear message for each way they can be wrong."""

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import MNIST, FashionMNIST
from torchvision.transforms import Resize

from lightning_cv.contracts import Draw
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.memory import InMemoryImages
from lightning_cv.datasets.mnist import (
    FASHION_CLASSES,
    DrawnAnew,
    draw_pixels,
    fashion_labels,
    image_seeds,
    load_mnist,
    load_mnist_splits,
    read_idx,
)
from lightning_cv.datasets.small_writers import write_mnist
from lightning_cv.ops.counters import mix

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


def test_stretched_images_are_those_of_torchvisions_resize(root):
    digits = read_idx(root / "MNIST/raw/train-images-idx3-ubyte.gz", 3)
    expected = np.stack([np.asarray(Resize(40)(Image.fromarray(digit))) for digit in digits])
    np.testing.assert_array_equal(load_mnist(root, "train", 40, resize="stretch").images[:, 0], expected)
    splits = load_mnist_splits(root, 40, parts=("train", "val", "test"), resize="stretch")
    shown = {name: image for split in splits.values() for name, image in zip(split.ids, split.images, strict=True)}
    np.testing.assert_array_equal(np.stack([shown[f"train_{row:05d}"][0] for row in range(40)]), expected)
    assert torch.equal(splits["test"].images, load_mnist(root, "test", 40, resize="stretch").images)
    assert torch.equal(load_mnist(root, "test", 28, resize="stretch").images, load_mnist(root, "test").images)


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


# --- binary images


def test_seeds_of_images_are_those_of_the_counters():
    epochs, indices = np.array([0, 3, 3, 2**40]), np.array([5, 0, 7, 1])
    for seed in (0, 7, 2**63 + 5):
        expected = [mix(seed, epoch, index) for epoch, index in zip(epochs.tolist(), indices.tolist(), strict=True)]
        assert image_seeds(seed, epochs, indices).tolist() == expected


def white_slowly(values, seed):
    """One image by whole numbers alone: SplitMix64 from the seed on, 16 bits a pixel, the lowest first."""
    white = []
    for pixel, value in enumerate(values):
        state = (seed + (pixel // 4 + 1) * 0x9E3779B97F4A7C15) % 2**64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        number = state ^ (state >> 31)
        white.append((number >> (16 * (pixel % 4))) % 2**16 < round(value * 65536 / 255))
    return white


def test_pixels_beside_a_loop():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 27), dtype=np.uint8)  # not a multiple of four
    seeds = np.array([mix(1), mix(2), 2**64 - 1], np.uint64)
    drawn = draw_pixels(pixels, seeds)
    assert drawn.tolist() == [
        white_slowly(row, seed) for row, seed in zip(pixels.tolist(), seeds.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(draw_pixels(pixels[1:2], seeds[1:2]), drawn[1:2])
    assert draw_pixels(pixels[:0], seeds[:0]).shape == (0, 27)


def test_values_are_chances():
    images = 20_000
    pixels = np.tile(np.array([0, 1, 64, 128, 254, 255, 128, 128], np.uint8), (images, 1))
    white = draw_pixels(pixels, image_seeds(0, np.zeros(images, np.int64), np.arange(images)))
    shares = white.mean(axis=0)
    assert shares[0] == 0
    assert shares[5] == 1
    chances = pixels[0] / 255
    errors = np.sqrt(chances * (1 - chances) / images)
    assert (np.abs(shares - chances) <= 4 * errors).all()
    for one, other in ((3, 6), (3, 7), (6, 7)):  # the same value, in one number and in two
        assert abs(np.corrcoef(white[:, one], white[:, other])[0, 1]) < 4 / np.sqrt(images)
    neighbours = np.corrcoef(white[:-1, 3], white[1:, 3])[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(images)


def test_static_images_are_drawn_once(root):
    grey = load_mnist(root, "train").images
    binary = load_mnist(root, "train", binary=True)
    assert set(binary.images.unique().tolist()) == {0, 255}
    seeds = [mix(2011, 0, row) for row in range(40)]
    expected = draw_pixels(grey.view(40, 784).numpy(), np.array(seeds, np.uint64))
    np.testing.assert_array_equal(binary.images.view(40, 784).numpy() == 255, expected)
    padded = load_mnist(root, "train", size=32, binary=True).images  # the same pixels at any size
    assert torch.equal(padded[:, :, 2:30, 2:30], binary.images)
    assert not torch.equal(load_mnist(root, "test", binary=True).images[:10], binary.images[:10])


def test_binary_splits(root):
    whole = load_mnist(root, "train", binary=True)
    grey, static, dynamic = (
        load_mnist_splits(root, val_fraction=0.25, binarization=kind) for kind in ("grey", "static", "dynamic")
    )
    for split, rows in ((static["train"], 30), (static["val"], 10), (dynamic["val"], 10)):
        assert len(split) == rows
        for image, image_id in zip(split.images, split.ids, strict=True):
            assert torch.equal(image, whole.images[int(image_id.removeprefix("train_"))])
    assert torch.equal(dynamic["train"].images, grey["train"].images)
    assert torch.equal(dynamic["test"].images, static["test"].images)
    assert [split.ids for split in dynamic.values()] == [split.ids for split in grey.values()]


def test_images_drawn_anew_depend_on_run_epoch_and_index_alone():
    grey = InMemoryImages(
        torch.randint(0, 256, (50, 1, 9, 9), dtype=torch.uint8), torch.arange(50), list(map(str, range(50)))
    )
    images = DrawnAnew(grey, seed=4)
    batch = images[[Draw(2, index) for index in range(50)]]
    assert batch["images"].dtype == torch.float32
    assert set(batch["images"].unique().tolist()) == {0, 1}
    alone = images[[Draw(2, 17)]]
    assert torch.equal(alone["images"], batch["images"][17:18])
    assert (alone["labels"].tolist(), alone["image_ids"]) == ([17], ["17"])
    mixed = images[[Draw(0, 17), Draw(2, 17)]]["images"]
    assert torch.equal(mixed[1], alone["images"][0])
    assert not torch.equal(mixed[0], mixed[1])
    assert not torch.equal(DrawnAnew(grey, seed=5)[[Draw(2, 17)]]["images"], alone["images"])


# --- Fashion-MNIST


def test_fashion_mnist_has_a_folder_and_names_of_its_own(tmp_path):
    write_mnist(tmp_path, {"train": 20, "test": 10}, fashion=True)
    assert len(load_mnist(tmp_path, "train", name="FashionMNIST")) == 20
    assert fashion_labels().name(9) == "Ankle boot"
    assert list(FASHION_CLASSES) == FashionMNIST.classes
    (tmp_path / "FashionMNIST/raw/t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=rf"FashionMNIST/raw.*`lightning-cv data get fashion-mnist --root {tmp_path}`"):
        load_mnist(tmp_path, "test", name="FashionMNIST")


# --- the real files


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


@pytest.mark.data
def test_real_mnist_has_these_numbers_of_each_digit(shared_data):
    for part, name in NAMES.items():
        labels = gzip.decompress((shared_data / f"MNIST/raw/{name}-labels-idx1-ubyte.gz").read_bytes())[8:]
        assert load_mnist(shared_data, part).labels.bincount().tolist() == [labels.count(digit) for digit in range(10)]
    splits = load_mnist_splits(shared_data, parts=("train", "val"))
    counts = splits["val"].labels.bincount() / load_mnist(shared_data, "train").labels.bincount()
    assert (counts - 0.1).abs().max() < 1e-3


@pytest.mark.data
def test_real_mnist_drawn_black_and_white(shared_data):
    grey, binary = load_mnist(shared_data, "test").images, load_mnist(shared_data, "test", binary=True).images
    assert (grey.float().mean() - binary.float().mean()).abs() / 255 < 1e-3
    assert torch.equal(binary[grey == 255], grey[grey == 255])
    assert not binary[grey == 0].any()
