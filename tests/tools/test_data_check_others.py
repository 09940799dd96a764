"""`lightning-cv data check` of CelebA, MNIST and folders of masks."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_folders import idx_bytes, make_celeba, make_masks, make_mnist

from lightning_cv.tools.data import main
from lightning_cv.tools.data_check import check


def found(root: Path, layout: str, classes: tuple[str, ...] = ()) -> dict[str, int]:
    return {kind: case.total for kind, case in check(root, layout, classes).problems.items()}


def replace(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


# --- CelebA


@pytest.fixture
def celeba(tmp_path) -> Path:
    return make_celeba(tmp_path)


CELEBA = {
    "good": (lambda f: None, {}),
    "no partition": (lambda f: (f / "list_eval_partition.txt").unlink(), {"missing list": 1}),
    "no boxes": (lambda f: (f / "list_bbox_celeba.txt").unlink(), {}),
    "no picture": (lambda f: (f / "img_align_celeba/000001.jpg").unlink(), {"missing picture": 5}),
    "cut": (lambda f: (f / "img_align_celeba/000001.jpg").write_bytes(b"\xff\xd8\xff"),
            {"picture that cannot be read": 1}),
    "size": (lambda f: Image.new("RGB", (178, 200)).save(f / "img_align_celeba/000001.jpg"),
             {"picture of another size than 178 x 218": 1}),
    "unlisted": (lambda f: Image.new("RGB", (178, 218)).save(f / "img_align_celeba/000009.jpg"),
                 {"picture that a list does not have": 5}),
    "partition": (lambda f: replace(f / "list_eval_partition.txt", "000002.jpg 0", "000002.jpg 3"),
                  {"partition that is not 0, 1 or 2": 1}),
    "attribute": (lambda f: replace(f / "list_attr_celeba.txt", "-1", "0"), {"attribute that is neither -1 nor 1": 1}),
    "short row": (lambda f: replace(f / "list_attr_celeba.txt", "  -1\n", "\n"),
                  {"row that cannot be read": 1, "picture that a list does not have": 1}),
    "header": (lambda f: replace(f / "list_attr_celeba.txt", "6\n", "7\n"), {"header that does not fit its list": 1}),
    "box": (lambda f: replace(f / "list_bbox_celeba.txt", "17\n", "0\n"), {"box without area": 1}),
    "twice": (lambda f: (f / "identity_CelebA.txt").open("a").write("000001.jpg 5\n"), {"id twice in a list": 1}),
    "copied": (lambda f: shutil.copy(f / "img_align_celeba/000001.jpg", f / "img_align_celeba/000006.jpg"),
               {"same picture in two splits": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", CELEBA)
def test_celeba(celeba, name):
    damage, expected = CELEBA[name]
    damage(celeba)
    assert found(celeba.parent, "celeba") == expected


def test_celeba_is_recognised(celeba, capsys):
    assert main(["check", str(celeba)]) == 0
    assert "(celeba): 6 pictures, 5 lists" in capsys.readouterr().out


# --- MNIST


@pytest.fixture
def mnist(tmp_path) -> Path:
    return make_mnist(tmp_path)


def share_an_image(folder: Path) -> None:
    train, test = (folder / f"{part}-images-idx3-ubyte.gz" for part in ("train", "t10k"))
    content = bytearray(gzip.decompress(test.read_bytes()))
    content[16 : 16 + 784] = gzip.decompress(train.read_bytes())[16 : 16 + 784]
    test.write_bytes(gzip.compress(bytes(content)))


LABELS, IMAGES = "train-labels-idx1-ubyte", "train-images-idx3-ubyte.gz"
NARROW = np.eye(20, 560).astype(np.uint8).reshape(20, 28, 20)
MNIST = {
    "good": (lambda f: None, {}),
    "missing": (lambda f: (f / LABELS).unlink(), {"missing file": 1}),
    "magic": (lambda f: (f / LABELS).write_bytes(b"\0\0\x08\x03" + (f / LABELS).read_bytes()[4:]),
              {"wrong magic number": 1}),
    "short": (lambda f: (f / LABELS).write_bytes((f / LABELS).read_bytes()[:-1]),
              {"length that differs from its header": 1}),
    "header": (lambda f: (f / LABELS).write_bytes((f / LABELS).read_bytes()[:6]),
               {"length that differs from its header": 1}),
    "empty": (lambda f: (f / LABELS).write_bytes(b""), {"wrong magic number": 1}),
    "cut": (lambda f: (f / IMAGES).write_bytes((f / IMAGES).read_bytes()[:500]),
            {"archive that cannot be unpacked": 1}),
    "flipped": (lambda f: (f / IMAGES).write_bytes(b"\x00" * 20 + (f / IMAGES).read_bytes()[20:]),
                {"archive that cannot be unpacked": 1}),
    "labels": (lambda f: (f / LABELS).write_bytes(idx_bytes(np.full(20, 10, np.uint8))), {"unknown class": 20}),
    "number": (lambda f: (f / LABELS).write_bytes(idx_bytes(np.zeros(19, np.uint8))),
               {"numbers of images and labels differ": 1}),
    "size": (lambda f: (f / IMAGES).write_bytes(gzip.compress(idx_bytes(NARROW))),
             {"images of another size than 28 x 28": 1}),
    "shared": (share_an_image, {"same image in two splits": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", MNIST)
def test_mnist(mnist, tmp_path, name):
    damage, expected = MNIST[name]
    damage(mnist)
    assert found(tmp_path, "mnist") == expected


def test_mnist_is_recognised(mnist, tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 0
    assert "(mnist): 4 files, 30 images" in capsys.readouterr().out


# --- pictures with masks


@pytest.fixture
def masks(tmp_path) -> Path:
    return make_masks(tmp_path)


MASKS = {
    "good": (lambda f: None, {}),
    "no mask": (lambda f: (f / "masks/train0.png").unlink(), {"missing mask": 1}),
    "no picture": (lambda f: (f / "images/train0.png").unlink(), {"mask without a picture": 1}),
    "size": (lambda f: Image.new("L", (8, 5)).save(f / "masks/train0.png"),
             {"size that differs from the picture's": 1}),
    "colours": (lambda f: Image.new("RGB", (8, 6)).save(f / "masks/train0.png"),
                {"mask with neither a palette nor grey values": 1}),
    "value": (lambda f: Image.new("L", (8, 6), 9).save(f / "masks/train0.png"), {"unknown class": 1}),
    "void": (lambda f: Image.new("L", (8, 6), 255).save(f / "masks/train0.png"), {}),
    "broken": (lambda f: (f / "masks/train0.png").write_bytes(b"PNG"), {"mask that cannot be read": 1}),
    "broken picture": (lambda f: (f / "images/train0.png").write_bytes(b"PNG"), {"picture that cannot be read": 1}),
    "copied": (lambda f: shutil.copy(f / "images/train0.png", f.parent / "val/images/val1.png"),
               {"same picture in two splits": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_masks(masks, name):
    damage, expected = MASKS[name]
    damage(masks / "train")
    assert found(masks, "masks", ("background", "one", "two")) == expected


def test_masks_are_recognised(masks, capsys):
    assert main(["check", str(masks)]) == 0
    assert "(masks): 4 pictures, 4 masks" in capsys.readouterr().out
    assert main(["check", str(masks / "train")]) == 0


@pytest.mark.data
def test_the_real_samples_are_good(shared_data):
    assert found(shared_data / "celeba", "celeba") == {}
    assert found(shared_data / "MNIST", "mnist") == {}
