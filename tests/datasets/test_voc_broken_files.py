"""VOC folders whose files are broken in themselves: readers and commands name the file, none ends in a traceback."""

import warnings

import numpy as np
import pytest
from PIL import Image
from voc_folder import GOOD, XML, an_object, refused, voc_folder

from lightning_cv.cli import main
from lightning_cv.datamodules import VOCDetectionDataModule
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.repairs import DataWarning
from lightning_cv.datasets.voc import VOCDetection, VOCInstances, VOCSegmentation
from lightning_cv.tools.data_check import check
from lightning_cv.tools.data_check_voc import read_annotation
from lightning_cv.transforms import DetectionEval, FlipOnly

ANNOTATION, LIST = "Annotations/a.xml", "ImageSets/Main/train.txt"


@pytest.fixture
def root(tmp_path):
    return voc_folder(tmp_path)


@pytest.fixture
def folder(root):
    return root / "VOCdevkit/VOC2007"


def with_encoding(name):
    return lambda path: path.write_text(f'<?xml version="1.0" encoding="{name}"?>{path.read_text()}')


def as_folder(path):
    path.unlink()
    path.mkdir()


BROKEN_XML = {
    "unknown encoding": (with_encoding("foo"), "unknown encoding"),
    "encoding of several bytes": (with_encoding("gbk"), "multi-byte encodings are not supported"),
    "wrong encoding": (with_encoding("utf-16"), "encoding"),
    "bytes": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not XML"),
    "a folder": (as_folder, "Is a directory"),
}


@pytest.mark.parametrize("kind", BROKEN_XML)
def test_broken_xml_is_named(root, folder, kind, capsys):
    spoil, words = BROKEN_XML[kind]
    spoil(folder / ANNOTATION)
    refused(root, f"{folder / ANNOTATION} is not XML", words)
    assert read_annotation(folder / ANNOTATION).error
    case = check(root, "voc", ("person", "dog", "tvmonitor")).problems["annotation that cannot be read"]
    assert case.total == 1
    assert case.examples[0].startswith(f"VOCdevkit/VOC2007/{ANNOTATION}: ")
    assert main(["data", "check", str(root)]) == 1
    assert main(["data", "stats", str(root)]) == 0  # of what can be read
    capsys.readouterr()
    assert main(["data", "show", str(root), "--layout", "voc", "--out", str(root / "x.png")]) == 2
    assert str(folder / ANNOTATION) in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\xff\xfea\n", "a\n".encode("utf-16"), b"caf\xe9\n"])
def test_a_list_that_is_not_utf_8_is_named(root, folder, content, capsys):
    for kind, reader in (("Main", VOCDetection), ("Segmentation", VOCSegmentation)):
        path = folder / f"ImageSets/{kind}/train.txt"
        path.write_bytes(content)
        refused(root, f"{path} is not a readable list", reader=reader)
    problems = check(root, "voc", ("person", "dog", "tvmonitor")).problems
    assert problems["list that cannot be read"].total == 2
    assert LIST in problems["list that cannot be read"].examples[0]
    assert main(["data", "check", str(root)]) == 1
    capsys.readouterr()
    for verb in (["stats", str(root), "--split", "train"], ["show", str(root), "--out", str(root / "x.png")]):
        assert main(["data", *verb]) == 2
        assert str(folder / LIST) in capsys.readouterr().err


def test_a_list_that_is_a_folder_is_found(root, folder):
    as_folder(folder / LIST)
    refused(root, "no list", LIST)
    assert check(root, "voc", ("person", "dog", "tvmonitor")).problems["list that cannot be read"].total == 1
    assert main(["data", "stats", str(root), "--split", "train"]) == 2


@pytest.mark.parametrize("reader", [VOCDetection, VOCSegmentation])
def test_a_repeat_within_a_list_is_told_and_counted(root, folder, reader):
    for kind in ("Main", "Segmentation"):
        (folder / f"ImageSets/{kind}/train.txt").write_text("a\nb\na\na\nb\n")
    with pytest.warns(DataWarning, match=r"3 x repeated id of a list passed over \(first: .*/train.txt, a\)") as told:
        dataset = reader(root, "2007", "train+val")
    assert len(told) == 1
    assert dataset.ids == ["a", "b", "c"]
    refused(root, "train.txt, a", "repeated id", "strict", reader=reader, strict=True)


@pytest.mark.parametrize("split", ["train+train", "train+trainval", "train+val - val"])
def test_what_joined_lists_share_is_silent(root, folder, split):
    (folder / "ImageSets/Main/trainval.txt").write_text("a\nb\nc\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert VOCDetection(root, "2007", split, strict=True).ids[:2] == ["a", "b"]


def test_boxes_and_masks_are_cut_to_a_smaller_picture(root, folder):
    """Declared 20 x 10, picture and masks 12 x 6: one box reaches out, one object of two has no pixel left."""
    (folder / "SegmentationObject").mkdir()
    objects = an_object("person", 3, 2, 18, 9) + an_object("dog", 14, 2, 18, 5) + GOOD
    (folder / "Annotations/c.xml").write_text(XML.format(image="c.jpg", objects=objects))
    numbers = np.zeros((6, 12), np.uint8)
    numbers[1:, 5:], numbers[1:4, 2:5] = 1, 3
    classes = np.array([0, 15, 0, 12], np.uint8)[numbers]
    Image.new("RGB", (12, 6)).save(folder / "JPEGImages/c.jpg")
    for name, values in (("SegmentationClass", classes), ("SegmentationObject", numbers)):
        Image.fromarray(values).save(folder / name / "c.png")
    dataset = VOCInstances(root, "2007", "val")
    with pytest.warns(DataWarning) as told:
        sample = dataset[0]
    assert "object without pixels left out" in str(told[0].message)
    assert "c.jpg is 12 x 6 pixels, smaller than its annotation says" in str(told[1].message)
    assert sample["boxes"].tolist() == [[2, 1, 12, 6], [2, 1, 5, 4]]
    assert sample["labels"].tolist() == [15, 12]
    np.testing.assert_array_equal(sample["masks"], [numbers == 1, numbers == 3])
    refused(root, "object 2", "strict", reader=VOCInstances, split="val", strict=True)
    (folder / "Annotations/c.xml").write_text(XML.format(image="c.jpg", objects=an_object("person", 3, 2, 18, 9)))
    numbers[numbers == 3] = 0
    for name, values in (("SegmentationClass", numbers * 15), ("SegmentationObject", numbers)):
        Image.fromarray(values).save(folder / name / "c.png")
    refused(root, "c.jpg is 12 x 6 pixels", "strict", reader=VOCInstances, split="val", strict=True)


@pytest.mark.parametrize("cache", [False, True])
def test_no_image_with_a_single_object(root, folder, cache):
    (folder / "Annotations/c.xml").write_text(XML.format(image="c.jpg", objects=GOOD + GOOD))
    with pytest.raises(DataError, match="split val: single_object leaves no image, none of 1 has exactly one object"):
        VOCDetection(root, "2007", "val", single_object=True, cache=cache)
    data = VOCDetectionDataModule(str(root), FlipOnly(), DetectionEval(32), train="val", single_object=True)
    with pytest.raises(DataError, match="single_object"):
        data.setup("fit")
