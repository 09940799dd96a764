import json

import numpy as np
import pytest
import torch
from oracles.panoptic import averages, count_image, draw_image, new_tallies
from PIL import Image

from lightning_cv.metrics.panoptic import (
    PanopticImage,
    PanopticQuality,
    _positions,
    panoptic_counts,
    panoptic_image,
    panoptic_quality,
)


def divided(pixels, segments):
    """Segments as {id: (label, crowd)}."""
    labels = np.array([label for label, _ in segments.values()], np.int64)
    crowd = np.array([mark for _, mark in segments.values()], bool)
    return PanopticImage(np.asarray(pixels), np.array(list(segments), np.int64), labels, crowd)


def row(*runs):
    """One row of pixels from pairs of id and length."""
    return np.repeat([number for number, _ in runs], [length for _, length in runs])[None]


def counts(guess, guess_segments, true, true_segments, num_classes=2):
    found, truth = divided(guess, guess_segments), divided(true, true_segments)
    return panoptic_counts(found, truth, num_classes, "a")


def of_class(result, label=0):
    return result.tp[label], result.fp[label], result.fn[label], pytest.approx(result.iou[label])


def test_an_overlap_of_exactly_half_is_no_match():
    half = counts(row((7, 5), (0, 5)), {7: (0, False)}, row((3, 10)), {3: (0, False)})
    assert of_class(half) == (0, 1, 1, 0.0)
    more = counts(row((7, 6), (0, 4)), {7: (0, False)}, row((3, 10)), {3: (0, False)})
    assert of_class(more) == (1, 0, 0, 0.6)


def test_another_class_is_no_match():
    result = counts(row((7, 10)), {7: (1, False)}, row((3, 10)), {3: (0, False)})
    assert (of_class(result), of_class(result, 1)) == ((0, 0, 1, 0.0), (0, 1, 0, 0.0))


def test_void_of_the_truth_is_taken_from_the_union_and_that_of_the_prediction_is_not():
    on_void = counts(row((7, 10)), {7: (0, False)}, row((3, 6), (0, 4)), {3: (0, False)})
    assert of_class(on_void) == (1, 0, 0, 1.0)
    left_void = counts(row((7, 6), (0, 4)), {7: (0, False)}, row((3, 10)), {3: (0, False)})
    assert of_class(left_void) == (1, 0, 0, 0.6)


@pytest.mark.parametrize(("on_void", "wrong"), [(5, 1), (6, 0)])
def test_a_prediction_mostly_on_void_is_forgiven(on_void, wrong):
    result = counts(row((7, 10)), {7: (0, False)}, row((0, on_void), (3, 10 - on_void)), {3: (1, False)})
    assert of_class(result) == (0, wrong, 0, 0.0)


def test_a_crowd_is_neither_matched_nor_missed_and_forgives_only_its_class():
    truth = row((3, 10)), {3: (0, True)}
    assert of_class(counts(row((7, 10)), {7: (0, False)}, *truth)) == (0, 0, 0, 0.0)
    assert of_class(counts(row((7, 10)), {7: (1, False)}, *truth), 1) == (0, 1, 0, 0.0)


def test_void_and_crowd_together_make_more_than_half():
    result = counts(row((7, 10)), {7: (0, False)}, row((0, 3), (3, 3), (4, 4)), {3: (0, True), 4: (1, False)})
    assert of_class(result) == (0, 0, 0, 0.0)


def test_of_two_crowds_of_a_class_the_last_listed_forgives():
    true = row((3, 6), (4, 4))
    guess = row((7, 10)), {7: (0, False)}
    assert of_class(counts(*guess, true, {3: (0, True), 4: (0, True)})) == (0, 1, 0, 0.0)
    assert of_class(counts(*guess, true, {4: (0, True), 3: (0, True)})) == (0, 0, 0, 0.0)


