"""The packed arrays of a large json: made once, mapped afterwards, never wrong about the state of the json."""

import json
import os
import pickle
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from coco_folder import an_object, write_folder

from lightning_cv.datasets import coco_cache
from lightning_cv.datasets.coco import CocoDetection
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.repairs import DataWarning

SQUARE = [[1, 1, 4, 1, 4, 4, 1, 4]]
RUNS = {"size": [12, 16], "counts": [12, 24, 156]}


@pytest.fixture(autouse=True)
def every_json_is_large(monkeypatch, tmp_path):
    monkeypatch.setattr(coco_cache, "LARGE", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


@pytest.fixture
def root(tmp_path):
    objects = [
        an_object(1, 3, [1, 0, 2, 12], category=18, iscrowd=1, segmentation=RUNS),
        an_object(2, 7, [0.5, 1, 2.25, 3], segmentation=SQUARE),
        an_object(3, 7, [3, 3, 5, 5], segmentation=SQUARE),
    ]
    write_folder(tmp_path / "coco", objects)
    return tmp_path / "coco"


@pytest.fixture
def parsed(monkeypatch):
    """The json files that were parsed."""
    paths = []
    parse = coco_cache.parse_coco
    monkeypatch.setattr(coco_cache, "parse_coco", lambda text, path: paths.append(path) or parse(text, path))
    return paths


def json_of(root):
    return root / "annotations/instances_train2017.json"


def cache_of(root):
    return root / "annotations/.lightning_cv/instances_train2017.json.instances"


def contents(root):
    """Every sample as plain lists."""
    dataset = CocoDetection(root, "train", with_masks=True)
    return [
        {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in dataset[index].items()}
        for index in range(len(dataset))
    ]


def test_a_small_json_gets_no_cache(root, monkeypatch):
    monkeypatch.setattr(coco_cache, "LARGE", 8 << 20)
    contents(root)
    assert sorted(path.name for path in (root / "annotations").iterdir()) == ["instances_train2017.json"]


def test_the_second_opening_parses_nothing_and_gives_the_same(root, parsed, monkeypatch):
    monkeypatch.setattr(coco_cache, "LARGE", 8 << 20)
    plain = contents(root)
    monkeypatch.setattr(coco_cache, "LARGE", 0)
    assert contents(root) == plain
    assert len(parsed) == 2
    assert contents(root) == plain
    assert len(parsed) == 2
    assert [path.name for path in (root / "annotations/.lightning_cv").iterdir()] == [cache_of(root).name]


def test_a_later_time_of_change_alone_is_put_right(root, parsed, monkeypatch):
    before = contents(root)
    os.utime(json_of(root), ns=(1, 1))
    assert contents(root) == before
    assert len(parsed) == 1
    monkeypatch.setattr(coco_cache, "_digest", lambda path: pytest.fail("the stamp was not put right"))
    assert contents(root) == before
    assert list(cache_of(root).glob(".*")) == []


@pytest.mark.parametrize("box", [[3, 3, 5, 6], [3, 3, 5, 6.125]])
def test_a_changed_json_is_parsed_anew(root, parsed, box):
    """Of the same length or another."""
    contents(root)
    path = json_of(root)
    path.write_text(path.read_text().replace("[3, 3, 5, 5]", json.dumps(box)))
    os.utime(path, ns=(2, 2))
    for _ in range(2):
        assert contents(root)[0]["boxes"][1] == [3, 3, 8, 3 + box[3]]
    assert len(parsed) == 2
    assert len(list((root / "annotations/.lightning_cv").iterdir())) == 1


def truncate(folder):
    file = folder / "points.npy"
    file.write_bytes(file.read_bytes()[:-8])


def flip(folder):
    file = folder / "boxes.npy"
    content = bytearray(file.read_bytes())
    content[-3] ^= 0xFF
    file.write_bytes(content)


def another_format(folder):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"format": -1}))


