"""`lightning-cv data`: draws and fetches, whole or not at all; one line and status 2 when it cannot."""

import hashlib
import io
import subprocess
import sys

import pytest

from lightning_cv.datasets import fetch as fetch_module
from lightning_cv.datasets import sources
from lightning_cv.datasets.drawn import DRAWN_CLASSES
from lightning_cv.datasets.fetch import FETCHABLE, fetch
from lightning_cv.datasets.sources import Archive, DataSet, Part
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


LIST = b"000001\n"
TOY = Archive("toy.txt", ("http://127.0.0.1:9/toy.txt",), f"md5:{hashlib.md5(LIST).hexdigest()}", 2_500_000)
PARTS = (
    Part("lists", (TOY,), {"toy/toy.txt": "toy.txt"}, 4),
    Part("more", (TOY._replace(name="more.txt"),), {"toy/more.txt": "more.txt"}, 4),
)


@pytest.fixture
def offer(monkeypatch):
    """Makes every name stand for a small data set whose files come without a network; what was downloaded."""
    downloaded: list[str] = []

    def with_changes(**changes) -> list[str]:
        source = DataSet("toy", "Toy pictures", "toy", "free for all", PARTS)._replace(**changes)
        monkeypatch.setattr(sources, "data_set", lambda name: source)
        return downloaded

    def download(urls, path, checksum, about):
        downloaded.append(path.name)
        path.write_bytes(LIST)

    monkeypatch.setattr(fetch_module, "download", download)
    return with_changes


def test_get_says_size_and_licence_first_and_prints_the_folder(offer, tmp_path, capsys):
    downloaded = offer()
    assert main(["get", "mnist", "--root", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(tmp_path / "toy")
    assert printed.err == "Toy pictures, parts lists, more: about 5 MB to fetch.\nLicence: free for all.\n"
    assert downloaded == ["toy.txt", "more.txt"]
    assert main(["get", "mnist", "--root", str(tmp_path)]) == 0  # again: there, so nothing is said or done
    assert capsys.readouterr().err == ""
    assert len(downloaded) == 2


def test_get_a_part(offer, tmp_path, capsys):
    downloaded = offer()
    assert main(["get", "coco2017", "--root", str(tmp_path), "--part", "more"]) == 0
    assert downloaded == ["more.txt"]
    assert main(["get", "coco2017", "--root", str(tmp_path), "--part", "test"]) == 2
    assert capsys.readouterr().err.endswith("data get: toy has no part 'test'; its parts are lists, more\n")


def test_celeba_without_a_terminal_needs_yes(offer, tmp_path, capsys):
    downloaded = offer(asks=True)
    assert main(["get", "celeba", "--root", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "Licence: free for all."
    assert lines[2:] == [
        "lightning-cv data get: toy needs your agreement to its licence: run with --yes to agree, nothing was fetched"
    ]
    assert downloaded == []
    assert list(tmp_path.iterdir()) == []
    assert main(["get", "celeba", "--root", str(tmp_path), "--yes"]) == 0
    assert len(downloaded) == 2


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("Yes\n", 0), ("n\n", 2), ("\n", 2), ("", 2)])
def test_celeba_asks_at_a_terminal(offer, tmp_path, capsys, monkeypatch, answer, status):
    offer(asks=True)
    terminal = io.StringIO(answer)
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    assert main(["get", "celeba", "--root", str(tmp_path)]) == status
    error = capsys.readouterr().err
    assert "Do you agree? [y/N]" in error
    assert ("not agreed to, nothing was fetched" in error) == (status == 2)


def test_no_network_is_one_line_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    source = DataSet("toy", "Toy pictures", "toy", "free for all", PARTS[:1])
    monkeypatch.setattr(sources, "data_set", lambda name: source)
    assert main(["get", "voc2007", "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[2:]
    assert len(error) == 1
    assert error[0].startswith("lightning-cv data get: toy.txt cannot be fetched (127.0.0.1: ")
    assert list(tmp_path.iterdir()) == []


def test_unknown_names(tmp_path, capsys):
    assert DATA_SETS == FETCHABLE  # said twice, so that `--help` need not import what fetches
    with pytest.raises(ValueError, match=r"no data set 'voc1999'.*voc2007, voc2011"):
        fetch("voc1999", tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["get", "voc1999"])
    assert caught.value.code == 2
    assert "voc2007" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["draw", "get", "check", "stats", "show"]),
        (["draw", "--help"], ["--root", "--layout", "--train", "--val", "--test", "--size", "--seed", "default: 2000"]),
        (["get", "--help"], ["--root", "--part", "--yes", *DATA_SETS]),
        (["check", "--help"], ["ROOT", "--layout", "--classes", "--jobs", "--json"]),
        (["stats", "--help"], ["ROOT", "--layout", "--split", "--anchors", "--size", "--seed", "--out", "--json"]),
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
        "print([name for name in ('torch', 'cv2', 'numpy', 'PIL', 'rich', 'lightning') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
