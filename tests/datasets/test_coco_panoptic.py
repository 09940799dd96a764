"""Panoptic folders: numbers in the colours of the PNG, classes from the json, and what does not fit between the two."""

import json
import pickle
import warnings
from collections import Counter

import numpy as np
import pytest
from coco_folder import an_image, write_images
from PIL import Image

from lightning_cv.datasets import coco_cache
from lightning_cv.datasets.coco_panoptic import CocoPanoptic, number_segments, segment_ids
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.repairs import DataWarning

CATEGORIES = [
    {"id": 100, "name": "grass", "isthing": 0},
    {"id": 2, "name": "cat", "isthing": 1},
    {"id": 18, "name": "dog", "isthing": 1},
]
CAT, DOG, GRASS = 5 + 256 * 7, 65536 * 200 + 1, 256  # numbers of three segments


def a_segment(number, category, crowd=0):
    return {"id": number, "category_id": category, "area": 1, "bbox": [0, 0, 1, 1], "iscrowd": crowd}


def an_annotation(image_id, segments, name=None):
    return {"image_id": image_id, "file_name": name or f"{image_id:03d}.png", "segments_info": segments}


def write_png(folder, image_id, numbers):
    """A PNG whose pixels hold the numbers (H, W)."""
    numbers = np.asarray(numbers)
    colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours).save(folder / f"{image_id:03d}.png")


def scene():
    """Numbers (10, 20): a cat at the left, a dog at the right, grass below, void in the last row."""
    numbers = np.full((10, 20), GRASS)
    numbers[:4, :8] = CAT
    numbers[:6, 15:] = DOG
    numbers[9] = 0
    return numbers


def write_folder(root, segments, numbers=None, annotations=(), **more):
    """Image 7 with the segments given; image 3, of 12 x 16, is all grass and crowd dog."""
    write_images(root / "train2017", {7: (10, 20), 3: (12, 16)})
    folder = root / "annotations/panoptic_train2017"
    write_png(folder, 7, scene() if numbers is None else numbers)
    write_png(folder, 3, np.where(np.arange(16) < 4, DOG, GRASS)[None].repeat(12, axis=0))
    other = an_annotation(3, [a_segment(GRASS, 100), a_segment(DOG, 18, crowd=1)])
    content = {
        "images": [an_image(3, 12, 16), an_image(7, 10, 20)],
        "annotations": [an_annotation(7, segments), other, *annotations],
        "categories": CATEGORIES,
    }
    path = root / "annotations/panoptic_train2017.json"
    path.write_text(json.dumps(content | more))
    return path


ALL = [a_segment(GRASS, 100), a_segment(DOG, 18), a_segment(CAT, 2)]


@pytest.fixture
def root(tmp_path):
    write_folder(tmp_path, ALL)
    return tmp_path


def test_segments_and_classes(root):
    dataset = CocoPanoptic(root, "train", strict=True)
    assert dataset.ids == ["7", "3"]
    assert dataset.label_map == (("cat", "dog", "grass"), 0, (2, 18, 100))
    assert dataset.is_thing.tolist() == [True, True, False]
    sample = dataset[0]
    expected = np.full((10, 20), 1)
    expected[:4, :8] = 3
    expected[:6, 15:] = 2
    expected[9] = 0
    np.testing.assert_array_equal(sample["segments"], expected)
    assert sample["labels"].tolist() == [2, 1, 0]
    assert sample["is_thing"].tolist() == [False, True, True]
    assert sample["crowd"].tolist() == [False, False, False]
    assert sample["image"].shape == (10, 20, 3)
    types = {"segments": np.int32, "labels": np.int64, "is_thing": np.bool_, "crowd": np.bool_, "image": np.uint8}
    assert {key: sample[key].dtype for key in types} == types


def test_crowds_keep_their_mark(root):
    sample = CocoPanoptic(root, "train")[1]
    assert (sample["image_id"], sample["crowd"].tolist()) == ("3", [False, True])
    assert sample["segments"][0].tolist() == [2] * 4 + [1] * 12


def test_numbers_use_all_three_colours():
    colours = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [255, 255, 255]]], np.uint8)
    assert segment_ids(colours).tolist() == [[1, 256, 65536, 16777215]]


def test_numbering_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    for count in (0, 1, 5, 40):
        known = rng.choice(np.arange(1, 100), count, replace=False)
        ids = rng.integers(0, 100, (13, 17)).astype(np.int32)
        found = number_segments(ids, known)
        positions = {0: 0} | {number: position for position, number in enumerate(known.tolist(), start=1)}
        assert found.segments.tolist() == [[positions.get(number, 0) for number in row] for row in ids.tolist()]
        assert found.seen.tolist() == [bool((ids == number).any()) for number in known]
        assert found.strange in {None, *np.unique(ids).tolist()} - set(positions)


