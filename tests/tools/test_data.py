"""`lightning-cv data`: draws and fetches, whole or not at all; one line and status 2 when it cannot."""

import subprocess
import sys
from urllib.error import URLError

import pytest
import torchvision.datasets

from lightning_cv.datasets.drawn import DRAWN_CLASSES
from lightning_cv.datasets.fetch import FETCHABLE, fetch
from lightning_cv.datasets.voc import VOCDetection
from lightning_cv.tools.data import DATA_SETS, main

SMALL = ["--train", "3", "--val", "2", "--test", "1", "--size", "32", "--seed", "4"]


def test_draw_voc(tmp_path, capsys):
    assert main(["draw", "--root", str(tmp_path), *SMALL]) == 0
    folder = capsys.readouterr().out.strip()
    assert folder == str(tmp_path / "drawn/voc-32px-seed4-3-2-1")
    assert len(VOCDetection(folder, "2007", "train+val+test", DRAWN_CLASSES)) == 6
    assert main(["draw", "--root", str(tmp_path), *SMALL]) == 0  # again: used as it is


def test_draw_coco(tmp_path):
    assert main(["draw", "--root", str(tmp_path), "--layout", "coco", *SMALL]) == 0
    folder = tmp_path / "drawn/coco-32px-seed4-3-2-1"
    assert sorted(path.name for path in folder.iterdir()) == [
        "annotations", "recipe.json", "test2017", "train2017", "val2017",
    ]  # fmt: skip


@pytest.mark.parametrize("arguments", [["--size", "5"], ["--train", "0"]])
def test_draw_what_cannot_be_drawn(tmp_path, capsys, arguments):
    assert main(["draw", "--root", str(tmp_path), *SMALL, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lightning-cv data draw: ")
    assert error.count("\n") == 1
    assert list(tmp_path.rglob("*.jpg")) == []


def test_an_unwritable_place(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["draw", "--root", str(tmp_path / "file"), *SMALL]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "in the way"


class FakeVOC:
    """Stands in for torchvision's downloader: writes what it is asked for, or breaks half-way."""

    asked: list[tuple[str, str]] = []  # noqa: RUF012
    broken = False

    def __init__(self, root, year, image_set, download):
        assert download
        FakeVOC.asked.append((year, image_set))
        folder = root / "VOCdevkit" / f"VOC{year}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{image_set}.txt").write_text("here")
        if FakeVOC.broken:
            raise URLError("no route to host")


class FakeMNIST:
    def __init__(self, root, download):
        assert download
        (root / "MNIST/raw").mkdir(parents=True)
        (root / "MNIST/raw/train-images-idx3-ubyte").write_text("here")


@pytest.fixture(autouse=True)
def downloaders(monkeypatch):
    FakeVOC.asked, FakeVOC.broken = [], False
    monkeypatch.setattr(torchvision.datasets, "VOCDetection", FakeVOC)
    monkeypatch.setattr(torchvision.datasets, "MNIST", FakeMNIST)


@pytest.mark.parametrize(
    ("name", "asked"),
    [("voc2007", [("2007", "trainval"), ("2007", "test")]), ("voc2012", [("2012", "trainval")])],
)
def test_get_voc(tmp_path, capsys, name, asked):
    root = tmp_path / "data"
    assert main(["get", name, "--root", str(root)]) == 0
    folder = root / "VOCdevkit" / name.replace("voc", "VOC")
    assert capsys.readouterr().out.strip() == str(folder)
    assert FakeVOC.asked == asked
    assert sorted(path.stem for path in folder.iterdir()) == sorted(part for _, part in asked)
    assert [path.name for path in root.iterdir()] == ["VOCdevkit"]


def test_get_mnist(tmp_path):
    assert main(["get", "mnist", "--root", str(tmp_path)]) == 0
    assert (tmp_path / "MNIST/raw/train-images-idx3-ubyte").read_text() == "here"
    assert [path.name for path in tmp_path.iterdir()] == ["MNIST"]


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path):
    folder = tmp_path / "VOCdevkit/VOC2007"
    folder.mkdir(parents=True)
    (folder / "trainval.txt").write_text("mine")
    assert fetch("voc2007", tmp_path) == folder
    assert FakeVOC.asked == []
    assert (folder / "trainval.txt").read_text() == "mine"


def test_no_network_is_one_line_and_leaves_nothing(tmp_path, capsys):
    FakeVOC.broken = True
    assert main(["get", "voc2007", "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error == "lightning-cv data get: <urlopen error no route to host>\n"
    assert list(tmp_path.iterdir()) == []


def test_unknown_names(tmp_path, capsys):
    assert DATA_SETS == FETCHABLE  # said twice, so that `--help` need not import what fetches
    with pytest.raises(ValueError, match=r"no data set 'voc1999'.*voc2007, voc2012, mnist"):
        fetch("voc1999", tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["get", "voc1999"])
    assert caught.value.code == 2
    assert "voc2007" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["draw", "get"]),
        (["draw", "--help"], ["--root", "--layout", "--train", "--val", "--test", "--size", "--seed", "default: 2000"]),
        (["get", "--help"], ["--root", "voc2007", "voc2012", "mnist"]),
    ],
)
def test_help_is_complete(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for word in words:
        assert word in text


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from lightning_cv.tools.data import parser; parser().format_help();"
        "print([name for name in ('torch', 'cv2', 'numpy', 'sklearn', 'lightning') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
