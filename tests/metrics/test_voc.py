import json
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from oracles.voc_ap import average_precision, overlap

from lightning_cv.metrics.voc import (
    ImageResult,
    area_under_curve,
    eleven_points,
    judge,
    pairwise_iou,
    voc_average_precision,
    voc_mean_average_precision,
)


def image(boxes, scores, true_boxes, difficult=None, labels=None, true_labels=None):
    return ImageResult(
        np.asarray(boxes, dtype=float).reshape(-1, 4),
        np.asarray(scores, dtype=float),
        np.asarray([1] * len(boxes) if labels is None else labels, dtype=np.int64),
        np.asarray(true_boxes, dtype=float).reshape(-1, 4),
        np.asarray([1] * len(true_boxes) if true_labels is None else true_labels, dtype=np.int64),
        np.asarray([False] * len(true_boxes) if difficult is None else difficult, dtype=bool),
        (100, 100),
    )


HERE, THERE, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]


def ap(images, **options):
    return voc_average_precision(images, 1, **options).ap


def test_perfect_detections_score_one():
    assert ap([image([HERE, THERE], [0.9, 0.8], [THERE, HERE])]) == 1.0


def test_a_second_hit_is_a_false_positive():
    found = voc_average_precision([image([HERE, HERE, THERE], [0.9, 0.8, 0.7], [HERE, THERE])], 1)
    assert found.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert found.ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_detection_does_not_fall_back_on_its_second_best_object():
    # both detections overlap the first object most; the second object would also reach 0.5 with the second detection
    objects = [[0, 0, 10, 10], [2, 0, 12, 10]]
    verdicts = judge(
        pairwise_iou(np.array([[0, 0, 10, 10], [0.5, 0, 10.5, 10]]), np.array(objects, float)),
        np.array([False, False]),
        0.5,
    )
    assert verdicts.tolist() == [1, 0]


def test_difficult_objects_are_neither_right_nor_wrong_nor_to_be_found():
    result = voc_average_precision([image([HERE, HERE, THERE], [0.9, 0.8, 0.7], [HERE, THERE], [True, False])], 1)
    assert (result.objects, result.ap, len(result.precision)) == (1, 1.0, 1)


def test_the_threshold_itself_is_enough_unless_strict():
    half = image([[0, 0, 10, 5]], [0.9], [HERE])
    assert ap([half]) == 1.0
    assert ap([half], strict=True) == 0.0


def test_exclusive_far_edges_equal_the_devkits_inclusive_pixels():
    rng = np.random.default_rng(0)
    inclusive = rng.integers(1, 40, (30, 4))
    inclusive[:, 2:] = inclusive[:, :2] + rng.integers(0, 40, (30, 2))
    exclusive = inclusive - np.array([1, 1, 0, 0])
    ours = pairwise_iou(exclusive.astype(float), exclusive.astype(float))
    theirs = pairwise_iou(inclusive.astype(float), inclusive.astype(float), inclusive=True)
    assert np.array_equal(ours, theirs)
    assert ours[3, 5] == overlap(inclusive[3].tolist(), inclusive[5].tolist(), True)


def test_summaries_by_hand():
    recall, precision = np.array([0.25, 0.5, 0.5, 0.75]), np.array([1.0, 1.0, 2 / 3, 0.75])
    assert area_under_curve(recall, precision) == pytest.approx(0.25 + 0.25 + 0.25 * 0.75)
    assert eleven_points(recall, precision) == pytest.approx((6 * 1.0 + 2 * 0.75) / 11)


def test_nothing_found_is_zero_and_nothing_to_find_is_nan():
    assert ap([image([], [], [HERE])]) == 0.0
    assert math.isnan(ap([image([HERE], [0.5], [])]))
    assert math.isnan(ap([]))
    mean, per_class = voc_mean_average_precision([image([HERE], [0.5], [HERE])], 3)
    assert mean == 1.0
    assert np.isnan(per_class).tolist() == [False, True, True]


def random_case(rng, ties):
    images = []
    for _ in range(rng.integers(1, 7)):
        true = rng.integers(0, 20, (rng.integers(0, 6), 4)).astype(float)
        true[:, 2:] = true[:, :2] + rng.integers(2, 15, (len(true), 2))
        near = true[rng.integers(0, len(true), rng.integers(0, 8))] if len(true) else np.zeros((0, 4))
        boxes = np.concatenate([near + rng.integers(-2, 3, near.shape), true[:1]])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = rng.integers(0, 4, len(boxes)) / 4 if ties else rng.random(len(boxes))
        images.append(
            image(
                boxes,
                scores,
                true,
                rng.random(len(true)) < 0.3,
                rng.integers(1, 3, len(boxes)),
                rng.integers(1, 3, len(true)),
            )
        )
    return images