def test_the_picture_cache_and_pickling_change_nothing(root):
    plain, cached = CocoPanoptic(root, "train"), CocoPanoptic(root, "train", cache=True)
    for dataset in (cached, pickle.loads(pickle.dumps(plain))):
        for index in range(2):
            for key, value in plain[index].items():
                np.testing.assert_array_equal(value, dataset[index][key])


def test_a_large_json_is_packed_once(root, monkeypatch):
    plain = [CocoPanoptic(root, "train")[index] for index in range(2)]
    monkeypatch.setattr(coco_cache, "LARGE", 0)
    CocoPanoptic(root, "train")
    assert (root / "annotations/.lightning_cv/panoptic_train2017.json.panoptic/ids.npy").is_file()
    monkeypatch.setattr(coco_cache, "parse_coco", lambda text, path: pytest.fail("parsed again"))
    again = CocoPanoptic(root, "train")
    for index in range(2):
        for key, value in plain[index].items():
            np.testing.assert_array_equal(value, again[index][key])


# --- what is left out


def test_a_number_that_the_json_does_not_know_is_void(tmp_path):
    path = write_folder(tmp_path, [a_segment(GRASS, 100), a_segment(CAT, 2)])
    dataset = CocoPanoptic(tmp_path, "train")
    with pytest.warns(DataWarning, match=f"does not know made void .*007.png, id {DOG}") as told:
        sample = dataset[0]
    assert len(told) == 1
    assert str(path) in str(told[0].message)
    assert (sample["segments"][:6, 15:] == 0).all()
    assert sample["labels"].tolist() == [2, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset[0]  # the same image again is no new case
    assert list(dataset.repairs.counts.values()) == [1]
    with pytest.raises(DataError, match=rf"007\.png, id {DOG}: segment of the PNG that the json does not know"):
        CocoPanoptic(tmp_path, "train", strict=True)[0]


def test_a_segment_without_a_pixel_is_left_out(tmp_path):
    write_folder(tmp_path, [a_segment(77, 18), *ALL])
    dataset = CocoPanoptic(tmp_path, "train")
    with pytest.warns(DataWarning, match=r"segment without a pixel in the PNG left out .*007\.png, id 77"):
        sample = dataset[0]
    assert sample["labels"].tolist() == [2, 1, 0]
    assert sample["segments"].max() == 3
    assert (sample["segments"][:4, :8] == 3).all()
    with pytest.raises(DataError, match="id 77: segment without a pixel"):
        CocoPanoptic(tmp_path, "train", strict=True)[0]


FAULTS = {
    "unknown category": ([a_segment(GRASS, 100), a_segment(CAT, 2), a_segment(DOG, 55)], "not declared made void"),
    "no category": ([{"id": DOG}, a_segment(GRASS, 100), a_segment(CAT, 2)], "not declared made void"),
    "repeated id": ([*ALL, a_segment(CAT, 18)], "repeated segment id left out"),
    "void as id": ([*ALL, a_segment(0, 18)], "without an id of 24 bits"),
    "id too large": ([*ALL, a_segment(1 << 24, 18)], "without an id of 24 bits"),
    "no id": ([*ALL, {"category_id": 18}], "without an id of 24 bits"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_of_segments_are_told_when_the_json_is_read(tmp_path, case):
    segments, words = FAULTS[case]
    path = write_folder(tmp_path, segments)
    with pytest.warns(DataWarning, match=f"{path}: 1 x .*{words} .*image 7") as told:
        dataset = CocoPanoptic(tmp_path, "train")
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample = dataset[0]
    assert (sample["segments"][:6, 15:] == 0).all() == ("category" in case)
    assert sorted(sample["labels"].tolist()) == ([0, 2] if "category" in case else [0, 1, 2])
    with pytest.raises(DataError, match=words):
        CocoPanoptic(tmp_path, "train", strict=True)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (an_annotation(8, []), "annotation of an image that is not declared left out"),
        (an_annotation(7, []), "second annotation of an image left out"),
        ({"image_id": 9, "segments_info": []}, "annotation without file_name and segments_info left out"),
        ("nothing", "annotation of an image that is not declared left out"),
    ],
)
def test_annotations_that_cannot_be_used(tmp_path, annotation, words):
    images = [an_image(3, 12, 16), an_image(7, 10, 20)]
    images += [an_image(9, 8, 8)] if "without" in words else []
    write_folder(tmp_path, ALL, annotations=[annotation], images=images)
    with pytest.warns(DataWarning, match=words):
        assert CocoPanoptic(tmp_path, "train").ids == ["7", "3"]
    with pytest.raises(DataError, match=words):
        CocoPanoptic(tmp_path, "train", strict=True)


def test_an_image_without_an_annotation_is_left_out(tmp_path):
    write_folder(tmp_path, ALL, images=[an_image(3, 12, 16), an_image(7, 10, 20), an_image(9, 8, 8)])
    with pytest.warns(DataWarning, match=r"image without an annotation left out \(first: image 9\)"):
        assert CocoPanoptic(tmp_path, "train").ids == ["7", "3"]


# --- what is an error


def refused(root, *pieces):
    with pytest.raises(DataError) as caught:
        CocoPanoptic(root, "train")[0]
    assert "\n" not in str(caught.value)
    for piece in pieces:
        assert piece in str(caught.value)


def test_a_png_of_another_size(tmp_path):
    write_folder(tmp_path, ALL, numbers=scene()[:, :-1])
    refused(tmp_path, "panoptic_train2017/007.png is 19 x 10 pixels", "declares 20 x 10 for image 7")


def test_an_image_of_another_size(root):
    Image.new("RGB", (20, 11)).save(root / "train2017/007.jpg")
    refused(root, "train2017/007.jpg is 20 x 11 pixels", "declares 20 x 10 for image 7")


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_a_png_without_colours(root, mode):
    path = root / "annotations/panoptic_train2017/007.png"
    Image.open(path).convert(mode).save(path)
    refused(root, "007.png: a panoptic PNG numbers its segments by RGB colours", f"this is {mode}")


def test_a_png_with_opacity_is_read(root):
    path = root / "annotations/panoptic_train2017/007.png"
    before = CocoPanoptic(root, "train")[0]["segments"]
    Image.open(path).convert("RGBA").save(path)
    np.testing.assert_array_equal(CocoPanoptic(root, "train")[0]["segments"], before)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"words"])
