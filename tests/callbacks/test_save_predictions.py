import json

import numpy as np
import pytest
import torch
from oracles.toy_training import (
    BOX_LABELS,
    MASK_LABELS,
    SEGMENT_LABELS,
    ToyData,
    ToyTask,
    box_batch,
    image_batch,
    panoptic_batch,
    segments_as_they_are,
    terms_of,
    toy_trainer,
)
from PIL import Image

from lightning_cv.callbacks import SavePredictions
from lightning_cv.contracts import LabelMap, Placement
from lightning_cv.datasets.voc_results import read_voc_detections
from lightning_cv.errors import UserError
from lightning_cv.metrics.coco_results import coco_figures


def two_found(batch):
    """The first box with a score of 0.9, and the same box again, smaller, with 0.5."""
    preds = []
    for target in batch["targets"]:
        box = target["boxes"][:1]
        boxes, labels = torch.cat([box, box * 0.5]), target["labels"][:1].repeat(2)
        preds.append({"boxes": boxes, "labels": labels, "scores": torch.tensor([0.9, 0.5])})
    ids = [target["image_id"] for target in batch["targets"]]
    return {"preds": preds, "targets": batch["targets"], "image_ids": ids}


def saved(folder, batch, answer, label_map=BOX_LABELS, **options):
    trainer = toy_trainer(folder / "run", callbacks=[SavePredictions(str(folder / "saved"), **options)])
    trainer.test(ToyTask(answer), datamodule=ToyData([batch], label_map), verbose=False)
    return folder / "saved"


def boxes_of_a_file_twice_as_wide():
    batch = box_batch(0)
    height, width = batch["images"].shape[-2:]
    for target in batch["targets"]:
        target["original_size"] = (height, 2 * width)
    return batch


def test_voc_files_are_in_pixels_of_the_file(tmp_path):
    batch = boxes_of_a_file_twice_as_wide()
    folder = saved(tmp_path, batch, two_found)
    assert sorted(path.name for path in folder.iterdir()) == ["comp4_det_test_disc.txt", "comp4_det_test_star.txt"]
    found = read_voc_detections(folder, BOX_LABELS, "test")
    for target in batch["targets"]:
        expected = target["boxes"][0] * torch.tensor([2, 1, 2, 1])
        torch.testing.assert_close(found[target["image_id"]]["boxes"], torch.stack([expected, expected * 0.5]))
        assert found[target["image_id"]]["scores"].tolist() == pytest.approx([0.9, 0.5])


def test_a_placement_is_undone(tmp_path):
    batch = box_batch(0)
    for target in batch["targets"]:
        target["placement"] = Placement(2.0, 0.5, 3.0, 1.0)
    found = read_voc_detections(saved(tmp_path, batch, two_found), BOX_LABELS, "test")
    target = batch["targets"][0]
    x1, y1, x2, y2 = target["boxes"][0].tolist()
    expected = [(x1 - 3) / 2, (y1 - 1) * 2, (x2 - 3) / 2, (y2 - 1) * 2]
    assert found[target["image_id"]]["boxes"][0].tolist() == pytest.approx(expected)


def test_whole_numbers_as_ids_make_a_coco_file(tmp_path):
    batch = box_batch(0)
    for number, target in enumerate(batch["targets"], start=17):
        target |= {"image_id": str(number), "original_size": (16, 16)}
    folder = saved(tmp_path, batch, two_found)
    rows = json.loads((folder / "bbox_results.json").read_text())
    assert {row["image_id"] for row in rows} == {17, 18}
    objects = [
        {"id": n + 1, "image_id": n + 17, "category_id": int(t["labels"][0]), "iscrowd": 0,
         "bbox": [*t["boxes"][0, :2].tolist(), *(t["boxes"][0, 2:] - t["boxes"][0, :2]).tolist()],
         "area": float((t["boxes"][0, 2:] - t["boxes"][0, :2]).prod())}
        for n, t in enumerate(batch["targets"])
    ]  # fmt: skip
    images = [{"id": n, "height": 16, "width": 16} for n in (17, 18)]
    categories = [{"id": 1, "name": "disc"}, {"id": 2, "name": "star"}]
    truth = {"images": images, "annotations": objects, "categories": categories}
    assert coco_figures(truth, rows, "bbox").figures["AP"] == pytest.approx(1.0)
    assert list(saved(tmp_path / "voc", batch, two_found, format="voc").glob("comp4*"))


def same_masks(batch):
    return {"preds": batch["masks"], "targets": batch["masks"], "image_ids": batch["image_ids"]}


def masks(size=16):
    labels = (torch.arange(size)[:, None] + torch.arange(size)) % 2
    return {"images": torch.zeros(2, 3, size, size), "masks": labels.repeat(2, 1, 1), "image_ids": ["a", "b"],
            "original_sizes": [(16, 10), (7, 16)]}  # fmt: skip


