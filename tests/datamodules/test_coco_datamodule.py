"""COCO folders as data modules: real, custom and drawn; settings from YAML; early and clear errors."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_folder import an_image, an_object, write_folder, write_images, write_json
from jsonargparse import ArgumentParser, set_parsing_settings

from lightning_cv.contracts import Draw
from lightning_cv.datamodules import (
    CocoDetectionDataModule,
    CocoPanopticDataModule,
    DataModule,
    DrawnInstancesDataModule,
    DrawnPanopticDataModule,
    coco,
)
from lightning_cv.datasets.drawn import DRAWN_CLASSES, draw_scene, scene_seed
from lightning_cv.datasets.errors import DataError
from lightning_cv.transforms import DetectionEval, FlipOnly, ShorterSideEval, ShorterSideTrain, SSDTrain
from lightning_cv.transforms.panoptic import PanopticEval, PanopticTrain

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
SMALL = {"train": 8, "val": 5, "test": 3, "size": 48, "draw_seed": 2}
SQUARE = [[1, 1, 4, 1, 4, 4, 1, 4]]


@pytest.fixture(scope="module")
def drawn_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    DrawnInstancesDataModule(str(root), **SMALL).prepare_data()
    return str(root)


def flatten(batch):
    """Everything in a batch as a flat list of comparable values."""
    if isinstance(batch, torch.Tensor):
        return [batch.tolist()]
    if isinstance(batch, dict):
        return [value for key in sorted(batch) for value in flatten(batch[key])]
    if isinstance(batch, list):
        return [value for item in batch for value in flatten(item)]
    return [batch]


MODULES = {
    "instances": lambda root, workers: DrawnInstancesDataModule(
        root, **SMALL, train_transform=SSDTrain(48), batch_size=4, num_workers=workers
    ),
    "panoptic": lambda root, workers: DrawnPanopticDataModule(
        root, **SMALL, train_transform=PanopticTrain(48), batch_size=4, num_workers=workers
    ),
}


@pytest.mark.parametrize("kind", MODULES)
def test_worker_processes_change_nothing(drawn_root, kind):
    read = []
    for workers in (0, 2):
        module = MODULES[kind](drawn_root, workers)
        module.seed = 7
        module.setup("fit")
        loader = module.train_dataloader()
        batches = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            batches += [flatten(batch) for batch in loader]
        read.append(batches + [flatten(batch) for batch in module.val_dataloader()])
    assert read[0] == read[1]
    assert len(read[0]) == 2 * 2 + 2
    assert read[0][0] != read[0][2]  # another epoch, other pictures


def test_drawn_instances_are_the_scenes(drawn_root):
    module = DrawnInstancesDataModule(drawn_root, **SMALL, batch_size=4)
    module.setup("test")
    (batch,) = module.test_dataloader()
    assert batch["images"].shape == (3, 3, 48, 48)
    for index, target in enumerate(batch["targets"]):
        scene = draw_scene(scene_seed(2, "test", index), 48)
        assert target["boxes"].tolist() == scene.boxes.tolist()
        assert target["labels"].tolist() == scene.labels.tolist()
        np.testing.assert_array_equal(target["masks"], scene.instance_masks)
        assert target["masks"].dtype == target["crowd"].dtype == torch.bool
    assert module.class_names == DRAWN_CLASSES
    assert (module.label_map.first, module.label_map.num_classes) == (1, 10)


def test_drawn_segments_are_the_scenes(drawn_root):
    module = DrawnPanopticDataModule(drawn_root, **SMALL)
    module.setup("validate")
    (batch,) = module.val_dataloader()
    assert batch["images"].shape == (5, 3, 64, 64)  # 48 padded to a multiple of 32
    for index, target in enumerate(batch["targets"]):
        scene = draw_scene(scene_seed(2, "val", index), 48)
        for number, mask in enumerate(scene.instance_masks, start=1):
            np.testing.assert_array_equal(target["segments"][:48, :48] == number, mask)
        assert (target["segments"][48:] == 0).all()
        assert target["labels"].tolist() == [*(scene.labels - 1).tolist(), 10]
        assert target["original_size"] == (48, 48)
    assert module.class_names == (*DRAWN_CLASSES, "ground")
    assert module.is_thing == (True,) * 10 + (False,)


def test_both_kinds_share_one_drawn_folder(drawn_root):
    one, other = DrawnInstancesDataModule(drawn_root, **SMALL), DrawnPanopticDataModule(drawn_root, **SMALL)
    assert one.root == other.root
    before = sorted(Path(drawn_root).rglob("*"))
    other.prepare_data()
    assert sorted(Path(drawn_root).rglob("*")) == before


def test_a_prepared_image_is_what_evaluation_sees(drawn_root):
    instances = DrawnInstancesDataModule(drawn_root, **SMALL, eval_transform=DetectionEval(40))
    panoptic = DrawnPanopticDataModule(drawn_root, **SMALL, eval_transform=PanopticEval(40, 40))
    for module, shape in ((instances, (3, 40, 40)), (panoptic, (3, 64, 64))):
        prepared = module.prepare_image(module.source("val")[0]["image"])
        assert tuple(prepared.shape) == shape
        batch = module.val_set()[[Draw(0, 0)]]
        assert torch.equal(prepared, batch["images"][0])
        assert batch["targets"][0]["placement"] == module.placement(48, 48) == (40 / 48, 40 / 48, 0, 0)


@pytest.mark.parametrize(
    "module",
    [
        CocoDetectionDataModule("nowhere", FlipOnly(), DetectionEval(32)),
        CocoPanopticDataModule("nowhere", PanopticTrain(32), PanopticEval(32, 32)),
        DrawnInstancesDataModule("nowhere"),
        DrawnPanopticDataModule("nowhere"),
    ],
)
def test_a_missing_folder_is_told_in_setup_with_the_command(module):
    with pytest.raises(DataError, match=r"lightning-cv data get coco2017 --root nowhere.* data draw --layout coco"):
        module.setup("fit")


def a_module(root, **settings):
    """All splits are the one there is."""
    splits = {"train": "train", "val": "train", "test": "train"}
    return CocoDetectionDataModule(str(root), FlipOnly(), DetectionEval(16), batch_size=1, **splits, **settings)


def test_crowds_and_empty_images_are_left_out_of_training_only(tmp_path):
    write_folder(tmp_path, [an_object(1, 7, [0, 0, 2, 2]), an_object(2, 3, [0, 0, 2, 2], iscrowd=1)])
    module = a_module(tmp_path, keep_empty=False, keep_crowd=False)
    assert [len(split) for split in (module.train_set(), module.val_set(), module.test_set())] == [1, 3, 3]
    assert module.val_set()[[Draw(0, 1)]]["targets"][0]["crowd"].tolist() == [True]


def test_the_same_split_is_read_once_for_validation_and_test(tmp_path):
    write_folder(tmp_path, [])
    module = a_module(tmp_path)
    assert module.source("test") is module.source("val")
    assert module.source("train") is not module.source("val")


def test_splits_with_other_categories_are_refused(tmp_path):
    write_folder(tmp_path, [])
    images = [an_image(7, 10, 20)]
    write_json(tmp_path / "annotations/instances_val2017.json", [], images, [{"id": 2, "name": "cat"}])
    write_images(tmp_path / "val2017", {7: (10, 20)})
    module = CocoDetectionDataModule(str(tmp_path), FlipOnly(), DetectionEval(16))
    with pytest.raises(DataError, match=r"instances_val2017\.json declares other categories"):
        module.setup("fit")


def test_splits_that_disagree_on_what_is_a_thing_are_refused(tmp_path):
    module = DrawnPanopticDataModule(str(tmp_path), train=1, val=1, test=1, size=32)
    module.prepare_data()
    path = Path(module.root) / "annotations/panoptic_val2017.json"
    content = json.loads(path.read_text())
    content["categories"][3]["isthing"] = 0
    path.write_text(json.dumps(content))
    name = content["categories"][3]["name"]
    with pytest.raises(DataError, match=rf"panoptic_val2017\.json and .* splits disagree whether '{name}' is a thing"):
        module.setup("fit")


def test_folders_of_another_layout(tmp_path):
    for split in ("train", "valid"):
        entries = [an_object(1, 7, [1, 1, 3, 3], segmentation=SQUARE)]
        write_json(tmp_path / split / "_annotations.coco.json", entries, [an_image(7, 10, 20)])
        write_images(tmp_path / split, {7: (10, 20)})
    module = CocoDetectionDataModule(
        str(tmp_path),
        FlipOnly(),
        DetectionEval(20),
        batch_size=1,
        val="valid",
        annotations="{split}/_annotations.coco.json",
        images="{split}",
        with_masks=True,
    )
    module.setup("fit")
    (batch,) = module.val_dataloader()
    assert batch["targets"][0]["boxes"].tolist() == [[1, 2, 4, 8]]
    assert batch["targets"][0]["masks"].sum() == 3 * 6
    assert module.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("kind", "transforms", "parts"),
    [
        (CocoDetectionDataModule, (FlipOnly(), DetectionEval(8)), ("train", "val", "annotations")),
        (CocoPanopticDataModule, (PanopticTrain(8), PanopticEval(8, 8)), ("train", "val", "panoptic")),
    ],
)
def test_download_fetches_into_the_data_root(monkeypatch, tmp_path, kind, transforms, parts):
    asked = []
    monkeypatch.setattr(coco, "fetch", lambda *arguments: asked.append(arguments))
    kind(str(tmp_path / "coco"), *transforms).prepare_data()
    assert asked == []
    kind(str(tmp_path / "coco"), *transforms, download=True).prepare_data()
    assert asked == [("coco2017", tmp_path, parts)]
    with pytest.raises(ValueError, match=r"a folder named coco, but data\.root is elsewhere"):
        kind("elsewhere", *transforms, download=True)


# --- settings from YAML


def parse(*arguments):
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    parser = ArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(DataModule, "data")
    return parser.instantiate(parser.parse_args(list(arguments))).data


@pytest.mark.parametrize(
    ("block", "kind", "root"),
    [
        ("coco_detection", CocoDetectionDataModule, "elsewhere/coco"),
        ("coco_instances", CocoDetectionDataModule, "elsewhere/coco"),
        ("coco_panoptic", CocoPanopticDataModule, "elsewhere/coco"),
        ("drawn_panoptic", DrawnPanopticDataModule, "elsewhere/drawn/coco-128px-seed0-2000-300-300"),
    ],
)
def test_the_data_blocks_of_the_experiments(block, kind, root, monkeypatch):
    monkeypatch.setenv("LIGHTNING_CV_DATA", "elsewhere")
    module = parse("--config", str(EXPERIMENTS / "_base" / f"{block}.yaml"))
    assert type(module) is kind
    assert module.root == root


def test_short_keys_reach_the_transforms():
    module = parse(
        "--data=DrawnPanopticDataModule",
        "--data.root=x",
        "--data.train_transform=lightning_cv.transforms.panoptic.PanopticTrain",
        "--data.train_transform.size=96",
    )
    assert module.train_transform.size == 96


# --- the real files


def said(folder, name):
    """Images and annotations of a real json, by the standard library."""
    content = json.loads((folder / f"annotations/{name}2017.json").read_text())
    return content["images"], content["annotations"]


@pytest.mark.data
@pytest.mark.parametrize(("name", "counts"), [("coco", (60, 61)), ("coco_tiny", (30, 30))])
def test_real_coco_batches(shared_data, name, counts):
    module = CocoDetectionDataModule(
        str(shared_data / name),
        ShorterSideTrain([128], 213),
        ShorterSideEval(128, 213),
        batch_size=4,
        with_masks=True,
        keep_empty=False,
        keep_crowd=False,
    )
    module.setup("fit")
    images, objects = said(shared_data / name, "instances_train")
    busy = {entry["image_id"] for entry in objects if not entry["iscrowd"]}
    assert len(images) == counts[0]
    assert len(module.train_set()) == len(busy) <= counts[0]
    targets = [target for batch in module.train_dataloader() for target in batch["targets"]]
    found = Counter(int(target["image_id"]) for target in targets for _ in target["labels"])
    wanted = Counter(entry["image_id"] for entry in objects if not entry["iscrowd"])
    shares = sum(found.values()) / sum(wanted[number] for number in found)
    assert 0.9 < shares <= 1  # at 128 pixels some small objects have no pixel left
    assert all(found[number] <= wanted[number] for number in found)
    assert len(targets) == len(busy) // 4 * 4
    images, objects = said(shared_data / name, "instances_val")
    assert len(module.val_set()) == len(images) == counts[1]
    batches = list(module.val_dataloader())
    targets = [target for batch in batches for target in batch["targets"]]
    assert [target["image_id"] for target in targets] == [str(entry["id"]) for entry in images]
    assert sum(len(target["labels"]) for target in targets) == len(objects)
    assert sum(int(target["crowd"].sum()) for target in targets) == sum(entry["iscrowd"] for entry in objects)
    assert sum(len(target["labels"]) == 0 for target in targets) == len(images) - len({o["image_id"] for o in objects})
    for batch in batches:
        for target in batch["targets"]:
            assert target["masks"].shape[1:] == batch["images"].shape[2:]
    assert module.label_map.num_classes == 80


@pytest.mark.data
def test_real_panoptic_batches(shared_data):
    module = CocoPanopticDataModule(str(shared_data / "coco"), PanopticTrain(96), PanopticEval(128, 213), batch_size=4)
    module.setup("fit")
    assert (len(module.train_set()), len(module.val_set()), len(module.test_set())) == (60, 61, 61)
    assert (module.label_map.num_classes, sum(module.is_thing)) == (133, 80)
    assert next(iter(module.train_dataloader()))["images"].shape == (4, 3, 96, 96)
    _, annotations = said(shared_data / "coco", "panoptic_val")
    listed = {str(entry["image_id"]): entry["segments_info"] for entry in annotations}
    for batch in module.val_dataloader():
        assert all(side % 32 == 0 for side in batch["images"].shape[2:])
        for target in batch["targets"]:
            assert len(target["labels"]) <= len(listed[target["image_id"]])
            assert target["segments"].max() == len(target["labels"])
            assert target["segments"].shape == batch["images"].shape[2:]
