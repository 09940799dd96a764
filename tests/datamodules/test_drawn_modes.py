"""Binary and multilabel batches of drawn scenes: what is in them, known from the scenes."""

import albumentations as A
import numpy as np
import pytest
import torch

from lightning_cv.contracts import VOID, Draw
from lightning_cv.datamodules import DrawnMultilabelDataModule, DrawnSegmentationDataModule, VOCSegmentationDataModule
from lightning_cv.datasets.drawn import DRAWN_CLASSES, DrawnLabels, draw_scene, scene_seed
from lightning_cv.transforms import SegmentationEval, SegmentationFlip, SegmentationPipeline, SegmentationTrain

SMALL = {"train": 6, "val": 3, "test": 2, "size": 48, "draw_seed": 2}


def test_a_plane_is_the_union_of_the_whole_shapes_of_its_class():
    labels, overlaps = DrawnLabels("val", 20, seed=2, size=64), 0
    for index in range(len(labels)):
        sample, scene = labels[index], draw_scene(scene_seed(2, "val", index), 64)
        assert np.array_equal(sample["image"], scene.image)
        expected = np.zeros((64, 64, 10), np.uint8)
        for label, whole, visible in zip(scene.labels, scene.whole_masks, scene.instance_masks, strict=True):
            assert (whole | visible == whole).all()
            for row, column in np.argwhere(whole):
                expected[row, column, label - 1] = 1
        assert np.array_equal(sample["mask"], expected)
        rows, columns = np.nonzero(scene.class_mask)
        assert (sample["mask"][rows, columns, scene.class_mask[rows, columns] - 1] == 1).all()  # what is seen is there
        assert (sample["mask"].any(axis=2) == (scene.class_mask > 0)).mean() > 0.9  # all but of objects left out
        overlaps += int((sample["mask"].sum(axis=2) > 1).sum())
    assert overlaps > 500


def test_the_front_object_is_seen_whole_and_one_behind_it_is_not():
    hidden = 0
    for seed in range(10):
        scene = draw_scene(seed, 64)
        assert np.array_equal(scene.whole_masks[-1], scene.instance_masks[-1])
        covered = np.zeros((64, 64), bool)
        for whole, visible in zip(scene.whole_masks[::-1], scene.instance_masks[::-1], strict=True):
            assert np.array_equal(visible, whole & ~covered)
            covered |= whole
            hidden += int((whole & ~visible).sum())
    assert hidden > 1000


def test_a_scene_that_is_not_there_ends_a_loop():
    assert len(list(DrawnLabels("test", 3, size=32))) == 3
    with pytest.raises(ValueError, match="needs at least 1, got 0 for test"):
        DrawnLabels("test", 0)


def test_planes_are_padded_with_void():
    module = DrawnMultilabelDataModule(**SMALL, batch_size=2)
    assert module.class_names == DRAWN_CLASSES
    batch = next(iter(module.val_dataloader()))
    assert batch["masks"].shape == (2, 10, 64, 64)
    assert batch["masks"].dtype == torch.int64
    assert (batch["masks"][:, :, 48:] == VOID).all()
    assert (batch["masks"][:, :, :, 48:] == VOID).all()
    scene = module.sources["val"][1]["mask"]
    assert np.array_equal(batch["masks"][1, :, :48, :48], scene.transpose(2, 0, 1))
    assert batch["original_sizes"] == [(48, 48)] * 2
    assert module.prepare_image(np.zeros((30, 70, 3), np.uint8)).shape == (3, 32, 96)


@pytest.mark.parametrize(
    "transform",
    [
        SegmentationFlip(0.1),
        SegmentationTrain(56),
        SegmentationEval(32),
        SegmentationPipeline([A.Rotate((30, 30), fill_mask=VOID, mask_interpolation=0, p=1.0), A.VerticalFlip(p=0.5)]),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_each_plane_moves_as_a_class_mask_does(transform):
    sample = DrawnLabels("train", 3, size=48)[2]
    for seed in range(4):
        together = transform(sample, seed)
        assert together.original_size == (48, 48)
        for plane in range(10):
            alone = transform(sample | {"mask": np.ascontiguousarray(sample["mask"][..., plane])}, seed)
            assert torch.equal(together.mask[plane], alone.mask)
            assert torch.equal(together.image, alone.image)


def test_any_object_is_one_class(tmp_path):
    classes = DrawnSegmentationDataModule(str(tmp_path), **SMALL)
    classes.prepare_data()
    binary = DrawnSegmentationDataModule(str(tmp_path), **SMALL, binary=True)
    folder = VOCSegmentationDataModule(
        str(binary.root), SegmentationFlip(), SegmentationEval(), class_names=list(DRAWN_CLASSES), binary=True
    )
    for module in (binary, folder):
        assert module.class_names == ("background", "object")
        for draw in range(3):
            wanted = classes.val_set()[[Draw(0, draw)]]
            found = module.val_set()[[Draw(0, draw)]]
            assert torch.equal(found["images"], wanted["images"])
            assert torch.equal(found["masks"] == VOID, wanted["masks"] == VOID)
            assert torch.equal(found["masks"] == 1, (wanted["masks"] > 0) & (wanted["masks"] < VOID))
            assert set(found["masks"].unique().tolist()) == {0, 1, VOID}
