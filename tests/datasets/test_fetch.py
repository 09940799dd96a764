"""Fetching, against a server on this machine: broken connections, wrong and hostile archives, no network, no space."""

import gzip
import hashlib
import io
import shutil
import socket
import tarfile
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from loopback_site import SCENE, TOY, Site, md5, tar_of, zip_of

from lightning_cv.datasets import download as download_module
from lightning_cv.datasets import meter, sources
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.fetch import fetch
from lightning_cv.datasets.sources import FETCHABLE, Archive, DataSet, Part, data_set


@pytest.fixture
def site():
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def only_this_process(monkeypatch):
    for rank in ("LOCAL_RANK", "RANK", "SLURM_PROCID"):
        monkeypatch.delenv(rank, raising=False)


@pytest.fixture
def offer(site, monkeypatch):
    """Makes `data_set` answer with a data set of the given archive, at `site`."""

    def with_archive(content: bytes = TOY, name: str = "toy.tar", checksum: str = "", **changes) -> DataSet:
        site.files[name] = content
        archive = Archive(name, (site.address(name),), checksum or md5(content), len(content))
        part = Part("all", (archive,), {"sets/toy": "toy"}, len(content))
        source = DataSet("toy", "Toy", "sets/toy", "free", (part,))._replace(**changes)
        monkeypatch.setattr(sources, "data_set", lambda name: source)
        return source

    return with_archive


def files_in(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


WHOLE = {"sets/toy/images/a.bin": SCENE, "sets/toy/list.txt": b"a\n"}


def test_a_data_set_is_put_in_its_place(offer, tmp_path):
    offer()
    assert fetch("toy", tmp_path) == tmp_path / "sets/toy"
    assert files_in(tmp_path) == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["sets"]


def test_a_cut_connection_is_taken_up_where_it_broke_off(offer, site, tmp_path):
    offer()
    site.cuts = [1000, 2500]
    fetch("toy", tmp_path)
    assert files_in(tmp_path) == WHOLE
    assert [asked for _, asked in site.asked] == [None, "bytes=1000-", "bytes=3500-"]


def test_a_later_call_goes_on_where_the_first_gave_up(offer, site, tmp_path):
    offer()
    site.cuts = [3000, 0]
    with pytest.raises(ConnectionError, match=r"toy.tar cannot be fetched.*0.003 MB that arrived are kept.*go on"):
        fetch("toy", tmp_path)
    assert files_in(tmp_path) == {".fetch-toy/toy.tar.part": TOY[:3000]}
    site.asked.clear()
    fetch("toy", tmp_path)
    assert site.asked == [("toy.tar", "bytes=3000-")]
    assert files_in(tmp_path) == WHOLE


def test_a_server_without_ranges_starts_over(offer, site, tmp_path):
    offer()
    site.cuts, site.ranges = [1000], False
    fetch("toy", tmp_path)
    assert files_in(tmp_path) == WHOLE
    assert len(site.asked) == 2


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(offer, site, tmp_path):
    offer()
    site.cuts, site.ranges = [1000] * 50, False
    with pytest.raises(ConnectionError, match=r"broke off after 1,000 of [\d,]+ bytes"):
        fetch("toy", tmp_path)
    assert len(site.asked) == 2


def test_a_part_that_was_whole_is_only_verified(offer, site, tmp_path):
    offer()
    workshop = tmp_path / ".fetch-toy"
    workshop.mkdir()
    (workshop / "toy.tar.part").write_bytes(TOY)
    fetch("toy", tmp_path)
    assert site.asked == [("toy.tar", f"bytes={len(TOY)}-")]
    assert files_in(tmp_path) == WHOLE


def test_a_part_longer_than_the_file_is_fetched_anew(offer, site, tmp_path):
    offer()
    workshop = tmp_path / ".fetch-toy"
    workshop.mkdir()
    (workshop / "toy.tar.part").write_bytes(TOY + b"of another version")
    fetch("toy", tmp_path)
    assert files_in(tmp_path) == WHOLE


def test_a_wrong_checksum_is_named_and_the_file_removed(offer, tmp_path):
    expected = md5(b"something else")
    offer(checksum=expected)
    with pytest.raises(DataError) as caught:
        fetch("toy", tmp_path)
    got = md5(TOY).removeprefix("md5:")
    assert str(caught.value).startswith(f"toy.tar: wrong checksum, expected md5 {expected[4:]}, got {got}")
    assert list(tmp_path.iterdir()) == []


def test_sha256_is_known_too(offer, tmp_path):
    offer(checksum=f"sha256:{hashlib.sha256(TOY).hexdigest()}")
    fetch("toy", tmp_path)
    assert files_in(tmp_path) == WHOLE


def test_a_truncated_transfer_whose_length_is_not_told_fails_the_checksum(offer, site, tmp_path):
    offer(checksum=md5(TOY))
    site.files["toy.tar"], site.lengths = TOY[:4000], False
    with pytest.raises(DataError, match="wrong checksum"):
        fetch("toy", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("toy.tar", TOY[:3000]),
        ("toy.tgz", tar_of({"toy/a": SCENE}, "w:gz")[:2000]),
        ("toy.zip", zip_of({"toy/a": SCENE})[:3000]),
        ("toy.gz", gzip.compress(SCENE)[:2000]),
        ("toy.zip", b"no archive at all"),
    ],
)
def test_a_truncated_archive_is_removed(offer, tmp_path, name, content):
    offer(content, name)
    with pytest.raises(DataError, match=rf"{name}: damaged archive \(.+\); it was removed"):
        fetch("toy", tmp_path)
    assert list(tmp_path.iterdir()) == []


