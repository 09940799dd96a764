"""COCO folders: boxes, marks and masks as the json says, one clear message for each thing that can be wrong."""

import json
import pickle
import warnings
from collections import Counter

import numpy as np
import pytest
from coco_folder import (
    CATEGORIES,
    SQUARE,
    an_image,
    an_object,
    samples_of,
    small_folder,
    write_folder,
    write_images,
    write_json,
)
from pycocotools import mask as rle
from pycocotools.coco import COCO

from lightning_cv.datasets.coco import CocoDetection
from lightning_cv.datasets.coco_objects import run_lengths
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.repairs import DataWarning


@pytest.fixture
def root(tmp_path):
    return small_folder(tmp_path)


def test_boxes_labels_and_marks_in_the_order_of_the_file(root):
    first, second, third = samples_of(CocoDetection(root, "train"))
    assert [sample["image_id"] for sample in (first, second, third)] == ["7", "3", "9"]
    assert first["boxes"].tolist() == [[0.5, 1, 2.75, 4], [0, 0, 20, 10]]
    assert first["labels"].tolist() == [1, 2]  # categories in the order of their ids: cat 2, dog 18
    assert second["boxes"].tolist() == [[1, 0, 3, 12], [4, 4, 7, 9]]
    assert second["labels"].tolist() == [2, 1]
    assert second["crowd"].tolist() == [True, False]
    assert not any(sample["difficult"].any() for sample in (first, second, third))
    assert first["image"].shape == (10, 20, 3)
    assert "masks" not in first
    types = {"boxes": np.float32, "labels": np.int64, "difficult": np.bool_, "crowd": np.bool_, "image": np.uint8}
    assert {key: first[key].dtype for key in types} == types


def test_an_image_without_objects_survives(root):
    empty = CocoDetection(root, "train", with_masks=True)[2]
    assert empty["boxes"].shape == (0, 4)
    assert empty["masks"].shape == (0, 8, 8)
    assert empty["labels"].shape == empty["crowd"].shape == empty["difficult"].shape == (0,)


@pytest.mark.parametrize(
    ("keep_empty", "keep_crowd", "counts"),
    [
        (True, True, {"7": 2, "3": 2, "9": 0}),
        (False, True, {"7": 2, "3": 2}),
        (True, False, {"7": 2, "3": 1, "9": 0}),
        (False, False, {"7": 2, "3": 1}),
    ],
)
def test_crowds_and_empty_images_can_be_left_out(root, keep_empty, keep_crowd, counts):
    dataset = CocoDetection(root, "train", keep_empty=keep_empty, keep_crowd=keep_crowd)
    assert {sample["image_id"]: len(sample["boxes"]) for sample in samples_of(dataset)} == counts
    assert dataset.ids == list(counts)


def test_an_image_with_nothing_but_a_crowd_is_empty_without_it(tmp_path):
    write_folder(tmp_path, [an_object(1, 7, [0, 0, 2, 2], iscrowd=1), an_object(2, 3, [0, 0, 2, 2])])
    assert CocoDetection(tmp_path, "train", keep_empty=False).ids == ["7", "3"]
    assert CocoDetection(tmp_path, "train", keep_empty=False, keep_crowd=False).ids == ["3"]


def test_the_label_map_keeps_the_gaps(root):
    label_map = CocoDetection(root, "train").label_map
    assert label_map == (("cat", "dog"), 1, (2, 18))
    assert (label_map.num_classes, label_map.name(2)) == (2, "dog")


def test_hand_known_masks(root):
    first, second, _ = samples_of(CocoDetection(root, "train", with_masks=True))
    square = np.zeros((10, 20), np.bool_)
    square[1:4, 1:4] = True
    np.testing.assert_array_equal(first["masks"], [square, square])
    columns = np.zeros((12, 16), np.bool_)
    columns[:, 1:3] = True
    np.testing.assert_array_equal(second["masks"][0], columns)


