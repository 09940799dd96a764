"""VOC folders: one clear message for each thing that can be wrong, and what is mended."""

import numpy as np
import pytest
from PIL import Image
from voc_folder import GOOD, XML, an_object, refused, voc_folder, write_c

from lightning_cv.datasets.repairs import DataWarning
from lightning_cv.datasets.voc import VOCDetection, VOCSegmentation


@pytest.fixture
def root(tmp_path):
    return voc_folder(tmp_path)


@pytest.fixture
def folder(root):
    return root / "VOCdevkit/VOC2007"


@pytest.mark.parametrize("reader", [VOCDetection, VOCSegmentation])
def test_missing_folder_names_the_commands(tmp_path, reader):
    refused(
        tmp_path,
        "VOCdevkit/VOC2007",
        f"`lightning-cv data get voc2007 --root {tmp_path}`",
        f"`lightning-cv data draw --root {tmp_path}`",
        reader=reader,
    )


@pytest.mark.parametrize("reader", [VOCDetection, VOCSegmentation])
def test_truncated_image(root, folder, reader):
    path = folder / "JPEGImages/b.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    refused(root, "JPEGImages/b.jpg: not a readable image", reader=reader)


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\xff\xd8\xff\xe0"])
def test_corrupt_image(root, folder, content):
    (folder / "JPEGImages/a.jpg").write_bytes(content)
    refused(root, "JPEGImages/a.jpg: not a readable image")


def test_annotation_that_names_a_missing_image(root, folder):
    (folder / "Annotations/b.xml").write_text(XML.format(image="gone.jpg", objects=""))
    refused(root, "Annotations/b.xml names the image gone.jpg", "no such file")


def test_list_that_names_a_missing_annotation(root, folder):
    (folder / "ImageSets/Main/train.txt").write_text("a\nzzz\n")
    refused(root, "no annotation", "Annotations/zzz.xml")


def test_list_that_names_a_missing_mask(root, folder):
    (folder / "SegmentationClass/b.png").unlink()
    refused(root, "SegmentationClass/b.png", "train+val", reader=VOCSegmentation)


@pytest.mark.parametrize("content", ["", "a,b,c\n1,2,3", "<annotation><object>", '{"not": "xml"}'])
def test_text_that_is_not_xml(root, folder, content):
    (folder / "Annotations/a.xml").write_text(content)
    refused(root, "Annotations/a.xml is not XML")


def test_xml_that_is_not_voc(root, folder):
    (folder / "Annotations/a.xml").write_text("<svg><object/></svg>")
    refused(root, "Annotations/a.xml is not a VOC annotation", "<svg>")


@pytest.mark.parametrize("box", ["<bndbox><xmin>1</xmin></bndbox>", "<bndbox><xmin>x</xmin></bndbox>"])
def test_object_without_corners(root, folder, box):
    write_c(folder, f"<object><name>cat</name>{box}</object>")
    refused(root, "Annotations/c.xml is not a VOC annotation", "<bndbox>")


MENDED = {
    "swapped corners put in order": (an_object("cat", 9, 4, 7, 2), [6, 1, 9, 4]),
    "box cut to the picture": (an_object("cat", 15, 5, 21, 14), [14, 4, 20, 10]),
}
LEFT_OUT = {
    "box without area in the picture left out": an_object("cat", 30, 2, 40, 4),
    "box with coordinates that are no numbers left out": an_object("cat", "nan", 2, 40, 4),
    "object without a box left out": "<object><name>cat</name></object>",
}


@pytest.mark.parametrize("kind", MENDED)
def test_a_box_that_can_be_mended_is(root, folder, kind):
    write_c(folder, MENDED[kind][0] + GOOD)
    with pytest.warns(DataWarning, match=rf"split val: 1 x {kind} \(first: .*c.xml, object 1\)"):
        sample = VOCDetection(root, "2007", "val")[0]
    assert sample["boxes"].tolist() == [MENDED[kind][1], [2, 1, 5, 4]]
    refused(root, "c.xml, object 1", kind, "strict", strict=True)