def test_empty_divisions_and_one_pixel():
    assert of_class(counts([[0]], {}, [[0]], {})) == (0, 0, 0, 0.0)
    assert of_class(counts([[0]], {}, [[9]], {9: (0, False)})) == (0, 0, 1, 0.0)
    assert of_class(counts([[5]], {5: (0, False)}, [[9]], {9: (0, False)})) == (1, 0, 0, 1.0)
    assert of_class(counts([[0]], {}, [[0]], {9: (0, False)})) == (0, 0, 1, 0.0)  # a true segment without a pixel


def test_classes_that_never_occur_are_left_out_of_the_means():
    good = counts(row((7, 10)), {7: (0, False)}, row((3, 8), (0, 2)), {3: (0, False)}, 3)
    bad = counts(row((7, 10)), {7: (1, False)}, row((3, 10)), {3: (1, True)}, 3)
    missed = counts(row((0, 10)), {}, row((3, 10)), {3: (2, False)}, 3)
    figures = panoptic_quality([good, bad, missed], np.array([True, True, False]))
    assert figures.all == (0.5, 0.5, 0.5, 2)
    assert figures.things == (1, 1, 1, 1)
    assert figures.stuff == (0, 0, 0, 1)
    assert np.isnan(figures.pq).tolist() == [False, True, False]
    nothing = panoptic_quality([], np.array([True]))
    assert np.isnan(nothing.all[:3]).all()
    assert nothing.stuff.classes == 0


def test_drawn_images_agree_with_the_loops():
    rng = np.random.default_rng(0)
    tallies, ours = new_tallies(), []
    for _ in range(150):
        height, width = rng.integers(8, 60, 2)
        true, true_segments, guess, segments = draw_image(rng, height, width, 4, int(rng.integers(1, 9)), 5)
        count_image(true, true_segments, guess, segments, tallies)
        found = divided(guess.astype(np.uint32), segments)
        ours.append(panoptic_counts(found, divided(true, true_segments), 4, ""))
    figures = panoptic_quality(ours, np.array([True, True, False, False]))
    assert figures.all == pytest.approx(averages(tallies, [0, 1, 2, 3]), abs=1e-12)
    assert figures.things == pytest.approx(averages(tallies, [0, 1]), abs=1e-12)
    assert figures.stuff == pytest.approx(averages(tallies, [2, 3]), abs=1e-12)
    totals = [sum(counts[i].sum() for counts in ours) for i in range(3)]
    assert totals == [sum(entry[i] for entry in tallies.values()) for i in range(3)]
    assert min(totals) > 50  # the cases are not trivial


def test_bad_input_is_named():
    good = divided([[1, 1]], {1: (0, False)})
    for found, truth, message in (
        (divided([[1, 1, 1]], {1: (0, False)}), good, "one size .* predicted \\(1, 3\\) and true \\(1, 2\\)"),
        (divided([[1, 1]], {1: (2, False)}), good, "predicted labels must be 0 to 1, got \\[2\\]"),
        (good, divided([[1, 1]], {1: (-1, False)}), "true labels must be 0 to 1, got \\[-1\\]"),
        (divided([[1, 5]], {1: (0, False)}), good, "predicted pixels have ids that are not listed: \\[5\\]"),
        (good, divided([[1, 5]], {1: (0, False)}), "true pixels have ids that are not listed: \\[5\\]"),
        (divided([[1, 1]], {1: (0, False), 8: (0, False)}), good, "predicted segments \\[8\\] have no pixel"),
        (divided([[1, 0]], {1: (0, False), 0: (0, False)}), good, "must differ and not be 0"),
        (good._replace(labels=np.zeros(2, np.int64)), good, "differ in number"),
    ):
        with pytest.raises(ValueError, match=f"image 000017: .*{message}"):
            PanopticQuality([True, False]).update([found], [truth], ["000017"])
    with pytest.raises(ValueError, match="1 predictions, 1 truths and 2 image ids"):
        PanopticQuality([True, False]).update([good], [good], ["a", "b"])
    with pytest.raises(ValueError, match="is_thing"):
        PanopticQuality([])


