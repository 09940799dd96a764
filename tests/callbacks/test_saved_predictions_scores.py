"""What `SavePredictions` writes, `evaluate` scores as the metrics of the same test did."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles.toy_training import (
    BOX_LABELS,
    SEGMENT_LABELS,
    SEGMENT_THINGS,
    ToyData,
    ToyTask,
    box_batch,
    panoptic_batch,
    segments_as_they_are,
    toy_trainer,
)
from PIL import Image
from pycocotools import mask as rle

from lightning_cv.callbacks import DetectionMetrics, PanopticMetrics, SavePredictions
from lightning_cv.callbacks.metrics import COCO_MASK_NAMES, COCO_NAMES
from lightning_cv.contracts import LabelMap, Placement
from lightning_cv.datamodules import DrawnInstancesDataModule
from lightning_cv.tools import evaluate
from lightning_cv.transforms import DetectionEval

GAPS = LabelMap(("disc", "star"), 1, (7, 90))
"""Category ids with a gap, as COCO has them."""


def figures_of(folder, batches, answer, label_map, metrics, format="auto"):
    """The figures of a test that saves its predictions in `folder`."""
    callbacks = [metrics, SavePredictions(str(folder), format)]
    trainer = toy_trainer(folder.parent / "run", callbacks=callbacks)
    return trainer.test(ToyTask(answer), datamodule=ToyData(batches, label_map), verbose=False)[0]


def evaluated(capsys, *arguments):
    capsys.readouterr()
    assert evaluate.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# --- COCO: boxes and masks

SHOWN = Placement(2.0, 2.0, left=6.0, top=4.0)
"""A file of 12 x 20 pixels (height x width), doubled, in a picture of 32 x 64 with a border on all sides."""


def rectangle(top, left, bottom, right):
    mask = np.zeros((12, 20), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


OBJECTS = {17: (rectangle(1, 2, 9, 10), 0), 18: (rectangle(2, 4, 10, 12), 1), 19: (rectangle(0, 0, 4, 4), 0)}
"""Image id to the mask and class of its one object."""
FOUND = {17: rectangle(1, 2, 9, 10), 18: rectangle(2, 4, 10, 9), 19: None}
"""Exactly; 40 of its 64 pixels; not at all."""


def in_the_picture(mask):
    """The mask as the prepared picture shows it; one pixel of the border is part of it."""
    picture = np.zeros((32, 64), bool)
    for row, column in np.ndindex(24, 40):
        picture[row + 4, column + 6] = mask[row // 2, column // 2]
    picture[0, 0] = True
    return torch.from_numpy(picture)


def box_of(mask, scale=1, left=0, top=0):
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    return [columns[0] * scale + left, rows[0] * scale + top,
            (columns[-1] + 1) * scale + left, (rows[-1] + 1) * scale + top]  # fmt: skip


def mask_batch_in_a_border():
    targets = [
        {"image_id": str(number), "boxes": torch.tensor([box_of(mask, 2, 6, 4)], dtype=torch.float32),
         "labels": torch.tensor([label + 1]), "difficult": torch.tensor([False]), "original_size": (12, 20),
         "placement": SHOWN, "masks": in_the_picture(mask)[None]}
        for number, (mask, label) in OBJECTS.items()
    ]  # fmt: skip
    return {"images": torch.zeros(3, 3, 32, 64), "targets": targets}


def masks_found(batch):
    preds = []
    for target in batch["targets"]:
        found = [mask for mask in [FOUND[int(target["image_id"])]] if mask is not None]
        preds.append(
            {"boxes": torch.tensor([box_of(mask, 2, 6, 4) for mask in found], dtype=torch.float32).reshape(-1, 4),
             "scores": torch.full((len(found),), 0.75), "labels": target["labels"][: len(found)],
             "masks": torch.stack([torch.zeros(32, 64, dtype=torch.bool), *map(in_the_picture, found)])[1:]}
        )  # fmt: skip
    ids = [target["image_id"] for target in batch["targets"]]
    return {"preds": preds, "targets": batch["targets"], "image_ids": ids}


def instances_json(path):
    objects = []
    for number, (mask, label) in OBJECTS.items():
        x1, y1, x2, y2 = map(int, box_of(mask))
        outline = [x1, y1, x2, y1, x2, y2, x1, y2]
        objects.append(
            {"id": number, "image_id": number, "category_id": GAPS.dataset_ids[label], "iscrowd": 0,
             "area": (x2 - x1) * (y2 - y1), "bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": [outline]}
        )  # fmt: skip
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 12, "width": 20} for number in OBJECTS]
    categories = [{"id": 7, "name": "disc"}, {"id": 90, "name": "star"}]
    return written(path, {"images": images, "annotations": objects, "categories": categories})


@pytest.fixture
def coco_run(tmp_path):
    metrics = DetectionMetrics(coco="test", errors="never", per_class=True)
    measured = figures_of(tmp_path / "saved", [mask_batch_in_a_border()], masks_found, GAPS, metrics)
    return measured, tmp_path / "saved", instances_json(tmp_path / "gt.json")


def test_coco_boxes(coco_run, capsys):
    measured, saved, truth = coco_run
    found = evaluated(capsys, "coco", "--gt", truth, "--pred", saved / "bbox_results.json")
    for ours, theirs in COCO_NAMES.items():
        value = measured.get(f"test/{ours}")  # none of what there is none of, as large objects
        assert found["figures"][f"bbox_{theirs}"] == (None if value is None else pytest.approx(value, abs=1e-6))
    # one of two discs exactly; the star's box overlaps by 5 / 8, which is enough three of ten times
    assert found["figures"]["bbox_AP"] == pytest.approx((51 / 101 + 0.3) / 2)


def test_coco_masks_in_the_pixels_of_the_file(coco_run, capsys):
    measured, saved, truth = coco_run
    rows = json.loads((saved / "segm_results.json").read_text())
    assert [(row["image_id"], row["category_id"], row["score"]) for row in rows] == [(17, 7, 0.75), (18, 90, 0.75)]
    for row in rows:
        np.testing.assert_array_equal(rle.decode(row["segmentation"]), FOUND[row["image_id"]])
    found = evaluated(capsys, "coco", "--gt", truth, "--pred", saved / "segm_results.json", "--iou-type", "segm")
    for ours, theirs in COCO_MASK_NAMES.items():
        value = measured.get(f"test/{ours}")
        assert found["figures"][f"segm_{theirs}"] == (None if value is None else pytest.approx(value, abs=1e-6))
    for name in ("disc", "star"):
        assert found["per_class"][name]["segm_AP"] == pytest.approx(measured[f"test/mask_ap_{name}"], abs=1e-6)
    assert found["figures"]["segm_AP"] == pytest.approx((51 / 101 + 0.3) / 2)
    assert found["figures"]["segm_AP50"] == pytest.approx((51 / 101 + 1.0) / 2)
    assert found["figures"]["segm_AP75"] == pytest.approx(51 / 101 / 2)


def moved_masks(batch):
    """Every object, its mask moved by a pixel or two and its box with it, and again under the next class."""
    preds = []
    for number, target in enumerate(batch["targets"]):
        steps = torch.arange(len(target["labels"])) % 3
        masks = [mask.roll((int(step), number % 2), (0, 1)) for mask, step in zip(target["masks"], steps, strict=True)]
        labels = torch.cat([target["labels"], target["labels"] % 10 + 1])
        scores = ((torch.arange(len(labels)) * 37 + 11 * number) % 101 / 101).float()
        preds.append({"boxes": target["boxes"].repeat(2, 1), "labels": labels, "scores": scores,
                      "masks": torch.stack([*masks, *masks])})  # fmt: skip
    return {"preds": preds, "targets": batch["targets"], "image_ids": [t["image_id"] for t in batch["targets"]]}


@pytest.mark.parametrize("side", [40, 64, 150])
def test_drawn_masks_score_as_the_test_did_in_pictures_of_any_size(tmp_path, capsys, side):
    data = DrawnInstancesDataModule(
        str(tmp_path), train=1, val=1, test=6, size=64, batch_size=6, eval_transform=DetectionEval(side)
    )
    callbacks = [DetectionMetrics(errors="never", per_class=True), SavePredictions(str(tmp_path / "saved"))]
    trainer = toy_trainer(tmp_path / "run", callbacks=callbacks)
    measured = trainer.test(ToyTask(moved_masks), datamodule=data, verbose=False)[0]
    (truth,) = Path(data.root).rglob("instances_test*.json")
    results = tmp_path / "saved/segm_results.json"
    found = evaluated(capsys, "coco", "--gt", truth, "--pred", results, "--iou-type", "segm")
    for ours, theirs in COCO_MASK_NAMES.items():
        value = measured.get(f"test/{ours}")
        assert found["figures"][f"segm_{theirs}"] == (None if value is None else pytest.approx(value, abs=1e-6))
    for name, row in found["per_class"].items():
        value = measured.get(f"test/mask_ap_{name}")
        assert row["segm_AP"] == (None if value is None else pytest.approx(value, abs=1e-6))
    assert 0.1 < found["figures"]["segm_AP"] < 0.9


def test_masks_have_no_place_in_other_formats(tmp_path):
    for format, files in (
        ("voc", ["comp4_det_test_disc.txt", "comp4_det_test_star.txt"]),
        ("boxes-txt", ["boxes-txt/17.txt", "boxes-txt/18.txt", "boxes-txt/19.txt"]),
    ):
        folder = tmp_path / format
        figures_of(folder, [mask_batch_in_a_border()], masks_found, GAPS, DetectionMetrics(coco="never"), format)
        assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.txt")) == files
        assert not list(folder.rglob("*.json"))


# --- COCO: panoptic


def numbered(batch, first):
    for number, target in enumerate(batch["targets"], start=first):
        target["image_id"] = str(number)
    return batch


def one_wrong_one_void(batch):
    """The ground of the first image reaches 4 of 16 columns too far and its thing is another; none of the second."""
    outputs = segments_as_they_are(batch)
    first, second = outputs["preds"]
    first |= {"segments": first["segments"].clone(), "labels": torch.tensor([0, 2])}
    first["segments"][:, 8:12] = 1
    second |= {"segments": torch.zeros_like(second["segments"]), "labels": torch.zeros(0, dtype=torch.int64)}
    second["scores"] = torch.zeros(0)
    return outputs


def panoptic_json(path, batches):
    """The truth in panopticapi's format, numbered 300 and 70000, and the PNG files beside it."""
    folder = path.with_suffix("")
    folder.mkdir()
    entries, images = [], []
    for target in (target for batch in batches for target in batch["targets"]):
        ids = np.array([0, 300, 70_000])[target["file"]["segments"].numpy()]
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(folder / f"{target['image_id']}.png")
        infos = [
            {"id": number, "category_id": SEGMENT_LABELS.dataset_ids[label], "iscrowd": 0, "area": 1, "bbox": []}
            for number, label in zip((300, 70_000), target["labels"].tolist(), strict=True)
        ]
        number = int(target["image_id"])
        entries.append({"image_id": number, "file_name": f"{number}.png", "segments_info": infos})
        images.append({"id": number, "file_name": f"{number}.jpg", "height": ids.shape[0], "width": ids.shape[1]})
    declared = zip(SEGMENT_LABELS.names, SEGMENT_LABELS.dataset_ids, SEGMENT_THINGS, strict=True)
    categories = [{"id": number, "name": name, "isthing": int(thing)} for name, number, thing in declared]
    return written(path, {"images": images, "annotations": entries, "categories": categories})