@pytest.mark.parametrize("kind", ["area", "11point"])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_random_cases_agree_with_the_loop(kind, strict, ties):
    rng = np.random.default_rng(7)
    answers = []
    for _ in range(60):
        images = random_case(rng, ties)
        for label in (1, 2):
            detections = [
                (i, s, b)
                for i, one in enumerate(images)
                for b, s, k in zip(one.boxes.tolist(), one.scores, one.labels, strict=True)
                if k == label
            ]
            objects = [
                (i, b, d)
                for i, one in enumerate(images)
                for b, d, k in zip(one.true_boxes.tolist(), one.difficult, one.true_labels, strict=True)
                if k == label
            ]
            expected = average_precision(detections, objects, 0.5, kind, strict)
            got = voc_average_precision(images, label, kind=kind, strict=strict).ap
            assert got == pytest.approx(expected, abs=1e-12, nan_ok=True)
            answers.append(expected)
    answers = np.array(answers)
    assert ((answers > 0) & (answers < 1)).sum() > 40  # the cases are not trivial


def voc_images(root):
    folder, detections = root / "VOCdevkit/VOC2007", root / "golden_pred/VOC2007/Main"
    names = sorted(path.stem.removeprefix("comp3_det_test_") for path in detections.glob("*.txt"))
    ids = (folder / "ImageSets/Main/test.txt").read_text().split()
    truth = {i: ([], [], []) for i in ids}
    for i in ids:
        for node in ET.parse(folder / f"Annotations/{i}.xml").getroot().iter("object"):
            truth[i][0].append([float(node.find("bndbox").findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax")])
            truth[i][1].append(names.index(node.findtext("name")) + 1)
            truth[i][2].append(node.findtext("difficult") == "1")
    found = {i: ([], [], []) for i in ids}
    for label, name in enumerate(names, start=1):
        for line in (detections / f"comp3_det_test_{name}.txt").read_text().splitlines():
            i, score, *box = line.split()
            for column, value in zip(found[i], ([float(v) for v in box], float(score), label), strict=True):
                column.append(value)
    shift = np.array([1, 1, 0, 0])
    results = [
        image(
            np.array(found[i][0]).reshape(-1, 4) - shift,
            found[i][1],
            np.array(truth[i][0]).reshape(-1, 4) - shift,
            truth[i][2],
            found[i][2],
            truth[i][1],
        )
        for i in ids
    ]
    return names, results


@pytest.mark.data
@pytest.mark.parametrize("setting", ["area@0.5", "area@0.75", "11point@0.5", "11point@0.75"])
def test_the_devkits_numbers_on_real_ground_truth(shared_data, setting):
    names, images = voc_images(shared_data)
    expected = json.loads((shared_data / "golden_pred/VOC2007/expected.json").read_text())[setting]
    kind, iou = setting.split("@")
    for label, name in enumerate(names, start=1):
        result = voc_average_precision(images, label, iou=float(iou), kind=kind)
        assert result.objects == expected["npos"][name]
        assert result.ap == pytest.approx(expected["per_class"][name], abs=1e-6), name
    mean, _ = voc_mean_average_precision(images, len(names), iou=float(iou), kind=kind)
    assert mean == pytest.approx(expected["mAP_over_classes_with_npos"], abs=1e-6)


TOY = [  # threshold, kind, value: the note beside the boxes
    (0.3, "area", 0.2456866804), (0.3, "11point", 0.2683982683), (0.1, "11point", 0.3333333333),
    (0.5, "11point", 0.0303030303), (0.75, "11point", 0.0), (0.1, "area", 0.3371980676),
    (0.5, "area", 0.0222222222), (0.75, "area", 0.0),
]  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize(("iou", "kind", "value"), TOY)
def test_the_toy_boxes_of_object_detection_metrics(shared_data, iou, kind, value):
    folder = shared_data / "golden/object_detection_metrics"

    def boxes(path, columns):
        rows = np.array([line.split()[columns:] for line in path.read_text().splitlines() if line.strip()], dtype=float)
        rows = rows.reshape(-1, 4)
        return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], axis=1)

    images = []
    for path in sorted((folder / "groundtruths").glob("*.txt")):
        lines = [line.split() for line in (folder / "detections" / path.name).read_text().splitlines() if line.strip()]
        images.append(image(boxes(folder / "detections" / path.name, 2), [line[1] for line in lines], boxes(path, 1)))
    assert ap(images, iou=iou, kind=kind, inclusive=True) == pytest.approx(value, abs=1e-9)
