"""`lightning-cv data check` of VOC folders: every kind of damage is found, and nothing in a good folder."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_cv.datasets.writers import write_voc
from lightning_cv.tools.data import main
from lightning_cv.tools.data_check import check, class_names
from lightning_cv.tools.data_check_findings import EXAMPLES, Findings
from lightning_cv.tools.data_check_layout import find_layout
from lightning_cv.tools.data_check_look import look_at

SIDE = 48


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("check") / "drawn"
    write_voc(root, "2007", {"train": 3, "val": 2, "test": 1}, seed=1, size=SIDE)
    return root


@pytest.fixture
def root(drawn, tmp_path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "copy"))


def devkit(root: Path) -> Path:
    return root / "VOCdevkit/VOC2007"


def found(root: Path) -> dict[str, int]:
    """Kinds of problems and how many of each."""
    findings = check(root, "voc", class_names(root, "voc", None))
    return {kind: case.total for kind, case in findings.problems.items()}


def test_a_good_folder(root, capsys):
    assert main(["check", str(root)]) == 0
    printed = capsys.readouterr()
    assert "(voc): 6 pictures, 6 class masks, 6 object masks, 6 annotations, " in printed.out
    assert printed.out.endswith("nothing is wrong\n")
    assert printed.err == ""


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def resize(path: Path) -> None:
    with Image.open(path) as picture:
        picture.resize((SIDE * 2, SIDE)).save(path)


def first_box(devkit: Path, xmin: object, ymin: object, xmax: object, ymax: object) -> None:
    path = devkit / "Annotations/train_000000.xml"
    corners = zip(("xmin", "ymin", "xmax", "ymax"), (xmin, ymin, xmax, ymax), strict=True)
    box = "".join(f"<{key}>{value}</{key}>" for key, value in corners)
    path.write_text(re.sub(r"<bndbox>.*?</bndbox>", f"<bndbox>{box}</bndbox>", path.read_text(), count=1))


def replace_in_first(devkit: Path, pattern: str, text: str) -> None:
    path = devkit / "Annotations/train_000000.xml"
    path.write_text(re.sub(pattern, text, path.read_text(), count=1))


def paint(path: Path, value: int) -> None:
    with Image.open(path) as mask:
        mask.putpixel((0, 0), value)
        mask.save(path)


def add_line(path: Path, line: str) -> None:
    path.write_text(f"{path.read_text()}{line}\n")


PICTURE, XML, MASK = "JPEGImages/train_000000.jpg", "Annotations/train_000000.xml", "SegmentationClass/train_000000.png"
OBJECTS = "SegmentationObject/train_000000.png"
LISTS = "ImageSets/Main"

DAMAGE = {
    "cut picture": (lambda d: cut(d / PICTURE), {"picture that cannot be read": 1}),
    "empty picture": (lambda d: (d / PICTURE).write_bytes(b""), {"picture that cannot be read": 1}),
    "no picture": (lambda d: (d / PICTURE).unlink(), {"missing picture": 1, "mask without a picture": 2}),
    "other size": (lambda d: resize(d / PICTURE), {"size that differs from the picture's": 3}),
    "cut xml": (lambda d: cut(d / XML), {"annotation that cannot be read": 1}),
    "other xml": (lambda d: (d / XML).write_text("<html/>"), {"annotation that cannot be read": 1}),
    # of train and of trainval
    "no xml": (lambda d: (d / XML).unlink(), {"missing annotation": 2}),
    "class": (lambda d: replace_in_first(d, r"<name>\w+", "<name>unicorn"), {"unknown class": 1}),
    "no box": (lambda d: replace_in_first(d, r"<bndbox>.*?</bndbox>", ""), {"object without a box": 1}),
    "no number": (lambda d: first_box(d, "one", 2, 3, 4), {"object without a box": 1}),
    "nan": (lambda d: first_box(d, "nan", 2, 3, 4), {"box with coordinates that are no numbers": 1}),
    "infinite": (lambda d: first_box(d, 1, 2, "inf", 4), {"box with coordinates that are no numbers": 1}),
    "swapped": (lambda d: first_box(d, 20, 2, 10, 4), {"box with swapped corners": 1}),
    "empty": (lambda d: first_box(d, 20, 2, 19, 4), {"box without area": 1}),
    "outside": (lambda d: first_box(d, 100, 2, 110, 4), {"box outside its picture": 1}),
    "reaching out": (lambda d: first_box(d, 40, 2, SIDE + 1, 4), {"box reaching out of its picture": 1}),
    "from zero": (lambda d: first_box(d, 0, 2, 10, 4), {"box reaching out of its picture": 1}),
    "one pixel": (lambda d: first_box(d, 1, 2, 1, 2), {}),
    "cut mask": (lambda d: cut(d / MASK), {"mask that cannot be read": 1}),
    "no mask": (lambda d: (d / MASK).unlink(), {"missing mask": 2}),
    "small mask": (lambda d: resize(d / OBJECTS), {"size that differs from the picture's": 1}),
    "mask value": (lambda d: paint(d / MASK, 77), {"unknown class": 1}),
    "void": (lambda d: paint(d / MASK, 255), {}),
    "colour mask": (
        lambda d: Image.new("RGB", (SIDE, SIDE)).save(d / MASK),
        {"mask with neither a palette nor grey values": 1},
    ),
    "mask of nothing": (lambda d: paint(d / OBJECTS, 99), {"mask of no annotated object": 1}),
    "unknown id": (
        lambda d: add_line(d / LISTS / "val.txt", "train_999999"),
        {"missing picture": 1, "missing annotation": 1},
    ),
    "twice": (lambda d: add_line(d / LISTS / "train.txt", "train_000000"), {"id twice in a list": 1}),
    "in both": (lambda d: add_line(d / LISTS / "val.txt", "train_000000"), {"same id in two splits": 1}),
    "copied": (
        lambda d: shutil.copy(d / PICTURE, d / "JPEGImages/val_000000.jpg"),
        {"same picture in two splits": 2},  # in the lists of Main and of Segmentation
    ),
    "empty list": (lambda d: (d / LISTS / "test.txt").write_text(""), {"list without images": 1}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_nothing_else(root, name):
    damage, expected = DAMAGE[name]
    damage(devkit(root))
    assert found(root) == expected


def test_an_object_without_pixels_is_a_note(root):
    with Image.open(devkit(root) / OBJECTS) as mask:
        mask.point(lambda value: 0 if value == 1 else value).save(devkit(root) / OBJECTS)
    findings = check(root, "voc", class_names(root, "voc", None))
    assert findings.problems == {}
    [example] = findings.notes["object without pixels in its mask"].examples
    assert "SegmentationObject/train_000000.png: " in example
    assert example.endswith(", 1 too few")


def test_a_picture_without_any_mark_of_use_is_a_note(root, capsys):
    shutil.copy(devkit(root) / PICTURE, devkit(root) / "JPEGImages/other.jpg")
    (devkit(root) / OBJECTS).unlink()
    findings = check(root, "voc", class_names(root, "voc", None))
    assert findings.problems == {}
    assert {kind: case.total for kind, case in findings.notes.items()} == {
        "picture in no list": 1,
        "class mask without an object mask": 1,
    }
    assert main(["check", str(root)]) == 0
    assert "picture in no list" in capsys.readouterr().out


def test_the_table_names_kind_count_and_place(root, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    cut(devkit(root) / PICTURE)
    first_box(devkit(root), 20, 2, 10, 4)
    assert main(["check", str(root), "--jobs", "1"]) == 1
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if "swapped corners" in line)
    assert "1" in row
    assert "Annotations/train_000000.xml" in text
    assert "problems: 2, kinds: 2" in text


def test_a_narrow_terminal_shows_every_kind(root, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    cut(devkit(root) / PICTURE)
    assert main(["check", str(root)]) == 1
    text = capsys.readouterr().out
    assert all(len(line) <= 40 for line in text.splitlines()[1:])
    assert "picture that" in text


def test_json(root, capsys):
    for path in (devkit(root) / "Annotations").glob("*.xml"):
        path.write_text(path.read_text().replace("<name>", "<name>x"))
    assert main(["check", str(root), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["layout"] == "voc"
    assert report["ok"] is False
    assert report["checked"]["pictures"] == 6
    case = report["problems"]["unknown class"]
    assert case["count"] == report["checked"]["objects"]
    assert len(case["examples"]) == min(EXAMPLES, case["count"])
    assert case["examples"][0].startswith("VOCdevkit/VOC2007/Annotations/")


def test_class_names(root, tmp_path):
    assert "disc" in class_names(root, "voc", None)  # of the recipe
    assert class_names(tmp_path, "voc", None)[:2] == ("aeroplane", "bicycle")
    assert class_names(root, "voc", "a, b") == ("a", "b")
    assert class_names(root, "coco", None) == ()
    (root / "recipe.json").write_text("{}")
    assert main(["check", str(root)]) == 2


def test_names_given_count(root, capsys):
    assert main(["check", str(root), "--classes", "disc,square", "--json"]) == 1
    assert "unknown class" in json.loads(capsys.readouterr().out)["problems"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{tmp}/missing"], "no folder"),
        (["{tmp}"], "none of the known layouts"),
        (["{root}", "--layout", "coco"], "no folder of layout coco: annotations/instances_*.json"),
        (["{root}", "--jobs", "0"], "--jobs must be at least 1, got 0"),
        (["{root}", "--classes", "a,,b"], "--classes needs different names"),
    ],
)
def test_what_cannot_be_checked_is_one_line(root, tmp_path, capsys, arguments, words):
    (tmp_path / "empty").mkdir()
    filled = [argument.format(tmp=tmp_path / "empty", root=root) for argument in arguments]
    assert main(["check", *filled]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lightning-cv data check: ")
    assert error.count("\n") == 1
    assert words in error


def test_two_layouts_in_one_folder_have_to_be_told_apart(root, capsys):
    (root / "celeba/img_align_celeba").mkdir(parents=True)
    assert main(["check", str(root)]) == 2
    assert "holds voc and celeba: name one with --layout" in capsys.readouterr().err
    assert find_layout(root, "celeba") == "celeba"


@pytest.mark.parametrize("inside", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_a_devkit_is_found_from_any_of_its_folders(root, inside):
    assert find_layout(root / inside, "auto") == "voc"
    assert check(root / inside, "voc", class_names(root, "voc", None)).checked["pictures"] == 6


def test_several_processes_see_the_same(tmp_path):
    for number in range(70):
        Image.fromarray(np.full((4, 5, 3), number, np.uint8)).save(tmp_path / f"{number:02d}.png")
    (tmp_path / "33.png").write_bytes(b"broken")
    paths = sorted(tmp_path.iterdir())
    alone, together = (look_at(paths, "picture", jobs, "pictures") for jobs in (1, 2))
    assert together == alone
    assert [path.name for path, look in together.items() if look.error] == ["33.png"]
    assert together[paths[0]].size == "5 x 4"


def test_examples_end_and_counting_goes_on():
    findings = Findings(Path("data"))
    for number in range(EXAMPLES + 5):
        findings.problem("kind", Path(f"data/{number}.jpg"), "detail")
    case = findings.problems["kind"]
    assert case.total == EXAMPLES + 5
    assert len(case.examples) == EXAMPLES
    assert case.examples[0] == "0.jpg: detail"


@pytest.mark.data
def test_the_real_samples_are_good(shared_data):
    findings = check(shared_data, "voc", class_names(shared_data, "voc", None), jobs=2)
    assert findings.checked["pictures"] == 511 + 63
    assert findings.checked["annotations"] == 511 + 63
    assert findings.checked["objects"] == 1536 + 158
    assert findings.checked["class masks"] == 130 + 57
    assert findings.problems == {}
