"""COCO's figures of instance masks: by hand, and beside pycocotools."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lightning_cv.contracts import Placement
from lightning_cv.metrics.coco import mask_figures
from lightning_cv.metrics.detection import COCOMaskAP, VOCMeanAP

HEIGHT, WIDTH = 20, 30


def rectangle(top, left, bottom, right):
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def stacked(masks, shape=(HEIGHT, WIDTH)):
    return torch.stack(list(masks)) if len(masks) else torch.zeros(0, *shape, dtype=torch.bool)


def found(masks, scores=None, labels=None):
    """Detections, whose boxes say nothing."""
    count = len(masks)
    return {"boxes": torch.zeros(count, 4), "scores": torch.tensor([0.9] * count if scores is None else scores),
            "labels": torch.tensor([1] * count if labels is None else labels, dtype=torch.int64),
            "masks": stacked(masks)}  # fmt: skip


def target(image_id, masks, labels=None, **marks):
    count = len(masks)
    none = torch.zeros(count, dtype=torch.bool)
    return {"image_id": image_id, "boxes": torch.zeros(count, 4), "difficult": none, "masks": stacked(masks),
            "labels": torch.tensor([1] * count if labels is None else labels, dtype=torch.int64),
            "original_size": (HEIGHT, WIDTH)} | marks  # fmt: skip


def evaluated(pairs, shape=(HEIGHT, WIDTH), num_classes=1):
    metric = COCOMaskAP(num_classes)
    for detections, truth in pairs:
        metric.update([detections], [truth], shape)
    figures = metric.evaluate_once(metric.coco)
    assert metric.compute().item() == pytest.approx(figures.figures["AP"], nan_ok=True)
    return figures


OBJECT = rectangle(0, 0, 10, 10)


def test_an_overlap_of_four_fifths_counts_seven_times_of_ten():
    figures = evaluated([(found([rectangle(0, 0, 10, 8)]), target("a", [OBJECT]))], num_classes=2)
    assert figures.figures["AP"] == figures.figures["AR1"] == figures.figures["APs"] == pytest.approx(0.7)
    assert figures.figures["AP50"] == figures.figures["AP75"] == pytest.approx(1.0)
    assert np.isnan([figures.figures["APm"], figures.figures["APl"], figures.per_class[2]]).all()


def test_holes_count():
    ring = OBJECT.clone()
    ring[2:8, 2:8] = False  # 64 of 100 pixels
    assert evaluated([(found([ring]), target("a", [OBJECT]))]).figures["AP"] == pytest.approx(0.3)


def test_nothing_found_and_nothing_there():
    images = [(found([]), target("a", [OBJECT])), (found([OBJECT]), target("b", [OBJECT])),
              (found([]), target("c", []))]  # fmt: skip
    assert evaluated(images).figures["AP"] == pytest.approx(51 / 101)
    assert evaluated(images[:1]).figures["AP"] == 0.0
    assert np.isnan(list(evaluated(images[2:]).figures.values())).all()


def test_a_difficult_object_is_not_asked_for_and_only_a_hit_on_it_is_forgiven():
    other = rectangle(10, 10, 20, 20)
    truth = target("a", [OBJECT, other], difficult=torch.tensor([False, True]))
    assert evaluated([(found([OBJECT]), truth)]).figures["AR100"] == pytest.approx(1.0)
    assert evaluated([(found([other, OBJECT], [0.9, 0.8]), truth)]).figures["AP"] == pytest.approx(1.0)
    inside = rectangle(12, 12, 16, 16)
    assert evaluated([(found([inside, OBJECT], [0.9, 0.8]), truth)]).figures["AP"] == pytest.approx(0.5)


def test_any_number_of_detections_may_lie_in_a_crowd():
    truth = target("a", [OBJECT, rectangle(10, 0, 20, 30)], crowd=torch.tensor([False, True]))
    inside = [rectangle(12, 12, 16, 16), rectangle(11, 20, 14, 25)]
    assert evaluated([(found([*inside, OBJECT], [0.9, 0.8, 0.7]), truth)]).figures["AP"] == pytest.approx(1.0)


def test_areas_that_are_given_tell_sizes_apart():
    truth = target("a", [OBJECT], areas=torch.tensor([5000.0], dtype=torch.float64))
    figures = evaluated([(found([OBJECT]), truth)]).figures
    assert figures["APm"] == pytest.approx(1.0)
    assert np.isnan(figures["APs"])


def test_masks_of_a_doubled_picture_with_a_border_are_those_of_the_file():
    picture = torch.ones(2, 50, 70, dtype=torch.bool)  # the border is part of both masks
    for mask, shown in zip(picture, (OBJECT, rectangle(0, 0, 10, 8)), strict=True):
        mask[3:43, 5:65] = shown.repeat_interleave(2, 0).repeat_interleave(2, 1)
    truth = target("a", [OBJECT], placement=Placement(2.0, 2.0, left=5.0, top=3.0)) | {"masks": picture[:1]}
    metric = COCOMaskAP(1)
    metric.update([found([OBJECT]) | {"masks": picture[1:]}], [truth], (50, 70))
    (record,) = metric.records.values()
    np.testing.assert_array_equal(rle.decode(record.true_masks[0]), OBJECT.numpy())
    np.testing.assert_array_equal(rle.decode(record.masks[0]), rectangle(0, 0, 10, 8).numpy())
    assert metric.compute().item() == pytest.approx(0.7)


def test_objects_are_those_of_the_file_even_where_a_smaller_picture_does_not_show_all_of_them():
    fine = rectangle(0, 0, 10, 10)
    fine[0, 0] = fine[9, 9] = False
    halved = fine[1::2, 1::2]
    truth = target("a", [fine], placement=Placement(0.5, 0.5), file_masks=fine[None]) | {"masks": halved[None]}
    metric = COCOMaskAP(1)
    metric.update([found([fine]) | {"masks": halved[None]}], [truth], (HEIGHT // 2, WIDTH // 2))
    (record,) = metric.records.values()
    np.testing.assert_array_equal(rle.decode(record.true_masks[0]), fine.numpy())
    assert rle.area(record.masks[0]) == 96  # of 98, and one of them where there is nothing
    assert metric.compute().item() == pytest.approx(1.0)  # 95 / 99
    with pytest.raises(ValueError, match=r"image a: object masks of the file must be bool and .* \(1, 20, 30\), got"):
        metric.update([found([])], [truth | {"file_masks": halved[None]}], (HEIGHT, WIDTH))


def test_masks_are_kept_only_where_asked_for():
    metric = VOCMeanAP(1)
    metric.update([found([OBJECT])], [target("a", [OBJECT])], (HEIGHT, WIDTH))
    assert metric.records["a"].masks is metric.records["a"].true_masks is None
    with pytest.raises(ValueError, match="image a: its detections or its objects have no masks"):
        mask_figures(list(metric.records.values()), 1)


def test_masks_that_are_none_are_named():
    metric = COCOMaskAP(1)
    for bad in (OBJECT[None].float(), OBJECT[None, :5], OBJECT, torch.stack([OBJECT, OBJECT])):
        with pytest.raises(ValueError, match=r"image a: detection masks must be bool and .* \(1, 20, 30\), got"):
            metric.update([found([OBJECT]) | {"masks": bad}], [target("a", [OBJECT])], (HEIGHT, WIDTH))
        with pytest.raises(ValueError, match=r"image a: object masks must be bool and .* \(1, 20, 30\), got"):
            metric.update([found([OBJECT])], [target("a", [OBJECT]) | {"masks": bad}], (HEIGHT, WIDTH))


# --- beside pycocotools

SIZE = 160


def ellipse(rng, radii):
    ys, xs = np.ogrid[:SIZE, :SIZE]
    x, y = rng.uniform(0, SIZE, 2)
    a, b = rng.uniform(*radii, 2)
    return ((xs - x) / a) ** 2 + ((ys - y) / b) ** 2 < 1


def moved(rng, mask):
    """Shifted, with pixels taken away and added."""
    shifted = np.roll(mask, rng.integers(-4, 5, 2), (0, 1))
    return (shifted & (rng.random(mask.shape) < 0.95)) | (rng.random(mask.shape) < 0.002)


def scene(seed, images=12, classes=3):
    """Ellipses of all sizes; found, moved, once or twice, under their class or another; some anywhere."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(images):
        true = [ellipse(rng, radii) for radii in [(4, 15), (15, 50), (50, 90)] for _ in range(rng.integers(0, 4))]
        labels = rng.integers(1, classes + 1, len(true))
        chosen = rng.integers(0, len(true), rng.integers(0, 15)) if true else np.zeros(0, int)
        guesses = [moved(rng, true[i]) for i in chosen] + [ellipse(rng, (4, 60)) for _ in range(rng.integers(0, 3))]
        guessed = rng.integers(1, classes + 1, len(guesses))
        guessed[: len(chosen)] = np.where(rng.random(len(chosen)) < 0.8, labels[chosen], guessed[: len(chosen)])
        scores = rng.random(len(guesses)).astype(np.float32)
        drawn.append((true, labels, rng.random(len(true)) < 0.15, guesses, guessed, scores))
    return drawn