def test_an_image_passed_in_twice_counts_once_and_a_target_is_its_own_best_guess():
    target = {"image_id": "a", "segments": torch.tensor([[0, 1], [2, 2]]), "labels": torch.tensor([1, 0]),
              "is_thing": torch.tensor([True, False]), "crowd": torch.tensor([False, False]),
              "original_size": (2, 2)}  # fmt: skip
    metric, image = PanopticQuality([False, True]), panoptic_image(target)
    empty = divided(np.zeros((2, 2), int), {})
    metric.update([image, empty], [image, image], ["a", "b"])
    once = metric.compute()
    metric.update([image], [image], ["a"])
    assert once == metric.compute() == pytest.approx(1 / 1.5)
    metric.reset()
    assert metric.records == {}


def read(folder, annotation, position):
    colours = np.array(Image.open(folder / annotation["file_name"]), np.int64)
    segments = {s["id"]: (position[s["category_id"]], bool(s.get("iscrowd"))) for s in annotation["segments_info"]}
    return divided(colours[..., 0] + (colours[..., 1] << 8) + (colours[..., 2] << 16), segments)


def figures_of(truth_path, found_path, categories):
    truth, found = json.loads(truth_path.read_text()), json.loads(found_path.read_text())
    position = {category["id"]: number for number, category in enumerate(categories)}
    of_image = {annotation["image_id"]: annotation for annotation in found["annotations"]}
    metric = PanopticQuality([bool(category["isthing"]) for category in categories])
    for annotation in truth["annotations"]:
        image_id = annotation["image_id"]
        guess = read(found_path.with_suffix(""), of_image[image_id], position)
        metric.update([guess], [read(truth_path.with_suffix(""), annotation, position)], [str(image_id)])
    return metric.evaluate_once(metric.quality), position


def assert_means(figures, expected, tolerance):
    for name, mean in (("All", figures.all), ("Things", figures.things), ("Stuff", figures.stuff)):
        assert mean == pytest.approx([expected[name][key] for key in ("pq", "sq", "rq", "n")], abs=tolerance)


@pytest.mark.data
def test_the_figures_of_panopticapi_on_made_up_predictions(shared_data):
    folder = shared_data / "golden_pred/panoptic_val2017"
    expected = json.loads((folder / "expected.json").read_text())
    truth = shared_data / "coco/annotations/panoptic_val2017.json"
    predictions = folder / "panoptic_pred.json"
    pngs = folder / "panoptic_pred"
    assert pngs.is_dir()
    figures, position = figures_of(truth, predictions, json.loads(truth.read_text())["categories"])
    assert_means(figures, expected, 6e-7)
    for category, values in expected["per_class"].items():
        k = position[int(category)]
        ours = np.nan_to_num([figures.pq[k], figures.sq[k], figures.rq[k]])  # absent classes are 0 there, NaN here
        assert ours == pytest.approx([values["pq"], values["sq"], values["rq"]], abs=6e-7), category


@pytest.mark.data
def test_the_sample_of_panopticapi_against_itself(shared_data):
    folder = shared_data / "golden/panopticapi_sample"
    truth = folder / "sample_data/panoptic_examples.json"
    categories = json.loads((folder / "panoptic_coco_categories.json").read_text())
    figures, _ = figures_of(truth, truth, categories)
    assert_means(figures, json.loads((folder / "expected_self.json").read_text()), 1e-12)


@pytest.mark.parametrize("ids", [[], [7], [251, 502, 753, 1], [2**24 - 1, 89803, 15313462], range(1, 70_000)])
def test_ids_are_found_whatever_their_remainders(ids):
    """251, 502 and 753 have one remainder by the first divisor; no divisor tells 70,000 ids apart."""
    ids = np.array(ids, np.int64)
    known = np.concatenate([[0], ids])
    drawn = np.random.default_rng(0).integers(0, len(known), 500)
    assert _positions(known[drawn].astype(np.int32), ids, "image x: true").tolist() == drawn.tolist()
    with pytest.raises(ValueError, match=r"image x: true pixels have ids that are not listed: \[70001\]"):
        _positions(np.array([0, 70_001]), ids, "image x: true")
