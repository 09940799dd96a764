"""Data modules: the same batches with any number of loader processes, settings from YAML, early and clear errors."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser, set_parsing_settings
from PIL import Image

from lightning_cv.contracts import VOID, Draw
from lightning_cv.datamodules import (
    DataModule,
    DigitsDataModule,
    DrawnDetectionDataModule,
    DrawnMultilabelDataModule,
    DrawnSegmentationDataModule,
    MNISTDataModule,
    VOCDetectionDataModule,
    VOCSegmentationDataModule,
)
from lightning_cv.datamodules.batches import collate_detection, collate_segmentation
from lightning_cv.datasets.drawn import DRAWN_CLASSES, draw_scene, scene_seed
from lightning_cv.datasets.errors import DataError
from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD, Normalise
from lightning_cv.transforms import (
    DetectionEval,
    DetectionPipeline,
    FlipOnly,
    PreparedDetection,
    PreparedMask,
    SegmentationEval,
    SegmentationTrain,
    SSDTrain,
    restore_boxes,
)

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
SMALL = {"train": 10, "val": 5, "test": 3, "size": 48, "draw_seed": 2}


@pytest.fixture(scope="module")
def drawn_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    DrawnDetectionDataModule(str(root), **SMALL).prepare_data()
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
    "detection": lambda root, workers: DrawnDetectionDataModule(
        root, **SMALL, train_transform=SSDTrain(48), batch_size=4, num_workers=workers
    ),
    "segmentation": lambda root, workers: DrawnSegmentationDataModule(
        root, **SMALL, train_transform=SegmentationTrain(48), batch_size=4, num_workers=workers
    ),
    "digits": lambda root, workers: DigitsDataModule(size=9, batch_size=64, num_workers=workers),
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
    assert len(read[0]) == {"detection": 2 * 2 + 2, "segmentation": 2 * 2 + 2, "digits": 2 * 19 + 5}[kind]


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_epochs_and_seeds_augment_differently(drawn_root, kind):
    images = {}
    for seed in (0, 1):
        module = MODULES[kind](drawn_root, 0)
        module.seed = seed
        batches = module.train_set()
        for epoch in (0, 1):
            images[seed, epoch] = batches[[Draw(epoch, index) for index in range(4)]]["images"]
    for key, other in [((0, 0), (0, 1)), ((0, 0), (1, 0))]:
        assert not torch.equal(images[key], images[other])


def test_drawn_detection_gives_the_scenes(drawn_root):
    module = DrawnDetectionDataModule(drawn_root, **SMALL, batch_size=4)
    module.setup("test")
    (batch,) = module.test_dataloader()
    assert batch["images"].shape == (3, 3, 48, 48)
    for index, target in enumerate(batch["targets"]):
        scene = draw_scene(scene_seed(2, "test", index), 48)
        assert target["boxes"].tolist() == scene.boxes.tolist()
        assert target["labels"].tolist() == scene.labels.tolist()
        assert target["original_size"] == (48, 48)
    assert module.class_names == DRAWN_CLASSES
    assert (module.label_map.first, module.label_map.num_classes) == (1, 10)


def test_drawn_segmentation_gives_the_masks_padded(drawn_root):
    module = DrawnSegmentationDataModule(drawn_root, **SMALL)
    module.setup("validate")
    (batch,) = module.val_dataloader()
    assert batch["masks"].shape == (5, 64, 64)  # 48 padded to a multiple of 32
    for index in range(5):
        scene = draw_scene(scene_seed(2, "val", index), 48)
        np.testing.assert_array_equal(batch["masks"][index, :48, :48], scene.class_mask)
    assert (batch["masks"][:, 48:] == VOID).all()
    assert module.class_names == ("background", *DRAWN_CLASSES)
    assert (module.label_map.first, module.label_map.num_classes) == (0, 11)


def test_both_kinds_share_one_drawn_folder(drawn_root):
    one, other = DrawnDetectionDataModule(drawn_root, **SMALL), DrawnSegmentationDataModule(drawn_root, **SMALL)
    assert one.root == other.root
    before = sorted(Path(drawn_root).rglob("*"))
    other.prepare_data()
    assert sorted(Path(drawn_root).rglob("*")) == before


def test_training_goes_on_where_the_progress_says(drawn_root):
    @dataclasses.dataclass
    class Count:
        ready: int

    def trainer_after(batches, limit):
        progress = dataclasses.make_dataclass("Progress", ["total"])(Count(batches))
        epoch_loop = dataclasses.make_dataclass("EpochLoop", ["batch_progress"])(progress)
        fit_loop = dataclasses.make_dataclass("FitLoop", ["epoch_loop"])(epoch_loop)
        fields = ["fit_loop", "limit_train_batches", "global_rank", "world_size"]
        return dataclasses.make_dataclass("Trainer", fields)(fit_loop, limit, 0, 1)

    for limit, (epoch, batch) in ((1.0, (1, 1)), (1, (3, 0)), (0.5, (3, 0))):
        module = DrawnDetectionDataModule(drawn_root, **SMALL, batch_size=4)
        module.trainer = trainer_after(3, limit)  # an epoch has 2 full batches of 4
        sampler = module.train_dataloader().sampler
        assert (sampler.start_epoch, sampler.start_batch) == (epoch, batch)


def test_a_prepared_image_is_what_evaluation_sees(drawn_root):
    detection = DrawnDetectionDataModule(drawn_root, **SMALL, eval_transform=DetectionEval(40))
    segmentation = DrawnSegmentationDataModule(drawn_root, **SMALL, eval_transform=SegmentationEval(100))
    for module, shape in ((detection, (3, 40, 40)), (segmentation, (3, 100, 100))):
        picture = module.source("val")[0]["image"]
        prepared = module.prepare_image(picture)
        assert tuple(prepared.shape) == shape
        assert torch.equal(prepared, module.val_set()[[Draw(0, 0)]]["images"][0])
    boxes = torch.tensor([[0.0, 0.0, 40.0, 20.0]])
    assert restore_boxes(boxes, detection.placement(100, 50)).tolist() == [[0, 0, 50, 50]]


def test_small_images_prepare_any_picture():
    picture = np.full((50, 30, 3), 51, np.uint8)
    prepared = DigitsDataModule(size=12).prepare_image(picture)
    torch.testing.assert_close(prepared, torch.full((1, 12, 12), 0.2))
    assert MNISTDataModule("nowhere", size=64).prepare_image(picture).shape == (1, 64, 64)


def test_digits_have_three_disjoint_splits():
    module = DigitsDataModule(size=8, batch_size=64)
    module.setup("fit")
    module.setup("test")
    ids = [set(split.ids) for split in (module.train_set(), module.val_set(), module.test_set())]
    assert [len(names) for names in ids] == [1258, 270, 269]
    assert len(set.union(*ids)) == 1797
    batch = next(iter(module.train_dataloader()))
    assert batch["images"].shape == (64, 1, 8, 8)
    assert module.class_names == tuple("0123456789")


@pytest.mark.parametrize(
    "module",
    [
        VOCDetectionDataModule("nowhere", FlipOnly(), DetectionEval(32)),
        VOCSegmentationDataModule("nowhere", SegmentationTrain(32), SegmentationEval()),
        MNISTDataModule("nowhere"),
        DrawnDetectionDataModule("nowhere"),
    ],
)
def test_a_missing_folder_is_told_in_setup_with_the_command(module):
    with pytest.raises(DataError, match=r"lightning-cv data (get|draw).* --root nowhere"):
        module.setup("fit")


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"eval_batch_size": 0}])
def test_an_empty_batch_is_refused(settings):
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        DigitsDataModule(**settings)


def test_difficult_objects_are_left_out_of_training_only(tmp_path):
    folder = tmp_path / "VOCdevkit/VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(folder / "JPEGImages/a.jpg")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    (folder / "Annotations/a.xml").write_text(
        f"<annotation><object><name>x</name>{box}</object>"
        f"<object><name>x</name><difficult>1</difficult>{box}</object></annotation>"
    )
    (folder / "ImageSets/Main/all.txt").write_text("a\n")
    module = VOCDetectionDataModule(
        str(tmp_path), FlipOnly(), DetectionEval(20), batch_size=1, train="all", val="all", test="all",
        class_names=["x"], keep_difficult=False,
    )  # fmt: skip
    counts = [len(split[[Draw(0, 0)]]["targets"][0]["labels"]) for split in (module.train_set(), module.val_set())]
    assert counts == [1, 2]


def test_images_of_two_sizes_are_padded():
    target = {"image_id": "a", "boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    target |= {"difficult": torch.zeros(0, dtype=torch.bool), "original_size": (1, 1)}
    samples = [PreparedDetection(torch.zeros(3, *size), dict(target)) for size in ((4, 6), (5, 5))]
    images = collate_detection(samples)["images"]
    assert images.shape == (2, 3, 5, 6)
    normalised = Normalise(IMAGENET_MEAN, IMAGENET_STD)(images)
    assert (normalised[0, :, 4:] == 0).all()  # the mean colour, exactly: as torchvision pads
    assert (normalised[1, :, :, 5:] == 0).all()
    assert (images[0, :, :4] == 0).all()


def test_masks_of_two_sizes_are_padded_with_void():
    samples = [
        PreparedMask(torch.zeros(3, *size), torch.ones(size, dtype=torch.int64), name, size)
        for name, size in (("a", (2, 5)), ("b", (4, 3)))
    ]
    batch = collate_segmentation(samples)
    assert batch["masks"].shape == (2, 4, 5)
    assert batch["image_ids"] == ["a", "b"]
    assert batch["original_sizes"] == [(2, 5), (4, 3)]
    assert (batch["masks"] == 1).sum(dim=(1, 2)).tolist() == [10, 12]
    assert (batch["masks"][0, 2:] == VOID).all()
    assert (batch["masks"][1, :, 3:] == VOID).all()
    assert (batch["images"][1, :, :, 3:] > 0.3).all()  # the mean colour
    assert (batch["images"][1, :, :, :3] == 0).all()


# --- settings from YAML


def parse(*arguments):
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    parser = ArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(DataModule, "data")
    return parser.instantiate(parser.parse_args(list(arguments))).data


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        ("drawn_detection", DrawnDetectionDataModule),
        ("drawn_segmentation", DrawnSegmentationDataModule),
        ("drawn_multilabel", DrawnMultilabelDataModule),
        ("voc_detection", VOCDetectionDataModule),
        ("voc_segmentation", VOCSegmentationDataModule),
        ("digits", DigitsDataModule),
        ("mnist", MNISTDataModule),
    ],
)
def test_the_data_blocks_of_the_experiments(block, kind, monkeypatch):
    monkeypatch.setenv("LIGHTNING_CV_DATA", "elsewhere")
    module = parse("--config", str(EXPERIMENTS / "_base" / f"{block}.yaml"))
    assert type(module) is kind
    if kind not in (DigitsDataModule, DrawnMultilabelDataModule):
        assert module.root.startswith("elsewhere")


def test_a_pipeline_of_albumentations_from_yaml(tmp_path):
    (tmp_path / "data.yaml").write_text(
        """