def official(drawn, areas, classes=3):
    """The twelve numbers and each class's AP as pycocotools prints them, from json."""
    objects, results = [], []
    for number, (true, labels, crowd, guesses, guessed, scores) in enumerate(drawn, 1):
        for mask, label, many in zip(true, labels, crowd, strict=True):
            code = rle.encode(np.asfortranarray(mask, np.uint8))
            objects.append(
                {"id": len(objects) + 1, "image_id": number, "category_id": int(label), "iscrowd": int(many),
                 "area": areas(mask), "bbox": rle.toBbox(code).tolist(), "segmentation": text(code)}
            )  # fmt: skip
        for mask, label, score in zip(guesses, guessed, scores, strict=True):
            code = text(rle.encode(np.asfortranarray(mask, np.uint8)))
            results.append({"image_id": number, "category_id": int(label), "segmentation": code, "score": float(score)})
    truth = COCO()
    truth.dataset = {"images": [{"id": n + 1, "height": SIZE, "width": SIZE} for n in range(len(drawn))],
                     "categories": [{"id": n + 1, "name": str(n)} for n in range(classes)],
                     "annotations": objects}  # fmt: skip
    truth.dataset = json.loads(json.dumps(truth.dataset))
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    precision = evaluation.eval["precision"]
    per_class = [precision[:, :, k, 0, 2][precision[:, :, k, 0, 2] > -1].mean() for k in range(classes)]
    return np.where(evaluation.stats < 0, np.nan, evaluation.stats), per_class