@pytest.mark.parametrize(
    ("corners", "kept"),
    [
        ((9, 2, 8, 4), []),  # no width: one before the near corner, of which it is no slip
        ((7, 5, 9, 4), []),
        ((9, 5, 8, 4), []),
        ((9, 5, 2, 4), []),
        ((8, 2, 8, 4), [[7, 1, 8, 4]]),
        ((9, 2, 7, 2), [[6, 1, 9, 2]]),
    ],
)
@pytest.mark.filterwarnings("ignore::lightning_cv.datasets.repairs.DataWarning")
def test_corners_one_apart_are_not_swapped(root, folder, corners, kept):
    write_c(folder, an_object("cat", *corners))
    assert VOCDetection(root, "2007", "val")[0]["boxes"].tolist() == kept
    if not kept:
        refused(root, "c.xml, object 1", "strict", strict=True)


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_a_box_that_cannot_be_mended_is_left_out(root, folder, kind):
    write_c(folder, GOOD + LEFT_OUT[kind] + GOOD)
    with pytest.warns(DataWarning, match=rf"1 x {kind} \(first: .*c.xml, object 2\)"):
        sample = VOCDetection(root, "2007", "val")[0]
    assert sample["boxes"].tolist() == [[2, 1, 5, 4]] * 2
    assert sample["labels"].tolist() == [12, 12]
    refused(root, "c.xml, object 2", kind, "strict", strict=True)


def test_repairs_are_counted_and_told_once(root, folder):
    write_c(folder, an_object("cat", 9, 4, 7, 2) * 3 + an_object("cat", 30, 2, 40, 4))
    with pytest.warns(DataWarning) as told:
        VOCDetection(root, "2007", "val")
    assert len(told) == 1
    assert "3 x swapped corners" in str(told[0].message)
    assert "1 x box without area" in str(told[0].message)


@pytest.mark.parametrize(
    "size", ["", "<size><width>x</width></size>", "<size><width>40</width><height>10</height></size>"]
)
def test_a_picture_smaller_than_its_annotation_says(root, folder, size):
    text = f"<annotation><filename>{{image}}</filename>{size}{{objects}}</annotation>"
    write_c(folder, an_object("cat", 15, 5, 30, 9) + an_object("cat", 30, 2, 40, 4) + GOOD, text)
    dataset = VOCDetection(root, "2007", "val")
    with pytest.warns(DataWarning, match="c.jpg is 20 x 10 pixels, smaller than its annotation says"):
        sample = dataset[0]
    assert sample["boxes"].tolist() == [[14, 4, 20, 9], [2, 1, 5, 4]]
    assert sample["labels"].tolist() == [8, 12]
    refused(root, "c.jpg is 20 x 10 pixels", "strict", strict=True)


def test_unknown_class(root, folder):
    (folder / "Annotations/c.xml").write_text(XML.format(image="c.jpg", objects=an_object("Dog", 1, 2, 8, 4)))
    refused(root, "Annotations/c.xml names the unknown class 'Dog'", "'dog'")


def test_mask_of_another_size_than_its_image(root, folder):
    Image.fromarray(np.zeros((10, 19), np.uint8)).save(folder / "SegmentationClass/b.png")
    refused(root, "SegmentationClass/b.png is 19 x 10 pixels, its image b.jpg is 20 x 10", reader=VOCSegmentation)


def test_mask_with_unknown_classes(root, folder):
    Image.fromarray(np.full((10, 20), 21, np.uint8)).save(folder / "SegmentationClass/b.png")
    for options in ({}, {"binary": True}):
        refused(
            root, "SegmentationClass/b.png holds the class numbers [21]", "0 to 20 and 255", reader=VOCSegmentation,
            **options,
        )  # fmt: skip


def test_mask_with_colours_instead_of_numbers(root, folder):
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(folder / "SegmentationClass/b.png")
    refused(root, "SegmentationClass/b.png", "RGB", reader=VOCSegmentation)


def test_corrupt_mask(root, folder):
    path = folder / "SegmentationClass/b.png"
    path.write_bytes(path.read_bytes()[:60])
    refused(root, "SegmentationClass/b.png: not a readable mask", reader=VOCSegmentation)


@pytest.mark.parametrize("reader", [VOCDetection, VOCSegmentation])
def test_missing_list_names_those_that_are_there(root, reader):
    refused(root, "dev.txt", "splits here are train, val", reader=reader, split="train+dev")


@pytest.mark.parametrize("reader", [VOCDetection, VOCSegmentation])
@pytest.mark.parametrize("content", ["", "\n  \n"])
def test_empty_list(root, folder, reader, content):
    for kind in ("Main", "Segmentation"):
        (folder / f"ImageSets/{kind}/val.txt").write_text(content)
    refused(root, "val.txt lists no image", reader=reader)