def linking_tar(kind: bytes, target: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("toy/link")
        member.type, member.linkname = kind, target
        archive.addfile(member)
    return packed.getvalue()


def linking_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        member = zipfile.ZipInfo("toy/link")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("toy.tar", tar_of({"toy/good": b"", "toy/../../../evil": b"x"}), "points outside"),
        ("toy.tar", tar_of({"/evil": b"x"}), "points outside"),
        ("toy.tar", linking_tar(tarfile.SYMTYPE, "/etc"), "link or a device"),
        ("toy.tar", linking_tar(tarfile.LNKTYPE, "../../evil"), "link or a device"),
        ("toy.tar", linking_tar(tarfile.CHRTYPE, ""), "link or a device"),
        ("toy.tar", linking_tar(tarfile.FIFOTYPE, ""), "link or a device"),
        ("toy.zip", zip_of({"toy/../../../evil": b"x"}), "points outside"),
        ("toy.zip", zip_of({"/evil": b"x"}), "points outside"),
        ("toy.zip", zip_of({"..\\evil": b"x"}), "points outside"),
        ("toy.zip", linking_zip(), "link or a device"),
    ],
)
def test_members_that_leave_the_folder_are_refused(offer, tmp_path, name, content, words):
    root = tmp_path / "a" / "b" / "root"
    offer(content, name)
    with pytest.raises(DataError, match=rf"{name}: its member .* {words}.*not unpacked, removed"):
        fetch("toy", root)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
    assert not root.exists()


def test_no_space_is_noticed_before_anything_is_fetched(offer, site, tmp_path, monkeypatch):
    offer()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match=r"Toy needs 0.01 MB for an archive and 0.01 MB unpacked, 0.001 MB are free"):
        fetch("toy", tmp_path)
    assert site.asked == []
    assert list(tmp_path.iterdir()) == []


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_no_network_is_told_at_once(offer, tmp_path):
    source = offer()
    archive = source.parts[0].archives[0]._replace(urls=(f"http://127.0.0.1:{closed_port()}/toy.tar",) * 2)
    offer(parts=(source.parts[0]._replace(archives=(archive,)),))
    root, began = tmp_path / "data", time.monotonic()
    with pytest.raises(ConnectionError, match=r"toy.tar cannot be fetched \(127.0.0.1: .*refused.*connected"):
        fetch("toy", root)
    assert time.monotonic() - began < 5
    assert not root.exists()


def test_a_silent_server_is_not_waited_for(offer, tmp_path, monkeypatch):
    assert download_module.ANSWER_SECONDS + 1 < 10
    monkeypatch.setattr(download_module, "ANSWER_SECONDS", 0.3)
    source = offer()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/toy.tar"
        archive = source.parts[0].archives[0]._replace(urls=(url,))
        offer(parts=(source.parts[0]._replace(archives=(archive,)),))
        began = time.monotonic()
        with pytest.raises(ConnectionError, match="no answer"):
            fetch("toy", tmp_path)
    assert time.monotonic() - began < 3
    assert list(tmp_path.iterdir()) == []


def test_the_next_mirror_is_asked(offer, site, tmp_path):
    source = offer()
    archive = source.parts[0].archives[0]
    mirrors = (site.address("broken/toy.tar"), *archive.urls)
    site.failing.add("broken/toy.tar")
    offer(parts=(source.parts[0]._replace(archives=(archive._replace(urls=mirrors),)),))
    fetch("toy", tmp_path)
    assert files_in(tmp_path) == WHOLE


def test_a_server_that_refuses_is_named(offer, site, tmp_path):
    offer()
    site.failing.add("toy.tar")
    with pytest.raises(ConnectionError, match=r"127.0.0.1: status 503"):
        fetch("toy", tmp_path)