def text(code):
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


@pytest.mark.parametrize("given", [True, False])
def test_twelve_figures_of_drawn_scenes_are_those_of_pycocotools(given):
    drawn = scene(int(given))
    metric = COCOMaskAP(3)
    for number, (true, labels, crowd, guesses, guessed, scores) in enumerate(drawn, 1):
        truth = target(f"{number:03}", [], labels, original_size=(SIZE, SIZE), crowd=torch.from_numpy(crowd))
        truth |= {"boxes": torch.zeros(len(true), 4), "difficult": torch.zeros(len(true), dtype=torch.bool)}
        truth["masks"] = stacked([torch.from_numpy(mask) for mask in true], (SIZE, SIZE))
        if given:
            truth["areas"] = torch.tensor([doubled(mask) for mask in true], dtype=torch.float64)
        guess = found([], scores, guessed) | {"boxes": torch.zeros(len(guesses), 4)}
        guess["masks"] = stacked([torch.from_numpy(mask) for mask in guesses], (SIZE, SIZE))
        metric.update([guess], [truth], (SIZE, SIZE))
    figures = metric.evaluate_once(metric.coco)
    expected, per_class = official(drawn, doubled if given else lambda mask: int(mask.sum()))
    assert 0.1 < expected[0] < 0.9
    assert not np.isnan(expected).any()  # objects of every size
    assert tuple(figures.figures.values()) == pytest.approx(tuple(expected), abs=1e-9)
    assert list(figures.per_class.values()) == pytest.approx(per_class, abs=1e-9)


def doubled(mask):
    """An area that is not the mask's, and moves some objects to another size."""
    return float(mask.sum()) * 2
