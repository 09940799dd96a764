import json

import numpy as np
import pytest
import torch

from lightning_cv.metrics.coco import box_figures
from lightning_cv.metrics.detection import COCOMeanAP, DetectionRecords, VOCMeanAP
from lightning_cv.metrics.voc import ImageResult


def found(boxes, scores=None, labels=None):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor([0.9] * len(boxes) if scores is None else scores),
        "labels": torch.tensor([1] * len(boxes) if labels is None else labels, dtype=torch.int64),
    }


def target(image_id, boxes, labels=None, difficult=None, original_size=(10, 10)):
    return {
        "image_id": image_id,
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([1] * len(boxes) if labels is None else labels, dtype=torch.int64),
        "difficult": torch.tensor([False] * len(boxes) if difficult is None else difficult, dtype=torch.bool),
        "original_size": original_size,
    }


BOX, OTHER = [0, 0, 4, 4], [5, 5, 9, 9]


def test_images_passed_in_twice_count_once():
    metric = VOCMeanAP(1)
    metric.update([found([BOX])], [target("a", [BOX])], (10, 10))
    metric.update([found([])], [target("b", [BOX])], (10, 10))
    once = metric.compute()
    metric.update([found([BOX]), found([])], [target("a", [BOX]), target("b", [BOX])], (10, 10))
    assert once == pytest.approx(0.5)
    assert metric.compute() == once
    metric.reset()
    assert metric.records == {}


def test_the_order_of_batches_does_not_matter_even_for_ties():
    parts = [("a", [BOX], [OTHER]), ("b", [BOX], [BOX]), ("c", [OTHER], [BOX]), ("d", [BOX], [BOX])]
    values = set()
    for order in (parts, parts[::-1], parts[2:] + parts[:2]):
        metric = VOCMeanAP(1)
        for image_id, boxes, truth in order:
            metric.update([found(boxes)], [target(image_id, truth)], (10, 10))
        values.add(metric.compute().item())
    assert len(values) == 1


def test_boxes_are_brought_to_the_size_of_the_file():
    metric = VOCMeanAP(1)
    metric.update([found([[1, 1, 2, 2]])], [target("a", [[0, 0, 5, 5]], original_size=(20, 30))], (10, 10))
    record = metric.records["a"]
    assert record.boxes.tolist() == [[3, 2, 6, 4]]
    assert record.true_boxes.tolist() == [[0, 0, 15, 10]]
    assert record.size == (20, 30)


def test_nothing_to_find():
    voc, coco = VOCMeanAP(2), COCOMeanAP(2)
    for metric in (voc, coco):
        metric.update([found([BOX])], [target("a", [])], (10, 10))
        assert metric.compute().isnan()


def test_bad_input_is_named():
    metric = DetectionRecords(2)
    with pytest.raises(ValueError, match="image x: object labels must be 1 to 2, got \\[0, 3\\]"):
        metric.update([found([])], [target("x", [BOX, OTHER], [0, 3])], (10, 10))
    with pytest.raises(ValueError, match="image y: every detection needs a score"):
        metric.update([found([BOX], [float("nan")])], [target("y", [])], (10, 10))
    for bad in ([float("nan"), 0, 9, 9], [0, 0, float("inf"), 9], [9, 9, 0, 0]):
        with pytest.raises(ValueError, match="image y: detection boxes must be finite x1, y1, x2, y2"):
            metric.update([found([bad], [0.5])], [target("y", [])], (10, 10))
        with pytest.raises(ValueError, match="image y: object boxes must be finite x1, y1, x2, y2"):
            metric.update([found([])], [target("y", [bad])], (10, 10))
    with pytest.raises(ValueError, match="1 images with detections, but 2 targets"):
        metric.update([found([])], [target("x", []), target("y", [])], (10, 10))
    with pytest.raises(ValueError, match="iou must be"):
        VOCMeanAP(2, iou=50)


def result(boxes, scores, true_boxes, difficult):
    return ImageResult(
        np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.ones(len(boxes), np.int64),
        np.array(true_boxes, float).reshape(-1, 4), np.ones(len(true_boxes), np.int64), np.array(difficult, bool),
        (100, 100),
    )  # fmt: skip


def test_coco_counts_by_hand():
    # one hit of IoU 0.8 counts at the 7 thresholds .50 to .80
    figures = box_figures([result([[0, 0, 10, 8]], [0.5], [[0, 0, 10, 10]], [False])], 2)
    assert figures.figures["AP50"] == figures.figures["AP75"] == pytest.approx(1.0)
    assert figures.figures["AP"] == pytest.approx(0.7)
    assert np.isnan(list(figures.per_class.values())).tolist() == [False, True]


def test_coco_forgives_a_hit_on_a_difficult_object_and_nothing_else_inside_it():
    objects, difficult = [[0, 0, 10, 10], [20, 20, 60, 60]], [False, True]
    hit, on_difficult, inside = [0, 0, 10, 10], [20, 20, 60, 60], [22, 22, 30, 30]
    forgiven = box_figures([result([on_difficult, hit], [0.9, 0.8], objects, difficult)], 1)
    wrong = box_figures([result([inside, hit], [0.9, 0.8], objects, difficult)], 1)
    assert forgiven.figures["AP"] == pytest.approx(1.0)
    assert wrong.figures["AP"] == pytest.approx(0.5)


@pytest.mark.data
def test_the_coco_figures_of_real_annotations(shared_data):
    annotations = next((shared_data / "coco_tiny/annotations").glob("instances_val*.json"))
    truth = json.loads(annotations.read_text())
    assert any(a["iscrowd"] for a in truth["annotations"])
    folder = shared_data / "golden_pred/coco_tiny_val2017"
    detections = json.loads((folder / "bbox_results.json").read_text())
    ids = sorted(category["id"] for category in truth["categories"])

    def corners(rows):
        boxes = np.array([row["bbox"] for row in rows], float).reshape(-1, 4)
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)

    def labels(rows):
        return np.array([ids.index(row["category_id"]) + 1 for row in rows], np.int64)

    images = []
    for image in truth["images"]:
        mine = [d for d in detections if d["image_id"] == image["id"]]
        objects = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        images.append(
            ImageResult(
                corners(mine),
                np.array([d["score"] for d in mine]),
                labels(mine),
                corners(objects),
                labels(objects),
                np.zeros(len(objects), bool),
                (image["height"], image["width"]),
                np.array([a["iscrowd"] == 1 for a in objects], bool),
                np.array([a["area"] for a in objects], float),
            )
        )
    expected = pycocotools_figures(truth, detections)
    figures = box_figures(images, len(ids))
    assert tuple(figures.figures.values()) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def pycocotools_figures(truth, detections):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return tuple(np.where(evaluation.stats < 0, np.nan, evaluation.stats))
