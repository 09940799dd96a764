"""Made-up MNIST and CelebA: other readers open them, and nothing is ever written over."""

import gzip

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import MNIST

from lightning_cv.datasets import small_writers
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.mnist import load_mnist
from lightning_cv.datasets.small_writers import CELEBA_ATTRIBUTES, draw_face, write_celeba, write_mnist


def test_torchvision_opens_the_mnist_folder(tmp_path):
    raw = write_mnist(tmp_path, {"train": 30, "test": 12}, seed=3)
    assert raw == tmp_path / "MNIST/raw"
    for path in list(raw.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))  # torchvision reads no compressed files
    for part, count in (("train", 30), ("test", 12)):
        theirs, mine = MNIST(tmp_path, train=part == "train"), load_mnist(tmp_path, part)
        assert len(theirs) == len(mine) == count
        assert torch.equal(theirs.data, mine.images[:, 0])
        assert torch.equal(theirs.targets, mine.labels)


def test_digits_are_large_enough_to_see_and_lie_inside(tmp_path):
    write_mnist(tmp_path)
    images = load_mnist(tmp_path, "train").images[:, 0]
    assert images.shape == (300, 28, 28)
    assert images.flatten(1).max(dim=1).values.min() > 200
    assert not images[:, [0, -1]].any()
    assert not images[:, :, [0, -1]].any()
    assert load_mnist(tmp_path, "train").labels.bincount(minlength=10).min() > 10


def test_more_images_than_digits_lie_elsewhere(tmp_path):
    write_mnist(tmp_path, {"train": 10, "test": 300})
    test = load_mnist(tmp_path, "test")
    assert test.labels[269:].tolist() == test.labels[:31].tolist()
    assert not torch.equal(test.images[269:], test.images[:31])


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("write", [write_mnist, write_celeba])
def test_the_same_seed_writes_the_same_files(tmp_path, write):
    folders = [write(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    one, same, other = (contents(folder) for folder in folders)
    assert one == same
    assert one.keys() == other.keys()
    assert one != other


@pytest.mark.parametrize("write", [write_mnist, write_celeba])
def test_what_is_there_is_left_alone(tmp_path, write):
    folder = write(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=f"{folder} is there already"):
        write(tmp_path, seed=5)
    assert contents(tmp_path) == before


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(small_writers, "_write_idx", broken)
    monkeypatch.setattr(small_writers, "_write_list", broken)
    for write in (write_mnist, write_celeba):
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("counts", [{"train": 3}, {"train": 3, "test": 0}, {"train": 3, "val": 3, "test": 3}])
def test_counts_that_make_no_mnist(tmp_path, counts):
    with pytest.raises(ValueError, match="train and test"):
        write_mnist(tmp_path, counts)


@pytest.mark.parametrize("counts", [{"trainval": 3}, {"train": 0}])
def test_counts_that_make_no_celeba(tmp_path, counts):
    with pytest.raises(ValueError, match="train, val, test"):
        write_celeba(tmp_path, counts)


def test_celeba_lists_in_the_authors_form(tmp_path):
    folder = write_celeba(tmp_path, {"train": 4, "val": 2, "test": 1}, seed=1)
    assert folder == tmp_path / "celeba"
    lines = {path.name: path.read_text().splitlines() for path in folder.glob("*.txt")}
    assert lines["list_eval_partition.txt"] == [f"{n + 1:06d}.jpg {p}" for n, p in enumerate((0, 0, 0, 0, 1, 1, 2))]
    assert len(lines["identity_CelebA.txt"]) == 7
    for name, columns in (
        ("list_attr_celeba.txt", 40),
        ("list_landmarks_align_celeba.txt", 10),
        ("list_bbox_celeba.txt", 4),
    ):
        assert lines[name][0] == "7"
        assert [len(line.split()) for line in lines[name][2:]] == [columns + 1] * 7
    assert lines["list_attr_celeba.txt"][1].split() == list(CELEBA_ATTRIBUTES)
    assert len(CELEBA_ATTRIBUTES) == len(set(CELEBA_ATTRIBUTES)) == 40
    with Image.open(folder / "img_align_celeba/000007.jpg") as picture:
        assert (picture.size, picture.mode, picture.format) == ((178, 218), "RGB", "JPEG")


def test_faces_show_what_is_true_of_them():
    seen = set()
    for seed in range(40):
        face = draw_face(seed)
        has = dict(zip(CELEBA_ATTRIBUTES, face.attributes.tolist(), strict=True))
        seen |= {(name, has[name]) for name in ("Smiling", "Eyeglasses")}
        for x, y in face.landmarks[:2].tolist():
            np.testing.assert_array_equal(face.image[y, x], (40, 40, 40))  # the pupil
            assert (face.image[y, x + 16] == 20).all() == has["Eyeglasses"]
        (left, y), (right, _) = face.landmarks[3:].tolist()
        below = face.image[y + 4 : y + 14, (left + right) // 2]
        red = (below.astype(int)[:, 0] - below[:, 1] > 90).any()
        assert red == has["Smiling"] or abs(face.landmarks[3, 1] - face.landmarks[4, 1]) > 2
    assert len(seen) == 4
    assert cv2.cvtColor(draw_face(0).image, cv2.COLOR_RGB2GRAY).std() > 10
