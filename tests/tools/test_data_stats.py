"""`lightning-cv data stats`: counts and shapes by hand, anchors, a figure."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from small_folders import make_celeba, make_masks, make_mnist

from lightning_cv.datasets.writers import write_coco, write_voc
from lightning_cv.ops.segmentation_losses import CrossEntropyLoss
from lightning_cv.tools.data import main

OBJECT = "<object><name>{}</name><difficult>{}</difficult><bndbox>{}</bndbox></object>"
BOX = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"


def write_xml(devkit: Path, image_id: str, *objects: tuple[str, int, tuple[object, ...]]) -> None:
    (devkit / "Annotations").mkdir(parents=True, exist_ok=True)
    items = "".join(OBJECT.format(name, difficult, BOX.format(*box)) for name, difficult, box in objects)
    size = "<size><width>100</width><height>50</height></size>"
    (devkit / f"Annotations/{image_id}.xml").write_text(f"<annotation>{size}{items}</annotation>")


@pytest.fixture
def voc(tmp_path) -> Path:
    """Three images of 100 x 50 pixels; boxes of 20 x 10, 50 x 50 and 10 x 5 pixels and one that cannot be used."""
    devkit = tmp_path / "VOCdevkit/VOC2007"
    write_xml(devkit, "a", ("cat", 0, (1, 1, 20, 10)), ("dog", 1, (51, 1, 100, 50)))
    write_xml(devkit, "b", ("cat", 0, (11, 11, 20, 15)), ("cat", 0, ("nan", 1, 2, 3)))
    write_xml(devkit, "c")
    (devkit / "ImageSets/Main").mkdir(parents=True)
    (devkit / "ImageSets/Main/train.txt").write_text("a\nc\n")
    return tmp_path


def stats(capsys, *arguments: object) -> dict:
    assert main(["stats", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_counts_and_shapes_by_hand(voc, capsys):
    summary = stats(capsys, voc, "--classes", "cat,dog,bird")
    assert summary["layout"] == "voc"
    assert (summary["images"], summary["objects"], summary["difficult"]) == (3, 4, 1)
    assert summary["images_without_objects"] == 1
    assert summary["unusable_boxes"] == 1
    assert summary["classes"] == [
        {"name": "cat", "objects": 3, "difficult": 0, "images": 2},
        {"name": "dog", "objects": 1, "difficult": 1, "images": 1},
        {"name": "bird", "objects": 0, "difficult": 0, "images": 0},
    ]
    assert summary["objects_an_image"]["mean"] == pytest.approx(4 / 3)
    assert summary["objects_an_image"]["100%"] == 2
    boxes = summary["boxes"]
    assert [boxes["width"][share] for share in ("0%", "50%", "100%")] == pytest.approx([0.1, 0.2, 0.5])
    assert [boxes["height"][share] for share in ("0%", "50%", "100%")] == pytest.approx([0.1, 0.2, 1.0])
    assert [boxes["width / height"][share] for share in ("0%", "50%", "100%")] == pytest.approx([0.5, 1.0, 1.0])
    assert [boxes["area"][share] for share in ("0%", "50%", "100%")] == pytest.approx([0.01, 0.04, 0.5])


def test_a_split(voc, capsys):
    summary = stats(capsys, voc, "--split", "train")
    assert (summary["images"], summary["objects"]) == (2, 2)
    assert [entry["name"] for entry in summary["classes"] if entry["objects"]] == ["cat", "dog"]


def test_names_of_its_own_replace_those_of_voc(voc, capsys):
    for path in (voc / "VOCdevkit/VOC2007/Annotations").iterdir():
        path.write_text(path.read_text().replace("cat", "gnome").replace("dog", "elf"))
    assert [entry["name"] for entry in stats(capsys, voc)["classes"]] == ["gnome", "elf"]


def test_a_size_that_is_not_stated_is_the_pictures(voc, capsys):
    path = voc / "VOCdevkit/VOC2007/Annotations/a.xml"
    path.write_text(path.read_text().replace("<size><width>100</width><height>50</height></size>", ""))
    assert "boxes" not in stats(capsys, voc, "--split", "train")
    (voc / "VOCdevkit/VOC2007/JPEGImages").mkdir()
    Image.new("RGB", (100, 50)).save(voc / "VOCdevkit/VOC2007/JPEGImages/a.jpg")
    assert stats(capsys, voc, "--split", "train")["boxes"]["width"]["100%"] == pytest.approx(0.5)


def test_annotations_that_cannot_be_read_are_counted(voc, capsys):
    (voc / "VOCdevkit/VOC2007/Annotations/c.xml").write_text("<anno")
    summary = stats(capsys, voc)
    assert (summary["images"], summary["unreadable_annotations"]) == (2, 1)


def test_anchors_are_in_pixels_of_stretched_images_and_in_cells(voc, capsys):
    anchors = stats(capsys, voc, "--anchors", 3, "--size", 320)["anchors"]
    assert np.allclose(anchors["pixels"], [[32, 32], [64, 64], [160, 320]])
    assert np.allclose(anchors["cells"], [[1, 1], [2, 2], [5, 10]])
    assert anchors["mean_iou"] == pytest.approx(1.0)
    assert stats(capsys, voc, "--anchors", 2, "--seed", 3) == stats(capsys, voc, "--anchors", 2, "--seed", 3)


def test_tables_and_figure(voc, capsys, tmp_path):
    figure = tmp_path / "figures/boxes.png"
    assert main(["stats", str(voc), "--anchors", "2", "--out", str(figure)]) == 0
    text = capsys.readouterr().out
    for words in ("3 images, 4 objects, 1 difficult, 1 images without", "1 unusable boxes", "box area", "mean IoU"):
        assert words in text
    assert text.endswith(f"{figure}\n")
    with Image.open(figure) as picture:
        assert picture.width > 1000


def test_a_drawn_coco_folder(tmp_path, capsys):
    root = write_coco(tmp_path / "drawn", {"train": 4, "val": 2}, seed=0, size=48)
    content = json.loads((root / "annotations/instances_val2017.json").read_text())
    content["annotations"][0]["iscrowd"] = 1
    (root / "annotations/instances_val2017.json").write_text(json.dumps(content))
    everything, val = stats(capsys, root), stats(capsys, root, "--split", "val")
    assert (everything["images"], val["images"]) == (6, 2)
    assert val["objects"] == len(content["annotations"])
    assert val["crowd"] == everything["crowd"] == 1
    assert stats(capsys, root, "--split", "val2017")["classes"] == val["classes"]
    counts = [sum(item["category_id"] == label for item in content["annotations"]) for label in range(1, 11)]
    assert [entry["objects"] for entry in val["classes"]] == counts
    per_image = {image["id"]: 0 for image in content["images"]}
    for item in content["annotations"]:
        per_image[item["image_id"]] += 1
    assert val["objects_an_image"]["100%"] == max(per_image.values())
    widths = [item["bbox"][2] / 48 for item in content["annotations"][1:]]  # without the crowd
    assert val["boxes"]["width"]["50%"] == pytest.approx(np.median(widths))


def test_both_layouts_of_the_same_scenes_agree(tmp_path, capsys):
    write_voc(tmp_path / "voc", "2007", {"train": 5}, seed=3, size=64)
    write_coco(tmp_path / "coco", {"train": 5}, seed=3, size=64)
    voc, coco = stats(capsys, tmp_path / "voc"), stats(capsys, tmp_path / "coco")
    assert voc["boxes"] == coco["boxes"]
    assert [(one["name"], one["objects"], one["images"]) for one in voc["classes"]] == [
        (one["name"], one["objects"], one["images"]) for one in coco["classes"]
    ]


def test_mnist(tmp_path, capsys):
    make_mnist(tmp_path)
    summary = stats(capsys, tmp_path)
    assert summary["images"] == summary["objects"] == 30
    assert [entry["objects"] for entry in summary["classes"]] == [3] * 10
    assert stats(capsys, tmp_path, "--split", "test")["images"] == 10


def test_celeba(tmp_path, capsys):
    celeba = make_celeba(tmp_path)
    path = celeba / "list_attr_celeba.txt"
    path.write_text(path.read_text().replace("000004.jpg  -1", "000004.jpg   1"))
    summary = stats(capsys, celeba)
    assert (summary["images"], summary["objects"]) == (6, 1)
    assert summary["classes"][0] == {"name": "column_0", "objects": 1, "images": 1}
    assert stats(capsys, celeba, "--split", "val")["objects"] == 1
    assert stats(capsys, celeba, "--split", "train")["objects"] == 0


def test_masks(tmp_path, capsys):
    masks = make_masks(tmp_path)
    summary = stats(capsys, masks, "--split", "train", "--classes", "background,one,two")
    values = [np.asarray(Image.open(path)) for path in sorted((masks / "train/masks").iterdir())]
    pixels = np.bincount(np.stack(values).ravel(), minlength=3)
    assert [entry["pixels"] for entry in summary["classes"]] == pixels.tolist()
    assert [entry["images"] for entry in summary["classes"]] == [2, 2, 2]


def write_mask(path: Path, *rows: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(rows, np.uint8)).save(path)


@pytest.fixture
def masked(voc) -> Path:
    """Class masks of images a and b of `voc`, both 2 x 5 pixels, one of them void in each."""
    devkit = voc / "VOCdevkit/VOC2007"
    write_mask(devkit / "SegmentationClass/a.png", [0, 0, 0, 0, 255], [0, 0, 1, 1, 2])
    write_mask(devkit / "SegmentationClass/b.png", [0, 0, 0, 255, 0], [1, 1, 1, 1, 1])
    (devkit / "ImageSets/Segmentation").mkdir()
    (devkit / "ImageSets/Segmentation/train.txt").write_text("a\n")
    (devkit / "ImageSets/Segmentation/both.txt").write_text("a\nb\n")
    return voc


def test_class_weights_by_hand(masked, capsys):
    """Frequencies: background 10 of 18 pixels, cat 7 of 18, dog 1 of the 9 of the mask that holds it; no bird.

    The median is 7 / 18, so the weights are 7 / 10, 1 and 7 / 2.
    """
    summary = stats(capsys, masked, "--classes", "cat,dog,bird", "--class-weights")
    assert summary["masks"]["classes"] == [
        {"name": "background", "pixels": 10, "masks": 2, "weight": 0.7},
        {"name": "cat", "pixels": 7, "masks": 2, "weight": 1.0},
        {"name": "dog", "pixels": 1, "masks": 1, "weight": 3.5},
        {"name": "bird", "pixels": 0, "masks": 0, "weight": 1.0},
    ]
    assert summary["masks"]["class_weights"] == [0.7, 1.0, 3.5, 1.0]
    assert (summary["masks"]["masks"], summary["masks"]["void_pixels"], summary["masks"]["unreadable"]) == (2, 2, 0)
    assert summary["images"] == 3
    assert "masks" not in stats(capsys, masked)


def test_class_weights_of_a_list_of_masks(masked, capsys):
    """The mask of a alone has 6, 2 and 1 of 9 pixels. Boxes are those of the list in Main if there is one."""
    train = stats(capsys, masked, "--classes", "cat,dog", "--split", "train", "--class-weights")
    assert train["masks"]["class_weights"] == [0.3333, 1.0, 2.0]
    assert train["images"] == 2
    both = stats(capsys, masked, "--classes", "cat,dog", "--split", "both", "--class-weights")
    assert both["masks"]["class_weights"] == [0.7, 1.0, 3.5]
    assert (both["images"], both["objects"]) == (2, 4)


def test_class_weights_of_the_layout_of_masks(tmp_path, capsys):
    """4 of the 6 pixels that count are 0, 2 are 3; the median of 4 / 6 and 2 / 6 is 3 / 6; 1 and 2 have no pixel."""
    (tmp_path / "images").mkdir()
    write_mask(tmp_path / "masks/a.png", [0, 3], [255, 255])
    write_mask(tmp_path / "masks/b.png", [0, 0], [0, 3])
    plain = stats(capsys, tmp_path, "--class-weights")["masks"]
    assert [entry["name"] for entry in plain["classes"]] == ["0", "1", "2", "3"]
    assert plain["class_weights"] == [0.75, 1.0, 1.0, 1.5]
    named = stats(capsys, tmp_path, "--class-weights", "--classes", "ground,elf,gnome,imp,king")["masks"]
    assert named["class_weights"] == [0.75, 1.0, 1.0, 1.5, 1.0]


def test_the_printed_line_is_the_argument_of_the_loss(masked, capsys):
    assert main(["stats", str(masked), "--classes", "cat,dog,bird", "--class-weights"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "2 class masks, 2 void pixels; no pixel of bird: weight 1" in lines
    settings = yaml.safe_load("\n".join(lines[-2:]))
    assert settings == {"class_weights": [0.7, 1.0, 3.5, 1.0]}
    assert CrossEntropyLoss(**settings).class_weights.tolist() == pytest.approx([0.7, 1.0, 3.5, 1.0])


def test_weights_have_no_exponent(tmp_path, capsys):
    """1 of 1,000,000 pixels: the median of both frequencies is 0.5, so its weight is 500,000."""
    (tmp_path / "images").mkdir()
    mask = np.zeros((1000, 1000), np.uint8)
    mask[0, 0] = 1
    write_mask(tmp_path / "masks/a.png", *mask)
    assert main(["stats", str(tmp_path), "--class-weights"]) == 0
    assert capsys.readouterr().out.endswith("\nclass_weights: [0.5, 500000.0]\n")


def test_masks_that_cannot_be_read_are_counted(masked, capsys):
    folder = masked / "VOCdevkit/VOC2007"
    (folder / "SegmentationClass/b.png").write_bytes(b"PNG")
    Image.new("RGB", (5, 2)).save(folder / "SegmentationClass/c.png")
    (folder / "ImageSets/Segmentation/all.txt").write_text("a\nb\nc\nmissing\n")
    summary = stats(capsys, masked, "--classes", "cat,dog", "--split", "all", "--class-weights")["masks"]
    assert (summary["masks"], summary["unreadable"]) == (1, 3)
    assert summary["class_weights"] == [0.3333, 1.0, 2.0]
    assert main(["stats", str(masked), "--classes", "cat,dog", "--split", "all", "--class-weights"]) == 0
    assert "3 unreadable (see `data check`)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--classes", "cat"], "a.png holds the value 2, but names end at 1: say all with --classes"),
        (["--classes", "mouse,elk"], "objects have names of their own"),
        (["--split", "night"], "has no split 'night': there are both, train"),
        (["--split", "main"], "has no split 'main' of ImageSets/Segmentation: there are both, empty, train"),
        (["--split", "empty"], "no class masks (SegmentationClass/*.png)"),
    ],
)
def test_weights_that_cannot_be_had_are_one_line(masked, capsys, arguments, words):
    lists = masked / "VOCdevkit/VOC2007/ImageSets"
    if arguments[1] in ("main", "empty"):
        (lists / "Main/main.txt").write_text("a\n")
        (lists / "Segmentation/empty.txt").write_text("")
    assert main(["stats", str(masked), "--class-weights", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lightning-cv data stats: ")
    assert error.count("\n") == 1
    assert words in error


def test_weights_need_masks_with_classes(tmp_path, capsys):
    make_mnist(tmp_path / "mnist")
    assert main(["stats", str(tmp_path / "mnist"), "--class-weights"]) == 2
    assert "the layout mnist has no class masks; voc and masks have" in capsys.readouterr().err
    (tmp_path / "void/images").mkdir(parents=True)
    write_mask(tmp_path / "void/masks/a.png", [255, 255])
    assert main(["stats", str(tmp_path / "void"), "--class-weights"]) == 2
    assert "no class mask that can be read holds a pixel of a class" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--split", "night"], "has no split 'night': there are train"),
        (["--anchors", "9"], "9 anchors cannot be found in 3 shapes"),
        (["--size", "0"], "--size must be at least 1"),
        (["--layout", "coco"], "no folder of layout coco"),
    ],
)
def test_what_cannot_be_counted_is_one_line(voc, capsys, arguments, words):
    assert main(["stats", str(voc), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lightning-cv data stats: ")
    assert error.count("\n") == 1
    assert words in error


def test_anchors_need_boxes(tmp_path, capsys):
    make_mnist(tmp_path)
    assert main(["stats", str(tmp_path), "--anchors", "3"]) == 2
    assert "has no boxes" in capsys.readouterr().err


@pytest.mark.data
def test_the_real_samples_have_the_counts_that_are_known(shared_data, capsys):
    folder = shared_data / "VOCdevkit/VOC2007"
    summary = stats(capsys, folder, "--anchors", 5)
    assert (summary["images"], summary["objects"], summary["difficult"]) == (511, 1536, 323)
    assert sum(entry["objects"] > 0 for entry in summary["classes"]) == 20
    assert 0.55 < summary["anchors"]["mean_iou"] < 0.75


@pytest.mark.data
def test_the_real_masks_have_the_pixels_that_a_loop_counts(shared_data, capsys):
    folder = shared_data / "VOCdevkit/VOC2007"
    masks = stats(capsys, folder, "--split", "val", "--class-weights")["masks"]
    names = (folder / "ImageSets/Segmentation/val.txt").read_text().split()
    pictures = [np.asarray(Image.open(folder / f"SegmentationClass/{name}.png")) for name in names]
    assert masks["masks"] == len(names)
    frequencies = {}
    for value, entry in enumerate(masks["classes"]):
        holding = [picture for picture in pictures if (picture == value).any()]
        assert entry["pixels"] == sum((picture == value).sum() for picture in holding)
        if holding:
            frequencies[value] = entry["pixels"] / sum((picture != 255).sum() for picture in holding)
    median = np.median(list(frequencies.values()))
    for value, frequency in frequencies.items():
        assert masks["class_weights"][value] == pytest.approx(median / frequency, rel=1e-3)
