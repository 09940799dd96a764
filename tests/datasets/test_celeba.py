"""CelebA's lists: what they say, in any order, and one clear message for each way they can be wrong."""

import re

import numpy as np
import pytest
from PIL import Image

from lightning_cv.datasets.celeba import CelebAFaces, read_celeba
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.repairs import DataWarning
from lightning_cv.datasets.small_writers import CELEBA_ATTRIBUTES, draw_face, write_celeba
from lightning_cv.ops.counters import mix

COUNTS = {"train": 10, "val": 3, "test": 2}


@pytest.fixture
def root(tmp_path):
    write_celeba(tmp_path, COUNTS, seed=4)
    return tmp_path


def edit(root, name, change):
    """Replaces the lines of a list by what `change` makes of them."""
    path = root / "celeba" / name
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))
    return path


def test_the_lists_say_what_was_drawn(root):
    table = read_celeba(root)
    faces = [draw_face(mix(4, number)) for number in range(15)]
    assert table.attribute_names == CELEBA_ATTRIBUTES
    np.testing.assert_array_equal(table.attributes, [face.attributes for face in faces])
    np.testing.assert_array_equal(table.landmarks, [face.landmarks for face in faces])
    assert table.partition.tolist() == [0] * 10 + [1] * 3 + [2] * 2
    assert table.identity.tolist() == [1 + number // 2 for number in range(15)]
    assert table.boxes[2].tolist() == [97, 72, 97 + 222, 72 + 312]
    assert (table.attributes.dtype, table.partition.dtype, table.boxes.dtype) == (np.bool_, np.int8, np.float32)
    np.testing.assert_array_equal(table.attribute("Smiling"), table.attributes[:, 31])
    assert [table.rows(split).tolist() for split in COUNTS] == [list(range(10)), [10, 11, 12], [13, 14]]


def test_faces_by_position(root):
    table = read_celeba(root)
    faces = CelebAFaces(table, table.rows("val"), labels=np.array([1, 0, 1]))
    sample = faces[2]
    assert (len(faces), sample["image_id"], sample["label"]) == (3, "000013", 1)
    error = np.abs(sample["image"].astype(int) - draw_face(mix(4, 12)).image)
    assert sample["image"].shape == (218, 178, 3)
    assert error.mean() < 5  # JPEG
    assert faces.identity.tolist() == [6, 6, 7]
    np.testing.assert_array_equal(faces.attributes, table.attributes[10:13])
    assert CelebAFaces(table, table.rows("val"))[0]["label"] == 0


def test_small_faces_are_kept_in_memory(root):
    table = read_celeba(root)
    calls = []

    def shrink(image):
        calls.append(1)
        return image[::4, ::4]

    kept = CelebAFaces(table, table.rows("train"), shrink=shrink)
    assert len(calls) == 10
    expected = CelebAFaces(table, table.rows("train"))[7]["image"][::4, ::4]
    for path in (root / "celeba/img_align_celeba").iterdir():
        path.unlink()
    np.testing.assert_array_equal(kept[7]["image"], expected)
    kept[7]["image"][:] = 0  # a copy
    np.testing.assert_array_equal(kept[7]["image"], expected)
    assert len(calls) == 10


def test_our_own_division_of_the_training_pictures(root):
    table = read_celeba(root)
    parts = {split: table.own_rows(split).tolist() for split in COUNTS}
    assert sorted(parts["train"] + parts["val"] + parts["test"]) == list(range(10))
    assert [len(part) for part in parts.values()] == [8, 1, 1]
    assert parts == {split: read_celeba(root).own_rows(split).tolist() for split in COUNTS}


def test_lists_in_another_order_are_joined_by_name(root):
    expected = read_celeba(root)
    edit(root, "identity_CelebA.txt", lambda lines: lines[::-1])
    edit(root, "list_attr_celeba.txt", lambda lines: lines[:2] + lines[:1:-1])
    edit(root, "list_landmarks_align_celeba.txt", lambda lines: [*lines[:2], lines[9], *lines[2:9], *lines[10:]])
    joined = read_celeba(root)
    for field in ("attributes", "identity", "landmarks", "boxes"):
        np.testing.assert_array_equal(getattr(joined, field), getattr(expected, field))


def test_a_list_may_have_more_rows_than_the_partition(root):
    edit(root, "list_eval_partition.txt", lambda lines: lines[3:5])
    table = read_celeba(root)
    assert table.names.tolist() == ["000004.jpg", "000005.jpg"]
    assert table.identity.tolist() == [2, 3]


def test_boxes_and_landmarks_may_be_missing(root):
    for name in ("list_bbox_celeba.txt", "list_landmarks_align_celeba.txt"):
        (root / "celeba" / name).unlink()
    table = read_celeba(root)
    assert table.landmarks is None
    assert table.boxes is None


@pytest.mark.parametrize("name", ["list_eval_partition.txt", "list_attr_celeba.txt", "identity_CelebA.txt"])
def test_a_missing_list_names_the_command(root, name):
    (root / "celeba" / name).unlink()
    message = rf"no file {root}/celeba/{name}, .*`lightning-cv data get celeba --root {root}`"
    with pytest.raises(DataError, match=message):
        read_celeba(root)


def test_a_missing_folder_names_the_command(tmp_path):
    with pytest.raises(DataError, match="lightning-cv data get celeba"):
        read_celeba(tmp_path)


def test_pictures_that_are_not_there(root):
    pictures = root / "celeba/img_align_celeba"
    for number in (2, 11):
        (pictures / f"{number:06d}.jpg").unlink()
    with pytest.warns(DataWarning, match=r"2 x row of a picture that is not there.*000002\.jpg") as caught:
        table = read_celeba(root)
    assert len(caught) == 1
    assert [len(table.rows(split)) for split in COUNTS] == [9, 2, 2]
    assert "000002.jpg" not in table.names.tolist()
    assert table.identity.tolist() == [1, *[1 + number // 2 for number in range(2, 10)], *[6, 7, 7, 8]]
    with pytest.raises(DataError, match=r"000002\.jpg.*strict"):
        read_celeba(root, strict=True)
    for path in pictures.iterdir():
        path.unlink()
    with pytest.raises(DataError, match="none of the 15 pictures"):
        read_celeba(root)
    pictures.rmdir()
    with pytest.raises(DataError, match=r"cannot be read.*img_align_celeba\.zip"):
        read_celeba(root)


def replaced(number, line):
    return lambda lines: [*lines[: number - 1], line, *lines[number:]]


ROW = "000004.jpg" + " 1" * 40
BROKEN = {
    "partition without number": ("list_eval_partition.txt", replaced(3, "000003.jpg"), "line 3: 1 fields instead of 2"),
    "partition of letters": ("list_eval_partition.txt", replaced(3, "000003.jpg x"), "line 3: invalid literal .*'x'"),
    "unknown partition": (
        "list_eval_partition.txt",
        replaced(3, "000003.jpg 3"),
        "line 3: 3 of 000003.jpg is not 0 or",
    ),
    "a name twice": ("list_eval_partition.txt", replaced(5, "000002.jpg 0"), "line 5: 000002.jpg is listed twice"),
    "blank line": ("list_eval_partition.txt", replaced(7, ""), "line 7: 0 fields instead of 2"),
    "nothing": ("list_eval_partition.txt", lambda lines: [], "has no rows"),
    "attribute short": ("list_attr_celeba.txt", replaced(6, ROW[:-2]), "line 6: 40 fields instead of 41"),
    "attribute long": ("list_attr_celeba.txt", replaced(6, ROW + " 1"), "line 6: 42 fields instead of 41"),
    "attribute 0": ("list_attr_celeba.txt", replaced(6, ROW[:-1] + "0"), "line 6: 0 of 000004.jpg is not -1 or 1"),
    "attribute huge": ("list_attr_celeba.txt", replaced(6, ROW[:-1] + "9" * 30), "line 6"),
    "no count": ("list_attr_celeba.txt", lambda lines: lines[1:], "line 1: not the number of rows"),
    "wrong count": ("list_attr_celeba.txt", replaced(1, "16"), "line 1: 16 rows are announced, there are 15"),
    "cut": ("list_attr_celeba.txt", lambda lines: lines[:-3], "15 rows are announced, there are 12"),
    "another name": ("list_attr_celeba.txt", replaced(6, "x" + ROW[1:]), "has no row for 000004.jpg"),
    "identity missing": ("identity_CelebA.txt", lambda lines: lines[:-1], "has no row for 000015.jpg"),
    "landmark titles": ("list_landmarks_align_celeba.txt", replaced(2, "a b"), "line 2: 2 titles instead of 10"),
    "box short": ("list_bbox_celeba.txt", replaced(3, "000001.jpg 1 2 3"), "line 3: 4 fields instead of 5"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_lists(root, kind):
    name, change, message = BROKEN[kind]
    path = edit(root, name, change)
    with pytest.raises(DataError, match=message) as caught:
        read_celeba(root)
    assert re.search(re.escape(str(path)), str(caught.value))


def test_a_list_that_is_no_text(root):
    path = root / "celeba/identity_CelebA.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=f"{path} is not a readable list"):
        read_celeba(root)


def test_an_unknown_attribute_is_told_with_those_there_are(root):
    with pytest.raises(DataError, match=r"'Moustache'.*Mustache"):
        read_celeba(root).attribute("Moustache")


def test_a_broken_picture_is_named(root):
    path = root / "celeba/img_align_celeba/000001.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    table = read_celeba(root)
    with pytest.raises(DataError, match=str(path)):
        CelebAFaces(table, table.rows("train"))[0]


@pytest.mark.parametrize("size", [(218, 178), (178, 217), (64, 64)])
@pytest.mark.parametrize("shrink", [None, lambda picture: picture[:32, :32]])
def test_a_picture_of_another_size_is_named(root, size, shrink):
    path = root / "celeba/img_align_celeba/000011.jpg"
    Image.new("RGB", size).save(path)
    table = read_celeba(root)
    words = rf"{path} is {size[0]} x {size[1]} pixels, CelebA's aligned pictures are 178 x 218"
    with pytest.raises(DataError, match=words):
        CelebAFaces(table, table.rows("val"), shrink=shrink)[0]


@pytest.mark.data
def test_real_celeba(shared_data):
    table = read_celeba(shared_data, strict=True)
    assert len(table.names) == 74
    assert table.partition.tolist() == [0] * 74
    assert table.attribute_names == CELEBA_ATTRIBUTES
    rows = (shared_data / "celeba/list_attr_celeba.txt").read_text().splitlines()[2:]
    for column in (20, 31, 39):  # Male, Smiling, Young
        assert table.attributes[:, column].sum() == sum(row.split()[column + 1] == "1" for row in rows)
    assert (table.names[0], table.identity[0]) == ("000003.jpg", 8692)
    assert CelebAFaces(table, table.rows("train"))[73]["image"].shape == (218, 178, 3)
    assert [len(table.own_rows(split)) for split in ("train", "val", "test")] == [60, 7, 7]