data:
  class_path: lightning_cv.datamodules.DrawnDetectionDataModule
  init_args:
    root: x
    train_transform:
      class_path: lightning_cv.transforms.DetectionPipeline
      init_args:
        transforms:
        - {class_path: albumentations.HorizontalFlip, init_args: {p: 0.25}}
        - {class_path: albumentations.Resize, init_args: {height: 64, width: 64}}
"""
    )
    transform = parse("--config", str(tmp_path / "data.yaml")).train_transform
    assert isinstance(transform, DetectionPipeline)
    assert [type(step).__name__ for step in transform.pipeline] == ["HorizontalFlip", "Resize"]
    assert transform.pipeline[0].p == 0.25


def test_short_keys_reach_the_transform():
    arguments = ["--data=DrawnDetectionDataModule", "--data.root=x", "--data.train_transform=SSDTrain"]
    module = parse(*arguments, "--data.train_transform.size=128", "--data.train_transform.max_zoom=2")
    assert (module.train_transform.size, module.train_transform.max_zoom) == (128, 2)


# --- the real files


@pytest.mark.data
def test_real_voc_batches(shared_data):
    detection = VOCDetectionDataModule(str(shared_data), SSDTrain(128), DetectionEval(128), batch_size=8)
    detection.setup("fit")
    assert next(iter(detection.train_dataloader()))["images"].shape == (8, 3, 128, 128)
    segmentation = VOCSegmentationDataModule(str(shared_data), SegmentationTrain(96), SegmentationEval(), batch_size=4)
    segmentation.setup("fit")
    assert next(iter(segmentation.train_dataloader()))["masks"].shape == (4, 96, 96)
    masks = next(iter(segmentation.val_dataloader()))["masks"]
    assert masks.shape[1] % 32 == masks.shape[2] % 32 == 0
    binary = VOCSegmentationDataModule(
        str(shared_data), SegmentationTrain(96), SegmentationEval(), batch_size=4, binary=True
    )
    found = next(iter(binary.val_dataloader()))["masks"]
    assert torch.equal(found, torch.where(masks == VOID, VOID, (masks > 0).long()))
    assert set(found.unique().tolist()) == {0, 1, VOID}
    labels = VOCSegmentationDataModule(
        str(shared_data), SegmentationTrain(96, scale=(0.2, 2.0)), SegmentationEval(), batch_size=4, multilabel=True
    )
    planes = next(iter(labels.val_dataloader()))["masks"]
    assert torch.equal(torch.where(masks == VOID, VOID, planes.argmax(1) + planes.max(1).values), masks)
    labels.setup("fit")
    for batch in labels.train_dataloader():  # padding is void in every plane, and no plane is mixed with another
        assert batch["masks"].shape[1:] == (20, 96, 96)
        void = (batch["masks"] == VOID).sum(1)
        assert set(void.unique().tolist()) <= {0, 20}
        assert (((batch["masks"] == 1).sum(1) <= 1) | (void > 0)).all()


@pytest.mark.data
def test_real_mnist_batches(shared_data):
    module = MNISTDataModule(str(shared_data), batch_size=100)
    module.setup("fit")
    module.setup("test")
    assert [len(split) for split in (module.train_set(), module.val_set(), module.test_set())] == [45000, 5000, 5000]
    batch = next(iter(module.train_dataloader()))
    assert batch["images"].shape == (100, 1, 32, 32)
    assert batch["images"].max() == 1
