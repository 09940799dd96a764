"""A small folder in VOC's layout, and what a reader says of it when it is damaged."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.voc import VOCDetection

XML = """<annotation><folder>VOC2007</folder><filename>{image}</filename>
<size><width>20</width><height>10</height><depth>3</depth></size>{objects}</annotation>"""
OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmax>{3}</xmax><xmin>{1}</xmin><ymin>{2}</ymin><ymax>{4}</ymax></bndbox>{part}</object>"""
HEAD = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"


def an_object(name, *corners, difficult=0, part=""):
    return OBJECT.format(None, *corners, name=name, difficult=difficult, part=part)


def write_c(folder, objects, text=XML):
    (folder / "Annotations/c.xml").write_text(text.format(image="c.jpg", objects=objects))


GOOD = an_object("dog", 3, 2, 5, 4)


def voc_folder(tmp_path):
    """Three images of 20 x 10 pixels: two objects, one with a part and one difficult; no object; one object."""
    folder = tmp_path / "VOCdevkit/VOC2007"
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    objects = {
        "a": an_object("person", 1, 1, 20, 10, part=HEAD) + an_object("dog", 3, 2, 5, 4, difficult=1),
        "b": "",
        "c": an_object("tvmonitor", 2.5, 1, 7, 7.5),
    }
    for number, (image_id, content) in enumerate(objects.items()):
        pixels = np.full((10, 20, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{image_id}.jpg")
        (folder / "Annotations" / f"{image_id}.xml").write_text(XML.format(image=f"{image_id}.jpg", objects=content))
        mask = Image.fromarray(np.array([[0] * 10 + [15] * 9 + [255]] * 10, np.uint8))
        mask.putpalette([0, 0, 0] * 256)
        mask.save(folder / "SegmentationClass" / f"{image_id}.png")
    for kind in ("Main", "Segmentation"):
        (folder / f"ImageSets/{kind}/train.txt").write_text("a\nb\n")
        (folder / f"ImageSets/{kind}/val.txt").write_text("c  1\n\n")
    return tmp_path


def refused(root: Path, *pieces: str, reader=VOCDetection, split="train+val", **options) -> None:
    """Reading everything raises a DataError whose message has all the pieces on one line, and no file is lost."""
    before = sorted(path for path in root.rglob("*"))

    def read_everything():
        dataset = reader(root, "2007", split, **options)
        return [dataset[index] for index in range(len(dataset))]

    with pytest.raises(DataError) as caught:
        read_everything()
    message = str(caught.value)
    assert "\n" not in message
    for piece in pieces:
        assert piece in message
    assert sorted(path for path in root.rglob("*")) == before