def test_a_web_page_is_not_taken_for_the_file(offer, site, tmp_path):
    offer()
    site.content_type = "text/html; charset=utf-8"
    with pytest.raises(ConnectionError, match="a web page came instead"):
        fetch("toy", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_as_it_is(offer, site, tmp_path):
    offer()
    (tmp_path / "sets/toy").mkdir(parents=True)
    (tmp_path / "sets/toy/mine.txt").write_text("mine")
    assert fetch("toy", tmp_path) == tmp_path / "sets/toy"
    assert files_in(tmp_path) == {"sets/toy/mine.txt": b"mine"}
    assert site.asked == []


@pytest.mark.parametrize("rank", ["LOCAL_RANK", "RANK", "SLURM_PROCID"])
def test_other_processes_do_nothing(offer, site, tmp_path, monkeypatch, rank):
    offer()
    monkeypatch.setenv(rank, "1")
    assert fetch("toy", tmp_path) == tmp_path / "sets/toy"
    assert site.asked == []
    monkeypatch.setenv(rank, "0")
    fetch("toy", tmp_path)
    assert files_in(tmp_path) == WHOLE


def test_two_at_once_fetch_once(offer, site, tmp_path):
    offer()
    threads = [threading.Thread(target=fetch, args=("toy", tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.asked) == 1
    assert files_in(tmp_path) == WHOLE


def test_a_licence_that_must_be_agreed_to(offer, site, tmp_path):
    offer(asks=True)
    with pytest.raises(DataError, match=rf"agreed to.*`lightning-cv data get toy --root {tmp_path}`"):
        fetch("toy", tmp_path)
    assert site.asked == []
    fetch("toy", tmp_path, agreed=True)
    assert files_in(tmp_path) == WHOLE
    fetch("toy", tmp_path)  # it is there now


def in_parts(site: Site, offer) -> DataSet:
    contents = {
        "one.zip": zip_of({"one/a": b"1"}),
        "two.txt": b"2",
        "three.zip": zip_of({"notes/in.zip": zip_of({"in/b": b"3"}), "notes/in.json": b"{}", "notes/unused": b""}),
    }
    site.files |= contents
    places = {"one.zip": {"set/one": "one"}, "two.txt": {"set/two.txt": "two.txt"}}
    places["three.zip"] = {"set/notes/in": "notes/in", "set/notes/in.json": "notes/in.json"}
    parts = tuple(
        Part(
            name.partition(".")[0],
            (Archive(name, (site.address(name),), md5(content), len(content)),),
            places[name],
            len(content),
            inner=("notes/in.zip",) if name == "three.zip" else (),
            optional=name == "two.txt",
        )
        for name, content in contents.items()
    )
    return offer(folder="set", parts=parts)


def test_parts_are_fetched_one_by_one_and_only_if_missing(site, offer, tmp_path):
    in_parts(site, offer)
    fetch("toy", tmp_path, parts=["three"])
    assert files_in(tmp_path) == {"set/notes/in/b": b"3", "set/notes/in.json": b"{}"}
    fetch("toy", tmp_path)
    assert [name for name, _ in site.asked] == ["three.zip", "one.zip", "two.txt"]
    assert files_in(tmp_path).keys() == {"set/notes/in/b", "set/notes/in.json", "set/one/a", "set/two.txt"}
    (tmp_path / "set/two.txt").unlink()
    fetch("toy", tmp_path)  # an optional part alone is not fetched ...
    assert not (tmp_path / "set/two.txt").exists()
    fetch("toy", tmp_path, parts=["two"])  # ... unless asked for
    assert (tmp_path / "set/two.txt").read_bytes() == b"2"
    with pytest.raises(ValueError, match=r"toy has no part 'four'; its parts are one, two, three"):
        fetch("toy", tmp_path, parts=["four"])


def test_idx_files_are_unpacked(site, offer, tmp_path):
    packed = gzip.compress(SCENE)
    archive = Archive("train-ubyte.gz", (site.address("train-ubyte.gz"),), md5(packed), len(packed))
    offer(
        packed, "train-ubyte.gz", parts=(Part("all", (archive,), {"MNIST/raw/train-ubyte": "train-ubyte"}, len(SCENE)),)
    )
    fetch("toy", tmp_path)
    assert files_in(tmp_path) == {"MNIST/raw/train-ubyte": SCENE}


def test_an_archive_without_what_it_should_hold(offer, tmp_path):
    offer(tar_of({"other/a": b""}))
    with pytest.raises(DataError, match=r"toy.tar did not hold toy"):
        fetch("toy", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FETCHABLE)
def test_every_source_is_stated_in_full(name):
    source = data_set(name)
    assert source.name == name
    assert source.licence
    for part in source.parts:
        assert part.unpacked > 0
        assert all(place == source.folder or place.startswith(f"{source.folder}/") for place in part.places)
        for archive in part.archives:
            kind, _, digits = archive.checksum.partition(":")
            assert len(bytes.fromhex(digits)) == {"md5": 16, "sha256": 32}[kind]
            assert all(url.startswith(("https://", "http://")) for url in archive.urls)
            assert archive.size > 0


def test_only_celeba_asks():
    assert [name for name in FETCHABLE if data_set(name).asks] == ["celeba"]
    with pytest.raises(ValueError, match=r"no data set 'voc1999'.*voc2007, "):
        data_set("voc1999")


def test_progress_is_a_line_now_and_then_without_a_terminal(offer, tmp_path, capsys, monkeypatch):
    offer()
    fetch("toy", tmp_path / "quick")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(meter, "SECONDS_A_LINE", 0.0)
    fetch("toy", tmp_path / "slow")
    assert "toy.tar: 0.01 MB of 0.01 MB (100%)" in capsys.readouterr().err.splitlines()