def segments_of(saved, entry):
    """The category of every pixel of a saved image, 0 where it has none, and the numbers in its PNG."""
    with Image.open(saved / "panoptic_results" / entry["file_name"]) as png:
        assert png.mode == "RGB"
        red, green, blue = np.moveaxis(np.array(png, np.int64), -1, 0)
    ids = red + 256 * green + 65536 * blue
    categories = np.zeros_like(ids)
    for info in entry["segments_info"]:
        categories[ids == info["id"]] = info["category_id"]
    return categories, set(np.unique(ids).tolist()) - {0}


def test_panoptic_segments_score_as_the_test_did(tmp_path, capsys):
    batches = [numbered(panoptic_batch(0), 41), numbered(panoptic_batch(0), 139)]

    def answer(batch):
        return (one_wrong_one_void if batch["targets"][0]["image_id"] == "41" else segments_as_they_are)(batch)

    measured = figures_of(tmp_path / "saved", batches, answer, SEGMENT_LABELS, PanopticMetrics())
    truth = panoptic_json(tmp_path / "gt.json", batches)
    found = evaluated(capsys, "coco-panoptic", "--gt", truth, "--pred", tmp_path / "saved/panoptic_results.json")
    assert found["images"] == 4
    for name in ("pq", "sq", "rq"):
        assert found["figures"][f"{name}_all"] == pytest.approx(measured[f"test/{name}"], abs=1e-6)
        for which in ("things", "stuff"):
            assert found["figures"][f"{name}_{which}"] == pytest.approx(measured[f"test/{name}_{which}"], abs=1e-6)
    # ground: 15 counted columns found in 23, missed, twice exactly. disc: exactly, missed once. star: exactly, missed
    # once, false once
    ground, disc, star = (15 / 23 + 2) / 3.5, 1 / 1.5, 1 / 2
    assert found["figures"]["pq_all"] == pytest.approx((ground + disc + star) / 3)