DAMAGE = {
    "array cut short": truncate,
    "array overwritten": lambda folder: (folder / "points.npy").write_bytes(b"x" * 10),
    "array changed": flip,
    "array missing": lambda folder: (folder / "offsets.npy").unlink(),
    "record missing": lambda folder: (folder / "meta.json").unlink(),
    "record empty": lambda folder: (folder / "meta.json").write_text(""),
    "record of something else": lambda folder: (folder / "meta.json").write_text("[1, 2]"),
    "record without files": lambda folder: (folder / "meta.json").write_text('{"format": 1}'),
    "another format": another_format,
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_cache_is_made_anew(root, parsed, case):
    before = contents(root)
    DAMAGE[case](cache_of(root))
    assert contents(root) == before
    assert len(parsed) == 2
    assert contents(root) == before
    assert len(parsed) == 2
    assert len(list((root / "annotations/.lightning_cv").iterdir())) == 1


def test_where_the_folder_cannot_be_written_the_cache_lies_at_home(root, parsed, tmp_path):
    (root / "annotations/.lightning_cv").write_text("in the way, also for root")
    before = contents(root)
    (folder,) = (tmp_path / "home/lightning_cv").iterdir()
    assert folder.name.endswith("-instances_train2017.json.instances")
    assert contents(root) == before
    assert len(parsed) == 1


def test_where_nothing_can_be_written_the_json_is_parsed_each_time(root, parsed, tmp_path):
    (root / "annotations/.lightning_cv").write_text("in the way")
    (tmp_path / "home").write_text("in the way")
    assert contents(root) == contents(root)
    assert len(parsed) == 2


def test_a_full_disk_leaves_nothing_behind(root, parsed, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(coco_cache.np, "save", fail)
    assert len(contents(root)) == 3
    assert list((root / "annotations/.lightning_cv").iterdir()) == []
    assert list((tmp_path / "home/lightning_cv").iterdir()) == []


def test_where_nothing_is_locked_another_process_that_is_faster_is_let_be(root, parsed, monkeypatch):
    rename = os.rename
    monkeypatch.setattr(coco_cache, "_alone", nullcontext)

    def after_the_other(source, target):
        if not target.exists():
            monkeypatch.setattr(coco_cache.os, "rename", rename)
            contents(root)
        rename(source, target)

    monkeypatch.setattr(coco_cache.os, "rename", after_the_other)
    assert len(contents(root)) == 3
    assert len(parsed) == 2
    assert len(list((root / "annotations/.lightning_cv").iterdir())) == 1


def test_a_cache_that_is_replaced_while_it_is_opened_is_not_mixed(root, parsed, monkeypatch):
    contents(root)
    opened = coco_cache._opened

    def replaced(folder, meta):
        record = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps(record | {"made_in": "another"}))
        monkeypatch.setattr(coco_cache, "_opened", opened)
        return opened(folder, meta)

    monkeypatch.setattr(coco_cache, "_opened", replaced)
    assert len(contents(root)) == 3
    assert len(parsed) == 1  # the other's is taken at the second look


def test_two_processes_at_once_both_succeed(root):
    code = (
        "from lightning_cv.datasets import coco_cache; coco_cache.LARGE = 0\n"
        "from lightning_cv.datasets.coco import CocoDetection\n"
        f"data = CocoDetection({str(root)!r}, 'train', with_masks=True)\n"
        "print(sum(len(data[index]['masks']) for index in range(len(data))))"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in running] == ["3", "3"]
    assert [process.returncode for process in running] == [0, 0]
    assert [path.name for path in (root / "annotations/.lightning_cv").iterdir()] == [cache_of(root).name]


def test_faults_are_told_again_from_the_cache(tmp_path, parsed):
    root = tmp_path / "bad"
    write_folder(root, [an_object(number, 7, [1, 1, 0, 2]) for number in (4, 5)])
    for _ in range(2):
        with pytest.warns(DataWarning, match=r"2 x box without area.*\(first: annotation 4\)"):
            CocoDetection(root, "train")
    with pytest.raises(DataError, match=f"{json_of(root)}, annotation 4: box without area"):
        CocoDetection(root, "train", strict=True)
    assert len(parsed) == 1


def test_a_json_without_objects_can_be_kept(tmp_path, parsed):
    write_folder(tmp_path / "empty", [])
    for _ in range(2):
        assert [len(sample["boxes"]) for sample in contents(tmp_path / "empty")] == [0, 0, 0]
    assert len(parsed) == 1


def test_arrays_are_mapped_and_only_the_folder_is_pickled(root, parsed):
    dataset = CocoDetection(root, "train", with_masks=True)
    for name, array in dataset._packed.arrays.items():
        assert isinstance(array.base, np.memmap), name
        assert not array.flags.writeable
    text = pickle.dumps(dataset._packed)
    assert len(text) < 400
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again[0]["masks"], dataset[0]["masks"])
    assert len(parsed) == 1


def test_others_may_read_the_cache(root):
    contents(root)
    assert cache_of(root).stat().st_mode & 0o555 == 0o555


def test_of_processes_that_open_it_at_once_one_parses(root, tmp_path):
    log = tmp_path / "parsed"
    code = f"""
import sys
from lightning_cv.datasets import coco_cache
from lightning_cv.datasets.coco import CocoDetection
coco_cache.LARGE = 0
parse = coco_cache.parse_coco
def told(text, path):
    with open({str(log)!r}, "a") as file:
        file.write("parsed\\n")
    time.sleep(1.5)
    return parse(text, path)
import time
coco_cache.parse_coco = told
print("ready", flush=True)
sys.stdin.readline()
print(len(CocoDetection({str(root)!r}, "train")))
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    found = []
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        found.append(process.communicate(timeout=60)[0])
    assert len(set(found)) == 1
    assert log.read_text() == "parsed\n"
