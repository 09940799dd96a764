"""COCO folders that cannot be read: one clear message for each thing that can be wrong."""

import json
import random

import pytest
from coco_folder import (
    an_image,
    samples_of,
    small_folder,
    write_folder,
)
from PIL import Image

from lightning_cv.datasets.coco import CocoDetection
from lightning_cv.datasets.errors import DataError


@pytest.fixture
def root(tmp_path):
    return small_folder(tmp_path)


def refused(root, *pieces, split="train"):
    """Reading everything raises a DataError whose message has all the pieces on one line."""
    with pytest.raises(DataError) as caught:
        samples_of(CocoDetection(root, split, with_masks=True))
    assert "\n" not in str(caught.value)
    for piece in pieces:
        assert piece in str(caught.value)


@pytest.mark.parametrize("name", ["data", "coco"])
def test_a_missing_json_names_the_commands(tmp_path, name):
    data_root = tmp_path / "data" if name == "data" else tmp_path
    refused(
        tmp_path / name,
        f"no file {tmp_path / name}/annotations/instances_train2017.json",
        f"`lightning-cv data get coco2017 --root {data_root}`",
        f"`lightning-cv data draw --layout coco --root {data_root}`",
    )


def test_a_missing_split_names_those_that_are_there(root):
    refused(root, "instances_val2017.json", "beside it lie instances_train2017.json", split="val")


def test_a_missing_image_folder(root):
    (root / "train2017").rename(root / "elsewhere")
    refused(root, f"no folder {root / 'train2017'}", "instances_train2017.json", "lightning-cv data get coco2017")


def test_a_missing_image_is_told_before_anything_is_read(root):
    (root / "train2017/003.jpg").unlink()
    with pytest.raises(DataError, match=r"no file .*train2017/003\.jpg, which .*instances_train2017\.json names"):
        CocoDetection(root, "train")
    (root / "train2017/009.jpg").unlink()
    with pytest.raises(DataError, match=r"003\.jpg"):
        CocoDetection(root, "train", keep_empty=False)


def test_an_image_that_is_left_out_may_be_missing(root):
    (root / "train2017/009.jpg").unlink()
    assert len(CocoDetection(root, "train", keep_empty=False)) == 2


def test_an_image_of_another_size(root):
    Image.new("RGB", (19, 10)).save(root / "train2017/007.jpg")
    refused(root, "train2017/007.jpg is 19 x 10 pixels", "instances_train2017.json declares 20 x 10 for image 7")


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\xff\xd8\xff\xe0"])
def test_a_corrupt_image(root, content):
    (root / "train2017/003.jpg").write_bytes(content)
    refused(root, "train2017/003.jpg: not a readable image")


def test_a_truncated_json(root):
    path = root / "annotations/instances_train2017.json"
    path.write_bytes(path.read_bytes()[:-40])
    refused(root, f"{path} is not JSON, or only a part of it")


@pytest.mark.parametrize("content", ["", "images", "{'images': []}", b"\xff\xfe\x00", "[" * 100_000])
def test_text_that_is_not_json(root, content):
    path = root / "annotations/instances_train2017.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(root, f"{path} is not JSON")


@pytest.mark.parametrize("missing", ["images", "annotations", "categories"])
def test_json_that_is_not_coco(root, missing):
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    for value in ({key: content[key] for key in content if key != missing}, content | {missing: {"a": 1}}):
        path.write_text(json.dumps(value))
        refused(root, f"{path} is not a COCO annotation file: it has no list of {missing}")
    path.write_text(json.dumps([content]))
    refused(root, "it has no list of images, annotations, categories")


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "declares no image"),
        ([{"id": 1, "file_name": "x.jpg", "width": 4}], "images[0] needs id, file_name, height and width"),
        ([an_image(7, 10, 20), an_image(3, 0, 5)], "images[1] needs id, file_name, height and width"),
        ([an_image(7, 10, 20) | {"id": "seven"}], "'id': 'seven'"),
        ([4], "images[0] needs"),
    ],
)
def test_images_without_what_is_needed(tmp_path, images, words):
    write_folder(tmp_path, [], images=images)
    refused(tmp_path, "instances_train2017.json", words)


@pytest.mark.parametrize(
    ("categories", "words"),
    [([], "declares no category"), ([{"name": "cat"}], "categories[0]"), ([{"id": 1}], "needs a whole id and a name")],
)
def test_categories_without_what_is_needed(tmp_path, categories, words):
    write_folder(tmp_path, [], categories=categories)
    refused(tmp_path, "instances_train2017.json", words)


def test_nothing_left_is_an_error(tmp_path):
    write_folder(tmp_path, [])
    with pytest.raises(DataError, match=r"instances_train2017\.json has no image with an object"):
        CocoDetection(tmp_path, "train", keep_empty=False)


JUNK = [
    None,
    -1,
    0,
    True,
    1e300,
    float("nan"),
    float("-inf"),
    10**400,
    "",
    "7",
    "\ud800",
    "../x",
    [],
    [None],
    {},
    {"a": 1},
]


def places(value, path=()):
    """Keys and positions that lead to everything in a json."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


@pytest.mark.filterwarnings("ignore::lightning_cv.datasets.repairs.DataWarning")
def test_junk_anywhere_in_the_json_is_mended_or_a_data_error(root):
    """Never another exception, never a box outside its picture."""
    path = root / "annotations/instances_train2017.json"
    content, rng, outcomes = path.read_text(), random.Random(0), set()
    for _ in range(400):
        changed = json.loads(content)
        *way, last = rng.choice(list(places(changed)))
        inner = changed
        for key in way:
            inner = inner[key]
        inner[last] = rng.choice(JUNK)
        path.write_text(json.dumps(changed))
        try:
            samples = samples_of(CocoDetection(root, "train", with_masks=True))
        except DataError:
            outcomes.add("error")
            continue
        outcomes.add("mended")
        for sample in samples:
            height, width = sample["image"].shape[:2]
            assert (sample["boxes"] >= 0).all()
            assert (sample["boxes"] <= [width, height, width, height]).all()
            assert (sample["boxes"][:, 2:] > sample["boxes"][:, :2]).all()
            assert sample["masks"].shape == (len(sample["labels"]), height, width)
    assert outcomes == {"error", "mended"}