def test_a_corrupt_png(root, content):
    (root / "annotations/panoptic_train2017/007.png").write_bytes(content)
    refused(root, "007.png: not a readable PNG")


def test_missing_files_are_told_before_anything_is_read(root):
    (root / "annotations/panoptic_train2017/003.png").unlink()
    refused(root, "no file", "panoptic_train2017/003.png, which", "panoptic_train2017.json names")
    (root / "train2017/003.jpg").unlink()
    refused(root, "no file", "train2017/003.jpg, which")
    for file in (root / "annotations/panoptic_train2017").iterdir():
        file.unlink()
    (root / "annotations/panoptic_train2017").rmdir()
    write_images(root / "train2017", {3: (12, 16)})
    refused(root, "no folder", "lightning-cv data get coco2017")


def test_a_missing_json_names_the_commands(tmp_path):
    refused(tmp_path, "panoptic_train2017.json", "lightning-cv data get coco2017", "data draw --layout coco")


def test_a_json_of_instances_is_no_panoptic_one(tmp_path):
    write_folder(tmp_path, ALL, categories=[{"id": 2, "name": "cat"}])
    refused(tmp_path, "panoptic_train2017.json is not a panoptic annotation file")


def test_nothing_annotated(tmp_path):
    path = write_folder(tmp_path, ALL)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"annotations": []}))
    refused(tmp_path, f"{path} has no annotated image")


# --- the real files


@pytest.mark.data
@pytest.mark.parametrize(("split", "images", "crowds"), [("train", 60, 2), ("val", 61, 4)])
def test_real_panoptic(shared_data, split, images, crowds):
    content = json.loads((shared_data / f"coco/annotations/panoptic_{split}2017.json").read_text())
    listed = {str(entry["image_id"]): entry["segments_info"] for entry in content["annotations"]}
    category_of = {entry["id"]: entry for entry in content["categories"]}
    dataset = CocoPanoptic(shared_data / "coco", split, strict=True)
    assert len(dataset) == len(listed) == images
    assert dataset.label_map.num_classes == len(category_of) == 133
    assert int(dataset.is_thing.sum()) == 80
    found = 0
    for index in range(len(dataset)):
        sample = dataset[index]
        segments = listed[sample["image_id"]]
        ids = [dataset.label_map.dataset_ids[label] for label in sample["labels"].tolist()]
        assert ids == [entry["category_id"] for entry in segments]
        assert sample["is_thing"].tolist() == [category_of[number]["isthing"] == 1 for number in ids]
        assert sample["crowd"].tolist() == [entry["iscrowd"] == 1 for entry in segments]
        areas = Counter(sample["segments"].ravel().tolist())
        assert [areas[number] for number in range(1, len(segments) + 1)] == [entry["area"] for entry in segments]
        found += int(sample["crowd"].sum())
    assert found == crowds


@pytest.mark.data
def test_the_sample_of_panopticapi(shared_data):
    folder = "golden/panopticapi_sample/sample_data"
    dataset = CocoPanoptic(
        shared_data,
        "val",
        annotations=f"{folder}/panoptic_examples.json",
        segments=f"{folder}/panoptic_examples",
        images=f"{folder}/input_images",
        strict=True,
    )
    listed = json.loads((shared_data / folder / "panoptic_examples.json").read_text())["annotations"]
    assert [len(dataset[index]["labels"]) for index in range(2)] == [len(entry["segments_info"]) for entry in listed]
