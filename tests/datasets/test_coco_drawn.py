"""Drawn COCO folders, read back: the scenes' own boxes, masks and segments, to the pixel."""

import json

import numpy as np
import pytest
from PIL import Image

from lightning_cv.datasets.coco import CocoDetection
from lightning_cv.datasets.coco_panoptic import CocoPanoptic
from lightning_cv.datasets.coco_writers import GROUND, GROUND_ID, CocoPages
from lightning_cv.datasets.drawn import DRAWN_CLASSES, DrawnScene, draw_scene, scene_seed
from lightning_cv.datasets.writers import write_coco, write_voc

COUNTS = {"train": 5, "val": 3, "test": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("drawn") / "coco", COUNTS, seed=5, size=64)


def scene_of(split, index):
    return draw_scene(scene_seed(5, split, index), 64)


@pytest.mark.parametrize("split", COUNTS)
def test_objects_come_back_exactly(root, split):
    dataset = CocoDetection(root, split, with_masks=True, strict=True)
    assert len(dataset) == COUNTS[split]
    assert dataset.label_map == (DRAWN_CLASSES, 1, tuple(range(1, 11)))
    for index in range(len(dataset)):
        sample, scene = dataset[index], scene_of(split, index)
        np.testing.assert_array_equal(sample["boxes"], scene.boxes)
        np.testing.assert_array_equal(sample["labels"], scene.labels)
        np.testing.assert_array_equal(sample["masks"], scene.instance_masks)
        assert not sample["crowd"].any()


@pytest.mark.parametrize("split", COUNTS)
def test_segments_come_back_exactly(root, split):
    dataset = CocoPanoptic(root, split, strict=True)
    assert len(dataset) == COUNTS[split]
    assert dataset.label_map == ((*DRAWN_CLASSES, GROUND), 0, (*range(1, 11), GROUND_ID))
    assert dataset.is_thing.tolist() == [True] * 10 + [False]
    for index in range(len(dataset)):
        sample, scene = dataset[index], scene_of(split, index)
        count = len(scene.labels)
        for number, mask in enumerate(scene.instance_masks, start=1):
            np.testing.assert_array_equal(sample["segments"] == number, mask)
        np.testing.assert_array_equal(sample["segments"] == count + 1, scene.class_mask == 0)
        assert sample["labels"].tolist() == [*(scene.labels - 1).tolist(), 10]
        assert sample["is_thing"].tolist() == [True] * count + [False]


def test_the_panoptic_json_says_what_the_png_shows(root):
    content = json.loads((root / "annotations/panoptic_val2017.json").read_text())
    assert [entry["isthing"] for entry in content["categories"]] == [1] * 10 + [0]
    ids = set()
    for entry in content["annotations"]:
        colours = np.array(Image.open(root / "annotations/panoptic_val2017" / entry["file_name"])).astype(int)
        numbers = colours @ [1, 256, 65536]
        assert {item["id"] for item in entry["segments_info"]} == set(np.unique(numbers).tolist())
        for item in entry["segments_info"]:
            ys, xs = np.nonzero(numbers == item["id"])
            assert item["area"] == len(ys)
            assert item["bbox"] == [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
            ids.add(item["id"])
    assert max(ids) > 65535  # all three colours are used


def test_both_jsons_name_the_same_images(root):
    for split in COUNTS:
        things, everything = (
            json.loads((root / f"annotations/{kind}_{split}2017.json").read_text())
            for kind in ("instances", "panoptic")
        )
        assert things["images"] == everything["images"]
        assert "isthing" not in things["categories"][0]
        assert len(things["categories"]) == 10


def test_a_scene_without_ground_has_no_segment_of_it(tmp_path):
    whole = np.ones((1, 32, 32), np.bool_)
    scene = DrawnScene(
        np.zeros((32, 32, 3), np.uint8), np.array([[0, 0, 32, 32]], np.float32), np.array([4]),
        np.full((32, 32), 4, np.uint8), whole, whole,
    )  # fmt: skip
    pages = CocoPages(tmp_path, "train2017", {})
    pages.add(1, "1.jpg", scene)
    pages.write()
    (entry,) = json.loads((tmp_path / "panoptic_train2017.json").read_text())["annotations"]
    assert [item["category_id"] for item in entry["segments_info"]] == [4]


def test_scenes_do_not_depend_on_how_many_are_drawn(root, tmp_path):
    other = write_coco(tmp_path / "coco", {"train": 2, "val": 1}, seed=5, size=64)
    for name in ("train2017/000010000001.jpg", "annotations/panoptic_train2017/000010000001.png"):
        assert (other / name).read_bytes() == (root / name).read_bytes()


def test_the_recipe_tells_of_the_panoptic_files(root, tmp_path):
    assert json.loads((root / "recipe.json").read_text())["drawn"] == 2
    write_voc(tmp_path / "voc", "2007", {"val": 1}, size=32)
    assert json.loads((tmp_path / "voc/recipe.json").read_text())["drawn"] == 1
