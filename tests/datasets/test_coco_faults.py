"""COCO folders with masks that cover nothing, categories of one name and marks that are none: noted, or stopped at."""

import json
import warnings

import numpy as np
import pytest
from coco_folder import CATEGORIES, SQUARE, an_object, samples_of, small_folder, write_folder

from lightning_cv.datasets import coco_cache
from lightning_cv.datasets.coco import UNSEEN_OBJECT, CocoDetection
from lightning_cv.datasets.coco_panoptic import CocoPanoptic
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.repairs import DataWarning
from lightning_cv.datasets.writers import write_coco

UNDRAWN = {
    "a line": [[1, 1, 5, 5, 9, 9]],
    "a sliver": [[1.5, 1.5, 1.6, 1.5, 1.6, 1.6]],
    "at the edge": [[20.3, 1, 20.9, 1, 20.9, 5]],
}
"""Polygons near the picture that pycocotools draws without a pixel."""


def folder(tmp_path, mask, **more):
    objects = [an_object(5, 7, [1, 1, 3, 3], segmentation=SQUARE), an_object(6, 7, [0, 0, 4, 4], segmentation=mask)]
    return write_folder(tmp_path, [*objects, an_object(7, 3, [1, 1, 3, 3], segmentation=SQUARE)], **more)


@pytest.mark.parametrize("case", UNDRAWN)
def test_an_object_without_a_pixel_is_left_out_when_it_is_drawn(tmp_path, case):
    path = folder(tmp_path, UNDRAWN[case])
    dataset = CocoDetection(tmp_path, "train", with_masks=True)
    with pytest.warns(DataWarning, match=f"{UNSEEN_OBJECT} .first: {path}, annotation 6") as told:
        samples = samples_of(dataset) + samples_of(dataset)
    assert len(told) == 1
    assert dataset.repairs.counts == {UNSEEN_OBJECT: 1}
    for sample in samples[:2]:
        assert sample["boxes"].tolist() == [[1, 1, 4, 4]]
        assert sample["masks"].sum() == 9
        assert {len(sample[key]) for key in ("labels", "difficult", "crowd", "areas", "masks")} == {1}
    with pytest.raises(DataError, match=f"{path}, annotation 6: {UNSEEN_OBJECT}"):
        samples_of(CocoDetection(tmp_path, "train", with_masks=True, strict=True))
    assert len(CocoDetection(tmp_path, "train", strict=True)[0]["boxes"]) == 2  # no masks are asked for


def test_parts_beside_the_picture_change_nothing(tmp_path):
    folder(tmp_path, [[30, 1, 35, 1, 35, 5], *SQUARE, [1, -9, 5, -9, 5, -4]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = CocoDetection(tmp_path, "train", with_masks=True, strict=True)
        sample = dataset[0]
    np.testing.assert_array_equal(sample["masks"][1], sample["masks"][0])
    assert dataset.objects.points.reshape(-1, 8).tolist() == SQUARE * 3


@pytest.mark.parametrize("large", [False, True])
def test_an_image_without_a_drawn_object_counts_as_empty(tmp_path, monkeypatch, large):
    if large:
        monkeypatch.setattr(coco_cache, "LARGE", 0)
    write_folder(
        tmp_path,
        [
            an_object(5, 7, [1, 1, 3, 3], segmentation=[[40, 1, 45, 1, 45, 5]]),
            an_object(6, 3, [1, 1, 3, 3], segmentation=SQUARE),
        ],
    )
    for _ in range(2):  # parsed, and from the cache where there is one
        with pytest.warns(DataWarning, match="1 x mask without a pixel in the picture left out .first: annotation 5"):
            assert CocoDetection(tmp_path, "train", with_masks=True, keep_empty=False).ids == ["3"]
    with pytest.raises(DataError, match="annotation 5: mask without a pixel"):
        CocoDetection(tmp_path, "train", with_masks=True, strict=True)


NAMES = {
    "one name twice": (["cat", "dog", "cat"], ("cat", "dog", "cat (77)"), "category 77: .*told apart by its id"),
    "three of one name": (["a", "a", "a"], ("a", "a (18)", "a (77)"), "category 18: .*told apart by its id"),
    "a name that is taken": (["a", "a (77)", "a"], ("a", "a (77)", "a (77) (77)"), "category 77: .*told apart"),
    "empty": (["", "dog", " "], ("category 2", "dog", "category 77"), "category 2: category without a name"),
}


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("reader", [CocoDetection, CocoPanoptic])
def test_categories_get_names_of_their_own(tmp_path, case, reader):
    written, names, words = NAMES[case]
    kind = "instances" if reader is CocoDetection else "panoptic"
    path = write_coco(tmp_path, {"train": 1}, seed=1, size=32) / f"annotations/{kind}_train2017.json"
    content = json.loads(path.read_text())
    ids = (2, 18, 77)
    content["categories"] = [{"id": a, "name": b, "isthing": 1} for a, b in zip(ids, written, strict=True)][::-1]
    for entry in content["annotations"]:
        for segment in entry.get("segments_info", [entry]):
            segment["category_id"] = 18
    path.write_text(json.dumps(content))
    with pytest.warns(DataWarning, match="categor"):
        assert reader(tmp_path, "train").label_map == (names, int(reader is CocoDetection), ids)
    with pytest.raises(DataError, match=words):
        reader(tmp_path, "train", strict=True)


@pytest.mark.parametrize("mark", [2, -1, "1", None, [1], float("nan")])
def test_a_crowd_mark_that_is_none_is_taken_for_0(tmp_path, mark):
    path = write_folder(tmp_path, [an_object(5, 7, [1, 1, 3, 3], iscrowd=mark), an_object(6, 7, [1, 1, 3, 3])])
    with pytest.warns(DataWarning, match=r"1 x iscrowd that is neither 0 nor 1 taken for 0 \(first: annotation 5\)"):
        assert CocoDetection(tmp_path, "train")[0]["crowd"].tolist() == [False, False]
    with pytest.raises(DataError, match=f"{path}, annotation 5: iscrowd"):
        CocoDetection(tmp_path, "train", strict=True)


def test_crowd_marks_that_are_missing_or_true_are_no_fault(tmp_path):
    small_folder(tmp_path)
    path = tmp_path / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = True
    del content["annotations"][1]["iscrowd"]
    path.write_text(json.dumps(content | {"categories": CATEGORIES}))
    samples = samples_of(CocoDetection(tmp_path, "train", strict=True))
    assert [sample["crowd"].tolist() for sample in samples] == [[False, False], [True, False], []]


def test_a_crowd_mark_of_a_segment(tmp_path):
    path = write_coco(tmp_path, {"train": 1}, seed=1, size=32) / "annotations/panoptic_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segments_info"][0]["iscrowd"] = 3
    path.write_text(json.dumps(content))
    with pytest.warns(DataWarning, match="1 x iscrowd that is neither 0 nor 1 taken for 0"):
        assert not CocoPanoptic(tmp_path, "train")[0]["crowd"].any()
    with pytest.raises(DataError, match="iscrowd that is neither 0 nor 1"):
        CocoPanoptic(tmp_path, "train", strict=True)
