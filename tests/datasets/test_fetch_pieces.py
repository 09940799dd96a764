"""Folders that hold a part of a data set: what is missing is fetched or named, what is there stays as it is."""

import gzip
import shutil
import threading
from pathlib import Path

import pytest
from loopback_site import SCENE, Site, md5, tar_of

from lightning_cv.datasets import sources
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.fetch import fetch, missing_parts
from lightning_cv.datasets.sources import Archive, DataSet, Part, data_set
from lightning_cv.tools.data import main

MINE = b"kept as it is"


@pytest.fixture
def site(monkeypatch):
    for rank in ("LOCAL_RANK", "RANK", "SLURM_PROCID"):
        monkeypatch.delenv(rank, raising=False)
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def served(site: Site, monkeypatch, name: str, contents: dict[str, bytes]) -> DataSet:
    """The data set of this name with its own parts, places and proofs, but these archives, at `site`."""
    site.files |= contents
    source = data_set(name)

    def here(archive: Archive) -> Archive:
        content = contents[archive.name]
        return Archive(archive.name, (site.address(archive.name),), md5(content), len(content))

    parts = tuple(part._replace(archives=tuple(map(here, part.archives)), unpacked=9) for part in source.parts)
    source = source._replace(parts=parts)
    monkeypatch.setattr(sources, "data_set", lambda name: source)
    return source


IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture
def mnist(site, monkeypatch) -> DataSet:
    return served(site, monkeypatch, "mnist", {f"{name}.gz": gzip.compress(name.encode()) for name in IDX})


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_missing_files_of_mnist_are_fetched_alone(mnist, site, tmp_path, capsys, ending):
    folder = tmp_path / "MNIST/raw"
    folder.mkdir(parents=True)
    for name in IDX[:2]:
        (folder / f"{name}{ending}").write_bytes(MINE)
    assert main(["get", "mnist", "--root", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(folder)
    assert printed.err.startswith("MNIST, parts test-images, test-labels: about ")
    assert [name for name, _ in site.asked] == [f"{name}.gz" for name in IDX[2:]]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        **{f"{name}{ending}": MINE for name in IDX[:2]},
        **{name: name.encode() for name in IDX[2:]},
    }
    assert main(["get", "mnist", "--root", str(tmp_path)]) == 0
    assert len(site.asked) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["MNIST"]


def test_all_of_mnist_and_one_file(mnist, site, tmp_path):
    fetch("mnist", tmp_path, ["test-labels"])
    assert [path.name for path in (tmp_path / "MNIST/raw").iterdir()] == [IDX[3]]
    fetch("mnist", tmp_path)
    assert {path.name for path in (tmp_path / "MNIST/raw").iterdir()} == set(IDX)
    assert sorted(name for name, _ in site.asked) == sorted(f"{name}.gz" for name in IDX)


def test_fashion_mnist_has_the_same_four_files():
    assert [part.places for part in data_set("fashion-mnist").parts] == [
        {f"FashionMNIST/raw/{name}": name} for name in IDX
    ]


LISTS = [f"ImageSets/{kind}/{name}.txt" for kind in ("Main", "Segmentation") for name in ("trainval", "test")]
FOLDERS = ["Annotations/1.xml", "JPEGImages/1.jpg", "SegmentationClass/1.png", "SegmentationObject/1.png"]


@pytest.fixture
def voc(site, monkeypatch) -> DataSet:
    """Two archives: all files but the lists of test, and those."""
    first = {f"VOCdevkit/VOC2007/{name}": SCENE for name in [*FOLDERS, *LISTS] if "test" not in name}
    second = {f"VOCdevkit/VOC2007/{name}": SCENE for name in LISTS if "test" in name}
    names = [archive.name for archive in data_set("voc2007").parts[0].archives]
    return served(site, monkeypatch, "voc2007", dict(zip(names, [tar_of(first), tar_of(second)], strict=True)))


def test_a_whole_voc_is_there(voc, site, tmp_path):
    fetch("voc2007", tmp_path)
    assert len(site.asked) == 2
    fetch("voc2007", tmp_path)
    assert len(site.asked) == 2
    assert missing_parts(voc, tmp_path) == []


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("ImageSets/Main/test.txt", "lacks ImageSets/Main/test.txt: move it away"),
        ("JPEGImages", "lacks JPEGImages: move it away"),
        ("SegmentationObject/1.png", "lacks SegmentationObject: move it away"),  # an empty folder is none
        ("ImageSets", "lacks ImageSets/Main/trainval.txt, ImageSets/Main/test.txt, ImageSets/Segmentation/"),
    ],
)
def test_a_piece_of_voc_is_told_and_left_alone(voc, site, tmp_path, capsys, gone, words):
    fetch("voc2007", tmp_path)
    place = tmp_path / "VOCdevkit/VOC2007" / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    mine = tmp_path / "VOCdevkit/VOC2007/mine.txt"
    mine.write_bytes(MINE)
    before = sorted(tmp_path.rglob("*"))
    site.asked.clear()
    with pytest.raises(DataError, match=r"VOC2007 is there but lacks .*VOCtest_06-Nov-2007\.tar.*nothing was fetched"):
        fetch("voc2007", tmp_path)
    assert main(["get", "voc2007", "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"lightning-cv data get: {tmp_path / 'VOCdevkit/VOC2007'} is there but {words}")
    assert error.count("\n") == 1
    assert site.asked == []
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_of_voc_is_filled(voc, tmp_path):
    (tmp_path / "VOCdevkit/VOC2007").mkdir(parents=True)
    fetch("voc2007", tmp_path)
    assert (tmp_path / "VOCdevkit/VOC2007/JPEGImages/1.jpg").read_bytes() == SCENE


def test_a_part_of_several_places_is_unpacked_again_for_those_that_are_missing(site, monkeypatch, tmp_path):
    packed = tar_of({"a/1": b"1", "b/2": b"2"})
    site.files["both.tar"] = packed
    archive = Archive("both.tar", (site.address("both.tar"),), md5(packed), len(packed))
    source = DataSet("toy", "Toy", "toy", "free", (Part("all", (archive,), {"toy/a": "a", "toy/b": "b"}, 9),))
    monkeypatch.setattr(sources, "data_set", lambda name: source)
    (tmp_path / "toy/a").mkdir(parents=True)
    (tmp_path / "toy/a/1").write_bytes(MINE)
    fetch("toy", tmp_path)
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"toy/a/1": MINE, "toy/b/2": b"2"}


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "voc2007", "voc2012"])
def test_the_real_samples_count_as_there(shared_data: Path, name):
    assert missing_parts(data_set(name), shared_data) == []
