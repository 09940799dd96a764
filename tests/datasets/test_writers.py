"""Drawn folders: genuine VOC and COCO, exact to the pixel, whole or not there."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import VOCDetection as TorchvisionVOC

from lightning_cv.datasets import writers
from lightning_cv.datasets.drawn import DRAWN_CLASSES, draw_scene, scene_seed
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.voc import VOCDetection, VOCSegmentation
from lightning_cv.datasets.writers import voc_palette, write_coco, write_voc

COUNTS = {"train": 6, "val": 3, "test": 2}


@pytest.fixture(scope="module")
def voc_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn") / "voc"
    write_voc(root, "2007", COUNTS, seed=5, size=64)
    return root


@pytest.fixture(scope="module")
def coco_root(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("drawn") / "coco", COUNTS, seed=5, size=64)


def scene_of(split, index):
    return draw_scene(scene_seed(5, split, index), 64)


def files_of(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("split", COUNTS)
def test_voc_boxes_and_labels_come_back_exactly(voc_root, split):
    dataset = VOCDetection(voc_root, "2007", split, DRAWN_CLASSES)
    assert len(dataset) == COUNTS[split]
    for index in range(len(dataset)):
        sample, scene = dataset[index], scene_of(split, index)
        np.testing.assert_array_equal(sample["boxes"], scene.boxes)
        np.testing.assert_array_equal(sample["labels"], scene.labels)
        assert not sample["difficult"].any()
        error = np.abs(sample["image"].astype(int) - scene.image.astype(int))
        assert error.mean() < 12  # JPEG


def test_voc_masks_come_back_exactly(voc_root):
    dataset = VOCSegmentation(voc_root, "2007", "val", DRAWN_CLASSES)
    for index in range(len(dataset)):
        scene = scene_of("val", index)
        np.testing.assert_array_equal(dataset[index]["mask"], scene.class_mask)
        path = voc_root / "VOCdevkit/VOC2007/SegmentationObject" / f"{dataset[index]['image_id']}.png"
        objects = np.array(Image.open(path))
        for number, mask in enumerate(scene.instance_masks, start=1):
            np.testing.assert_array_equal(objects == number, mask)


def test_torchvision_reads_the_same_corners(voc_root):
    reader = TorchvisionVOC(voc_root, year="2007", image_set="test")
    for index in range(len(reader)):
        image, content = reader[index]
        scene = scene_of("test", index)
        assert image.size == (64, 64)
        corners = [
            [int(item["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax")]
            for item in content["annotation"]["object"]
        ]
        assert corners == (scene.boxes + np.array([1, 1, 0, 0])).astype(int).tolist()  # 1-based, far corner included


def test_voc_lists_name_every_image_once(voc_root):
    lists = voc_root / "VOCdevkit/VOC2007/ImageSets"
    for kind in ("Main", "Segmentation"):
        read = {name: (lists / kind / f"{name}.txt").read_text().split() for name in (*COUNTS, "trainval")}
        assert {name: len(ids) for name, ids in read.items()} == COUNTS | {"trainval": 9}
        assert read["trainval"] == read["train"] + read["val"]
    rows = [line.split() for line in (lists / "Main/ring_train.txt").read_text().splitlines()]
    ring = DRAWN_CLASSES.index("ring") + 1
    assert rows == [
        [f"train_{index:06d}", "1" if ring in scene_of("train", index).labels else "-1"] for index in range(6)
    ]


def test_palette_is_that_of_voc(voc_root):
    colours = voc_palette()
    # the first colours of the development kit: background, aeroplane, bicycle, bird, ..., and void
    assert colours[[0, 1, 2, 3, 15, 20, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192],
    ]  # fmt: skip
    picture = Image.open(next((voc_root / "VOCdevkit/VOC2007/SegmentationClass").iterdir()))
    assert picture.mode == "P"
    assert picture.getpalette()[3:6] == [128, 0, 0]


@pytest.mark.data
def test_palette_is_that_of_the_real_masks(shared_data):
    folder = shared_data / "VOCdevkit/VOC2012/SegmentationClass"
    palette = np.array(Image.open(sorted(folder.iterdir())[0]).getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(palette, voc_palette()[: len(palette)])


@pytest.mark.parametrize("split", ["train", "val"])
def test_coco_opens_with_pycocotools_and_masks_are_exact(coco_root, split, capsys):
    coco = COCO(coco_root / "annotations" / f"instances_{split}2017.json")
    ids = sorted(coco.getImgIds())
    assert len(ids) == COUNTS[split]
    assert [coco.cats[label]["name"] for label in sorted(coco.getCatIds())] == list(DRAWN_CLASSES)
    for index, image_id in enumerate(ids):
        scene = scene_of(split, index)
        entry = coco.loadImgs(image_id)[0]
        image = Image.open(coco_root / f"{split}2017" / entry["file_name"])
        assert image.size == (entry["width"], entry["height"]) == (64, 64)
        found = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
        assert [item["category_id"] for item in found] == scene.labels.tolist()
        for item, mask, (x1, y1, x2, y2) in zip(found, scene.instance_masks, scene.boxes.tolist(), strict=True):
            np.testing.assert_array_equal(coco.annToMask(item), mask)
            assert item["area"] == mask.sum()
            assert item["bbox"] == [x1, y1, x2 - x1, y2 - y1]


def test_coco_ids_are_unique_over_the_splits(coco_root):
    images, objects = [], []
    for split in COUNTS:
        content = json.loads((coco_root / "annotations" / f"instances_{split}2017.json").read_text())
        images += [entry["id"] for entry in content["images"]]
        objects += [entry["id"] for entry in content["annotations"]]
    assert len(set(images)) == len(images) == 11
    assert len(set(objects)) == len(objects)


def test_scenes_do_not_depend_on_how_many_are_drawn(voc_root, tmp_path):
    write_voc(tmp_path / "more", "2007", {"train": 7, "val": 1}, seed=5, size=64)
    for name in ("JPEGImages/train_000003.jpg", "Annotations/val_000000.xml", "SegmentationClass/val_000000.png"):
        path = f"VOCdevkit/VOC2007/{name}"
        assert (tmp_path / "more" / path).read_bytes() == (voc_root / path).read_bytes()


def test_the_same_recipe_is_reused_and_another_refused(tmp_path):
    root = tmp_path / "voc"
    write_voc(root, "2007", {"train": 2}, seed=1, size=32)
    before = files_of(root)
    write_voc(root, "2007", {"train": 2}, seed=1, size=32)
    with pytest.raises(DataError, match=r"another recipe \(seed is 1, asked 2\)"):
        write_voc(root, "2007", {"train": 2}, seed=2, size=32)
    with pytest.raises(DataError, match="layout is voc, asked coco"):
        write_coco(root, {"train": 2}, seed=1, size=32)
    assert files_of(root) == before
    assert list(tmp_path.iterdir()) == [root]


def test_a_folder_that_was_not_drawn_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/holiday.jpg").write_bytes(b"precious")
    with pytest.raises(DataError, match="mine exists and was not drawn"):
        write_voc(tmp_path / "mine", "2007", {"train": 1})
    assert (tmp_path / "mine/holiday.jpg").read_bytes() == b"precious"
    assert list(tmp_path.rglob("*.xml")) == []


def test_a_broken_run_leaves_nothing(tmp_path, monkeypatch):
    def fail_at_third(seed, size, max_objects):
        if seed == scene_seed(0, "train", 2):
            raise OSError(28, "No space left on device")
        return draw_scene(seed, size)

    monkeypatch.setattr(writers, "draw_scene", fail_at_third)
    with pytest.raises(OSError, match="No space left"):
        write_voc(tmp_path / "voc", "2007", {"train": 4}, size=32)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_draw_at_once_end_with_one_folder(tmp_path, monkeypatch):
    rename = writers.os.rename

    def another_was_faster(source, target):
        shutil.copytree(source, target)
        rename(source, target)

    monkeypatch.setattr(writers.os, "rename", another_was_faster)
    write_voc(tmp_path / "voc", "2007", {"val": 1}, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["voc"]
    assert len(VOCDetection(tmp_path / "voc", "2007", "val", DRAWN_CLASSES)) == 1


@pytest.mark.parametrize("counts", [{}, {"train": 0}, {"dev": 3}])
def test_counts_that_make_no_sense_are_refused(tmp_path, counts):
    with pytest.raises(ValueError, match="counts of drawn scenes"):
        write_voc(tmp_path / "voc", "2007", counts)
    assert list(tmp_path.iterdir()) == []