def test_panoptic_files_of_an_image_in_which_nothing_was_found(tmp_path):
    figures_of(
        tmp_path / "saved", [numbered(panoptic_batch(0), 41)], one_wrong_one_void, SEGMENT_LABELS, PanopticMetrics()
    )
    entries = json.loads((tmp_path / "saved/panoptic_results.json").read_text())["annotations"]
    assert [entry["image_id"] for entry in entries] == [41, 42]
    assert entries[1]["segments_info"] == []
    categories, ids = segments_of(tmp_path / "saved", entries[1])
    assert categories.shape == (32, 32)
    assert ids == set()
    left = sorted(path.name for path in (tmp_path / "saved").rglob("*"))
    assert left == ["41.png", "42.png", "panoptic_results", "panoptic_results.json"]


def test_panoptic_segments_lose_the_border_of_the_picture(tmp_path):
    """A file of 3 x 4 pixels, doubled, with a border that the net takes for a segment, and one it finds there alone."""
    file = torch.tensor([[1, 1, 2, 2], [1, 3, 3, 2], [0, 3, 3, 2]])
    picture = torch.full((9, 16), 4)
    for row, column in np.ndindex(6, 8):
        picture[row + 1, column + 3] = file[row // 2, column // 2]
    batch = panoptic_batch(0, images=1)
    batch["images"] = torch.zeros(1, 3, 9, 16)
    target = numbered(batch, 5)["targets"][0]
    labels = torch.tensor([0, 2, 1])
    truth = {"labels": labels, "is_thing": labels > 0, "crowd": torch.zeros(3, dtype=torch.bool)}
    target |= {"segments": picture, "original_size": (3, 4), "placement": Placement(2.0, 2.0, 3.0, 1.0), **truth}
    target["file"] = {"segments": file, **truth}

    def answer(batch):
        preds = [{"segments": picture, "labels": torch.tensor([0, 2, 1, 1])}]
        return {"preds": preds, "targets": batch["targets"], "image_ids": ["5"]}

    measured = figures_of(tmp_path / "saved", [batch], answer, SEGMENT_LABELS, PanopticMetrics())
    entry = json.loads((tmp_path / "saved/panoptic_results.json").read_text())["annotations"][0]
    categories, ids = segments_of(tmp_path / "saved", entry)
    assert categories.tolist() == [[1, 1, 3, 3], [1, 2, 2, 3], [0, 2, 2, 3]]
    assert ids == {info["id"] for info in entry["segments_info"]}
    assert len(ids) == 3
    assert measured["test/pq"] == pytest.approx(1.0)


# --- boxes as plain text


def two_boxes_or_none(batch):
    """In the first image the upper half of its object and a box narrower than a pixel, nothing in the others."""
    preds = []
    for position, target in enumerate(batch["targets"]):
        boxes = torch.tensor([[2.0, 2.0, 10.0, 6.0], [1.0, 1.5, 1.25, 3.0]])[: 0 if position else 2]
        labels = target["labels"].repeat(2)[: len(boxes)]
        preds.append({"boxes": boxes, "labels": labels, "scores": torch.tensor([0.5, 0.25])[: len(boxes)]})
    ids = [target["image_id"] for target in batch["targets"]]
    return {"preds": preds, "targets": batch["targets"], "image_ids": ids}


def test_boxes_txt(tmp_path, capsys):
    batch = box_batch(0, images=3)  # disc, star, disc
    for iou, right in ((0.5, 1), (0.55, 0)):
        metrics = DetectionMetrics(iou=iou, coco="never", errors="never", per_class=True)
        measured = figures_of(tmp_path / "saved", [batch], two_boxes_or_none, BOX_LABELS, metrics, "boxes-txt")
        lines = (tmp_path / "saved/boxes-txt/img0.txt").read_text()
        assert lines == "disc 0.5 4 4 15 7\ndisc 0.25 2 3 0 2\n"
        assert (tmp_path / "saved/boxes-txt/img1.txt").read_text() == ""
        for name, kind in (("img0", "disc"), ("img1", "star"), ("img2", "disc")):
            written(tmp_path / f"gt/{name}.txt", f"{kind} 4 4 15 15\n")
        found = evaluated(
            capsys, "boxes-txt", "--gt", tmp_path / "gt", "--pred", tmp_path / "saved/boxes-txt", "--iou", iou
        )
        assert found["images"] == 3
        assert found["figures"][f"map@{iou}"] == pytest.approx(measured[f"test/map_{round(100 * iou)}"], abs=1e-6)
        assert found["per_class"]["disc"][f"ap@{iou}"] == pytest.approx(measured["test/ap_disc"], abs=1e-6)
        assert found["per_class"]["disc"][f"ap@{iou}"] == pytest.approx(right * 0.5)