def random_objects(seed, count):
    """Objects of the images 7 and 3: polygons of one to three parts, lists of runs and compressed runs."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        image_id, (height, width) = ((7, (10, 20)), (3, (12, 16)))[number % 2]
        mask = np.asfortranarray(rng.random((height, width)) < rng.uniform(0.1, 0.9), np.uint8)
        code = rle.encode(mask)["counts"].decode()
        parts = [
            np.round(rng.uniform(-3, 22, 2 * int(rng.integers(3, 9))), 2).tolist() for _ in range(rng.integers(1, 4))
        ]
        choices = [
            parts,
            {"size": [height, width], "counts": code},
            {"size": [height, width], "counts": run_lengths(code.encode()).tolist()},
        ]
        yield an_object(number + 1, image_id, [1, 1, 3, 3], segmentation=choices[number % 3], iscrowd=number % 2)


def test_masks_are_those_of_pycocotools(tmp_path, capsys):
    path = write_folder(tmp_path, list(random_objects(0, 90)))
    coco, empty = COCO(path), 0
    with pytest.warns(DataWarning, match="without a pixel"):
        dataset = CocoDetection(tmp_path, "train", with_masks=True)
    for sample in samples_of(dataset):
        entries = coco.loadAnns(coco.getAnnIds(imgIds=int(sample["image_id"])))
        expected = [mask for mask in map(coco.annToMask, entries) if mask.any()]
        empty += len(entries) - len(expected)
        assert len(sample["masks"]) == len(expected)
        for mask, drawn in zip(sample["masks"], expected, strict=True):
            np.testing.assert_array_equal(mask, drawn)
    assert empty == 1
    assert sample["masks"].dtype == np.bool_


def test_run_lengths_are_those_a_loop_counts():
    rng = np.random.default_rng(1)
    for density in (0.0, 0.001, 0.02, 0.5, 0.98, 1.0):
        mask = rng.random((70, 90)) < density
        lengths, value = [0], False
        for pixel in mask.T.ravel().tolist():
            if pixel != value:
                lengths.append(0)
                value = pixel
            lengths[-1] += 1
        assert run_lengths(rle.encode(np.asfortranarray(mask, np.uint8))["counts"]).tolist() == lengths


def test_packed_arrays_are_served_as_copies(root):
    dataset = CocoDetection(root, "train", with_masks=True, cache=True)
    sample = dataset[0]
    for key in ("boxes", "labels", "crowd", "masks", "image"):
        sample[key][:] = 0
    assert dataset[0]["boxes"].tolist() == [[0.5, 1, 2.75, 4], [0, 0, 20, 10]]
    assert dataset[0]["image"].any()


def test_the_picture_cache_changes_nothing(root):
    for one, other in zip(*(samples_of(CocoDetection(root, "train", cache=cache)) for cache in (0, 1)), strict=True):
        for key, value in one.items():
            np.testing.assert_array_equal(value, other[key])


def test_areas_come_from_the_file_or_from_the_box(tmp_path):
    write_folder(tmp_path, [an_object(1, 7, [0, 0, 2, 3], area=4.75), an_object(2, 7, [0, 0, 2, 3], area=None)])
    assert CocoDetection(tmp_path, "train").objects.areas.tolist() == [4.75, 6]


def test_other_layouts_and_folders_in_file_names(tmp_path):
    images = [an_image(7, 10, 20) | {"file_name": "a/007.jpg"}, an_image(3, 12, 16) | {"file_name": "003.jpg"}]
    write_json(tmp_path / "train/_annotations.coco.json", [an_object(1, 7, [0, 0, 1, 1])], images=images)
    write_images(tmp_path / "train", {3: (12, 16)})
    write_images(tmp_path / "train/a", {7: (10, 20)})
    dataset = CocoDetection(tmp_path, "train", annotations="train/_annotations.coco.json", images="train")
    assert [sample["image"].shape for sample in samples_of(dataset)] == [(10, 20, 3), (12, 16, 3)]


def test_a_data_set_can_be_pickled(root):
    dataset = CocoDetection(root, "train", with_masks=True)
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again[1]["masks"], dataset[1]["masks"])


# --- what is mended or left out


def box(*values, **more):
    return an_object(5, 7, list(values), **more)


def without(key):
    return {name: value for name, value in box(0, 0, 4, 4).items() if name != key}


BAD = {
    "zero width": (box(2, 2, 0, 3), [], "without area in the picture left out"),
    "outside": (box(30, 2, 4, 4), [], "without area in the picture left out"),
    "NaN": (box(float("nan"), 2, 4, 4), [], "no numbers left out"),
    "infinite": (box(0, 2, float("inf"), 4), [], "no numbers left out"),
    "negative width": (box(6, 2, -4, 3), [[2, 2, 6, 5]], "swapped corners put in order"),
    "negative height": (box(6, 4, 2, -3), [[6, 1, 8, 4]], "swapped corners put in order"),
    "over the edge": (box(15, 8, 10, 10), [[15, 8, 20, 10]], "cut to the picture"),
    "before the edge": (box(-3, 1, 5, 2), [[0, 1, 2, 3]], "cut to the picture"),
    "no bbox": (without("bbox"), [], "object without a box left out"),
    "short bbox": (box(1, 2, 3), [], "object without a box left out"),
    "words in bbox": (box(1, 2, 3, "4"), [], "object without a box left out"),
    "null bbox": (without("bbox") | {"bbox": None}, [], "object without a box left out"),
    "unknown category": (box(0, 0, 4, 4, category=3), [], "of a category that is not declared left out"),
    "no category": (without("category_id"), [], "of a category that is not declared left out"),
    "unknown image": (box(0, 0, 4, 4) | {"image_id": 8}, [], "of an image that is not declared left out"),
    "image id as text": (box(0, 0, 4, 4) | {"image_id": "7"}, [], "of an image that is not declared left out"),
    "list as image id": (box(0, 0, 4, 4) | {"image_id": [7]}, [], "of an image that is not declared left out"),
    "no id": (without("id"), [[0, 0, 4, 4]], "object without an id"),
    "no entry at all": (17, [], "object without an id"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_right_is_mended_or_left_out_and_told_once(tmp_path, case):
    entry, boxes, words = BAD[case]
    path = write_folder(tmp_path, [entry, an_object(6, 7, [1, 1, 2, 2])])
    with pytest.warns(DataWarning, match=words) as told:
        dataset = CocoDetection(tmp_path, "train")
    assert len(told) == 1
    assert str(path) in str(told[0].message)
    assert dataset[0]["boxes"].tolist() == [*boxes, [1, 1, 3, 3]]


@pytest.mark.parametrize("case", BAD)
def test_strict_stops_at_what_cannot_be_right(tmp_path, case):
    entry, _, words = BAD[case]
    path = write_folder(tmp_path, [entry, an_object(6, 7, [1, 1, 2, 2])])
    number = entry.get("id", -1) if isinstance(entry, dict) else -1
    with pytest.raises(DataError, match=words) as caught:
        CocoDetection(tmp_path, "train", strict=True)
    assert f"{path}, annotation {number}: " in str(caught.value)


def test_cases_of_a_kind_are_counted(tmp_path):
    write_folder(tmp_path, [an_object(number, 7, [1, 1, 0, 2]) for number in range(1, 6)])
    with pytest.warns(DataWarning, match=r"5 x box without area .*\(first: annotation 1\)"):
        assert len(CocoDetection(tmp_path, "train")[0]["boxes"]) == 0


def test_a_file_without_a_fault_warns_of_nothing_and_passes_strict(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(CocoDetection(root, "train", with_masks=True, strict=True)) == 3


def test_rounding_at_the_edge_is_no_fault(tmp_path):
    """Files give corner and size in hundredths: their sum may pass the edge by one."""
    write_folder(tmp_path, [an_object(1, 7, [3.34, 2.01, 16.67, 7.999]), an_object(2, 7, [-0.01, 5, 5, 5])])
    assert CocoDetection(tmp_path, "train", strict=True)[0]["boxes"].tolist() == [
        pytest.approx([3.34, 2.01, 20, 10]),
        [0, 5, pytest.approx(4.99), 10],
    ]


def test_an_annotation_twice_in_the_file_is_read_once(tmp_path):
    write_folder(tmp_path, [an_object(1, 7, [1, 1, 2, 2]), an_object(1, 7, [1, 1, 2, 2])])
    with pytest.warns(DataWarning, match="1 x repeated object left out"):
        assert len(CocoDetection(tmp_path, "train")[0]["boxes"]) == 1


def test_different_objects_under_one_id_stay(tmp_path):
    write_folder(
        tmp_path, [an_object(1, 7, [1, 1, 2, 2]), an_object(1, 7, [1, 1, 3, 3]), an_object(1, 3, [1, 1, 2, 2])]
    )
    with pytest.warns(DataWarning, match="2 x id of several objects, all of them kept"):
        dataset = CocoDetection(tmp_path, "train")
    assert [len(sample["boxes"]) for sample in samples_of(dataset)] == [2, 1, 0]
    with pytest.raises(DataError, match="annotation 1: id of several objects"):
        CocoDetection(tmp_path, "train", strict=True)


def test_a_repeated_image_id_is_read_once(tmp_path):
    images = [an_image(7, 10, 20), an_image(3, 12, 16), an_image(7, 8, 8) | {"file_name": "009.jpg"}]
    write_folder(tmp_path, [an_object(1, 7, [1, 1, 2, 2])], images=images)
    with pytest.warns(DataWarning, match=r"repeated image id left out \(first: image 7\)"):
        assert CocoDetection(tmp_path, "train").ids == ["7", "3"]
    with pytest.raises(DataError, match="image 7: repeated image id"):
        CocoDetection(tmp_path, "train", strict=True)


def test_a_repeated_category_id_is_read_once(tmp_path):
    write_folder(tmp_path, [], categories=[*CATEGORIES, {"id": 2, "name": "lion"}])
    with pytest.warns(DataWarning, match="repeated category id left out"):
        assert CocoDetection(tmp_path, "train").label_map.names == ("cat", "dog")


RUNS = {"size": [10, 20], "counts": [20, 30, 150]}
BAD_MASKS = {
    "runs of another size": (RUNS | {"size": [20, 10]}, "for another size than the picture's left out"),
    "runs without a size": ({"counts": [200]}, "for another size than the picture's left out"),
    "runs that are too short": (RUNS | {"counts": [20, 30]}, "damaged run lengths left out"),
    "runs that are too long": (RUNS | {"counts": [20, 3000]}, "damaged run lengths left out"),
    "negative runs": (RUNS | {"counts": [300, -100]}, "damaged run lengths left out"),
    "fractions of runs": (RUNS | {"counts": [20.5, 179.5]}, "damaged run lengths left out"),
    "runs without counts": ({"size": [10, 20]}, "damaged run lengths left out"),
    "text that is no code": (RUNS | {"counts": "never mind"}, "damaged run lengths left out"),
    "code that breaks off": (RUNS | {"counts": "d0n1`"}, "damaged run lengths left out"),
    "empty code": (RUNS | {"counts": ""}, "damaged run lengths left out"),
    "two points": ([[1, 1, 5, 5]], "damaged polygon left out"),
    "half a point": ([[1, 1, 5, 5, 1, 5, 2]], "damaged polygon left out"),
    "NaN in a polygon": ([[1, 1, 5, float("nan"), 1, 5]], "damaged polygon left out"),
    "a point at the moon": ([[1, 1, 5e9, 5, 1, 5]], "damaged polygon left out"),
    "numbers instead of polygons": ([1, 1, 5, 5, 1, 5], "damaged polygon left out"),
    "words in a polygon": ([[1, 1, 5, 5, 1, "5"]], "damaged polygon left out"),
    "a polygon beside the picture": ([[22, 1, 35, 1, 35, 5]], "mask without a pixel in the picture left out"),
    "all parts beside it": ([[1, -9, 5, -9, 5, -4], [1, 12, 5, 12, 5, 19]], "mask without a pixel in the picture"),
    "runs of no pixel": (RUNS | {"counts": [200]}, "mask without a pixel in the picture left out"),
    "runs of no length": (RUNS | {"counts": [20, 0, 180]}, "mask without a pixel in the picture left out"),
    "a word": ("polygon", "neither polygons nor run lengths left out"),
}


@pytest.mark.parametrize("case", BAD_MASKS)
def test_an_object_with_a_damaged_mask_is_left_out_where_masks_are_asked_for(tmp_path, case):
    mask, words = BAD_MASKS[case]
    path = write_folder(
        tmp_path, [box(0, 0, 4, 4, segmentation=mask), an_object(6, 7, [1, 1, 3, 3], segmentation=SQUARE)]
    )
    with pytest.warns(DataWarning, match=words):
        assert len(CocoDetection(tmp_path, "train")[0]["boxes"]) == 2
    with pytest.warns(DataWarning, match="1 x object without a mask left out") as told:
        sample = CocoDetection(tmp_path, "train", with_masks=True)[0]
    assert len(told) == 1
    assert sample["boxes"].tolist() == [[1, 1, 4, 4]]
    assert sample["masks"].sum() == 9
    with pytest.raises(DataError, match=words) as caught:
        CocoDetection(tmp_path, "train", strict=True)
    assert f"{path}, annotation 5: " in str(caught.value)


@pytest.mark.parametrize("mask", [None, []])
def test_objects_without_masks_are_no_fault_where_none_are_asked_for(tmp_path, mask):
    write_folder(tmp_path, [box(0, 0, 4, 4, segmentation=mask)])
    assert len(CocoDetection(tmp_path, "train", strict=True)[0]["boxes"]) == 1
    with pytest.warns(DataWarning, match="1 x object without a mask left out"):
        assert CocoDetection(tmp_path, "train", with_masks=True)[0]["masks"].shape == (0, 10, 20)
    with pytest.raises(DataError, match="annotation 5: object without a mask"):
        CocoDetection(tmp_path, "train", with_masks=True, strict=True)


def test_the_whole_parts_of_a_damaged_polygon_stay(tmp_path):
    write_folder(tmp_path, [box(0, 0, 4, 4, segmentation=[[1, 1, 5, 5], *SQUARE])])
    with pytest.warns(DataWarning, match="1 x damaged polygon left out"):
        assert CocoDetection(tmp_path, "train", with_masks=True)[0]["masks"].sum() == 9


# --- the real files


def said(shared_data, name, split):
    """What a real json says, by the standard library: images, objects an image, crowds, images without objects."""
    content = json.loads((shared_data / name / f"annotations/instances_{split}2017.json").read_text())
    counts = Counter(entry["image_id"] for entry in content["annotations"])
    crowds = sum(entry["iscrowd"] for entry in content["annotations"])
    return content, {str(entry["id"]): counts[entry["id"]] for entry in content["images"]}, crowds


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "split", "images", "crowds"),
    [
        ("coco", "train", 60, 2),
        ("coco", "val", 61, 4),
        ("coco_tiny", "train", 30, None),
        ("coco_tiny", "val", 30, None),
    ],
)
def test_real_coco(shared_data, name, split, images, crowds, capsys):
    content, counts, crowd_count = said(shared_data, name, split)
    dataset = CocoDetection(shared_data / name, split, with_masks=True, strict=True)
    assert len(dataset) == len(counts) == images
    assert crowds is None or crowd_count == crowds
    samples = samples_of(dataset)
    assert {sample["image_id"]: len(sample["boxes"]) for sample in samples} == counts
    assert sum(sample["crowd"].sum() for sample in samples) == crowd_count
    without_objects = sum(count == 0 for count in counts.values())
    assert len(CocoDetection(shared_data / name, split, keep_empty=False)) == images - without_objects
    assert dataset.label_map.dataset_ids == tuple(sorted(entry["id"] for entry in content["categories"]))
    assert (dataset.label_map.num_classes, dataset.label_map.dataset_ids[-1]) == (80, 90)
    coco = COCO(shared_data / name / f"annotations/instances_{split}2017.json")
    for sample in samples:
        entries = coco.loadAnns(coco.getAnnIds(imgIds=int(sample["image_id"])))
        labels = [dataset.label_map.dataset_ids[label - 1] for label in sample["labels"].tolist()]
        assert labels == [entry["category_id"] for entry in entries]
        for found, mask, entry in zip(sample["boxes"], sample["masks"], entries, strict=True):
            x, y, width, height = entry["bbox"]
            np.testing.assert_allclose(found, [x, y, x + width, y + height], atol=0.03)
            np.testing.assert_array_equal(mask, coco.annToMask(entry))


@pytest.mark.data
def test_real_coco_tiny_has_images_without_objects(shared_data):
    empty = [
        sum(count == 0 for count in said(shared_data, "coco_tiny", split)[1].values()) for split in ("train", "val")
    ]
    assert sum(empty) > 0