def test_masks_have_the_size_of_the_file_and_voc_colours(tmp_path):
    folder = saved(tmp_path, masks(), same_masks, MASK_LABELS)
    for name, size in (("a", (16, 10)), ("b", (7, 16))):
        with Image.open(folder / f"comp6_test_cls/{name}.png") as stored:
            assert stored.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
            np.testing.assert_array_equal(np.array(stored), masks()["masks"][0].numpy()[: size[0], : size[1]])
    assert list(folder.iterdir()) == [folder / "comp6_test_cls"]


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(UserError, match="image a: its file is 10 x 16 pixels, evaluated at 8 x 8"):
        saved(tmp_path, masks(8), same_masks, MASK_LABELS)
    with pytest.raises(UserError, match="which this is not"):
        saved(tmp_path, image_batch(0), terms_of)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot save predictions"):
        saved(tmp_path / "file", box_batch(0), two_found)
    batch = box_batch(0)
    batch["targets"][0]["image_id"] = "a b"
    with pytest.raises(UserError, match="no place for spaces"):
        saved(tmp_path, batch, two_found)


def with_ids(batch, *image_ids):
    for target, image_id in zip(batch["targets"], image_ids, strict=True):
        target["image_id"] = image_id
    return batch


@pytest.mark.parametrize("image_id", ["img1", "2007_000032", "-1", ""])
def test_cocos_image_ids_are_whole_numbers(tmp_path, image_id):
    refused = pytest.raises(UserError, match=f"image '{image_id}' cannot be saved in COCO's format: its image ids are")
    with refused:
        saved(tmp_path, with_ids(box_batch(0), "7", image_id), two_found, format="coco")
    with refused:
        saved(tmp_path, with_ids(panoptic_batch(0), "7", image_id), segments_as_they_are, SEGMENT_LABELS)
    assert not list(tmp_path.rglob("*.json"))


def test_a_format_without_a_place_for_what_was_found(tmp_path):
    with pytest.raises(UserError, match="format coco has no place for class masks: they are saved as voc"):
        saved(tmp_path, masks(), same_masks, MASK_LABELS, format="coco")
    with pytest.raises(UserError, match="format boxes-txt has no place for panoptic segmentations: they are saved as"):
        saved(tmp_path, panoptic_batch(0), segments_as_they_are, SEGMENT_LABELS, format="boxes-txt")
    labels = LabelMap(("disc", "potted plant"), 1, (1, 2))
    with pytest.raises(UserError, match="class 'potted plant' cannot be written in boxes-txt"):
        saved(tmp_path, box_batch(0), two_found, labels, format="boxes-txt")
    with pytest.raises(UserError, match="image 'a/b': no file of boxes can have this name"):
        saved(tmp_path, with_ids(box_batch(0), "a/b", "c"), two_found, format="boxes-txt")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_image_id_with_spaces_can_name_a_file_of_boxes(tmp_path):
    folder = saved(tmp_path, with_ids(box_batch(0), "a b", "c"), two_found, format="boxes-txt")
    assert sorted(path.name for path in (folder / "boxes-txt").iterdir()) == ["a b.txt", "c.txt"]


def test_detections_that_are_none_are_told_at_once(tmp_path):
    def spoilt(key, change):
        def answer(batch):
            outputs = two_found(batch)
            outputs["preds"][1][key] = change(outputs["preds"][1])
            return outputs

        return answer

    for key, change in (
        ("scores", lambda found: found["scores"] * float("nan")),
        ("boxes", lambda found: found["boxes"] * float("inf")),
        ("boxes", lambda found: found["boxes"].flip(1)),
    ):
        with pytest.raises(ValueError, match="image img1: a score is no number, or a box is not finite"):
            saved(tmp_path, box_batch(0), spoilt(key, change))
    for wrong in (torch.ones(2, 28, 28, dtype=torch.bool), torch.ones(2, 16, 16), torch.ones(1, 16, 16) > 0):
        with pytest.raises(ValueError, match=r"image img1: masks must be bool and of the image's size, \(2, 16, 16\)"):
            saved(tmp_path, box_batch(0), spoilt("masks", lambda found, wrong=wrong: wrong))


def test_files_are_named_for_the_list(tmp_path):
    data = ToyData([box_batch(0)], BOX_LABELS)
    data.splits = {"test": "val"}
    trainer = toy_trainer(tmp_path, callbacks=[SavePredictions(str(tmp_path / "saved"))])
    trainer.test(ToyTask(two_found), datamodule=data, verbose=False)
    assert (tmp_path / "saved/comp4_det_val_disc.txt").is_file()
