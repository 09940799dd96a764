"""Proposals on disk: kept, gone on with after a kill, refused where they are stale, and moved with the boxes."""

import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_cv.cli import main
from lightning_cv.contracts import Draw
from lightning_cv.datamodules import DrawnDetectionDataModule, VOCDetectionDataModule
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.proposals import ProposalCache, ProposalFile, WithProposals, open_proposals, picture_key
from lightning_cv.datasets.selective_search import SelectiveSearch
from lightning_cv.datasets.voc import VOCDetection
from lightning_cv.datasets.writers import write_voc
from lightning_cv.tools.proposals import build, recall
from lightning_cv.transforms import DetectionEval, FlipOnly, ShorterSideTrain, SSDTrain

CLASSES = ("disc", "triangle", "square", "hexagon", "star", "ring", "ellipse", "cross", "letter_a", "digit_5")


class Pretended:
    """Finds the same two boxes in every picture, counts its calls, and waits a little where asked."""

    def __init__(self, wait=0.0):
        self.settings = {"method": "pretended", "version": 1}
        self.calls, self.wait = 0, wait

    def __call__(self, image):
        self.calls += 1
        time.sleep(self.wait)
        height, width = image.shape[:2]
        return np.array([[0, 0, width, height], [2, 3, 10, 20]], np.float32)


@pytest.fixture
def root(tmp_path):
    write_voc(tmp_path / "scenes", "2007", {"train": 6, "val": 2, "test": 2}, 0, 48)
    return tmp_path / "scenes"


def scenes(root, split="train"):
    return VOCDetection(root, "2007", split, CLASSES)


def test_what_is_built_is_read_and_built_once(root, tmp_path):
    source, search = scenes(root), Pretended()
    assert build(source, search, tmp_path / "boxes") == []
    assert build(source, search, tmp_path / "boxes") == []
    assert search.calls == 6
    sample = WithProposals(source, open_proposals(tmp_path / "boxes"))[4]
    assert sample["proposals"].tolist() == [[0, 0, 48, 48], [2, 3, 10, 20]]
    assert sample["proposals"].dtype == np.float32
    assert build(scenes(root, "val"), search, tmp_path / "boxes") == []  # a second split joins
    assert len(ProposalCache(tmp_path / "boxes")._index) == 8


def test_a_build_that_is_killed_goes_on(root, tmp_path):
    folder = tmp_path / "boxes"
    process = multiprocessing.get_context("fork").Process(target=build, args=(scenes(root), Pretended(0.2), folder))
    process.start()
    while len(list(folder.glob("*/*.npy"))) < 2:
        time.sleep(0.01)
    process.kill()
    process.join()
    done = len(list(folder.glob("*/*.npy")))
    assert 2 <= done < 6
    (folder / "ab").mkdir(exist_ok=True)
    (folder / "ab" / ".half.npy.x.part").write_bytes(b"half")
    search = Pretended()
    assert build(scenes(root), search, folder) == []
    assert search.calls == 6 - done
    assert not list(folder.glob("*/.*.part"))
    assert len(WithProposals(scenes(root), ProposalCache(folder))[5]["proposals"]) == 2


def test_other_settings_are_refused_and_named(root, tmp_path):
    build(scenes(root), Pretended(), tmp_path / "boxes")
    other = Pretended()
    other.settings = {"method": "pretended", "version": 2}
    with pytest.raises(DataError, match=r"stale.*version 1 there, 2 asked"):
        build(scenes(root), other, tmp_path / "boxes")


def test_a_folder_of_something_else_is_left_alone(root, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="no proposals: choose"):
        build(scenes(root), Pretended(), tmp_path / "mine")


def test_a_changed_picture_a_resized_one_and_a_missing_one_are_told(root, tmp_path):
    folder, source = tmp_path / "boxes", scenes(root)
    build(source, Pretended(), folder)
    cache, sample = ProposalCache(folder), source[0]
    with pytest.raises(DataError, match=f"stale: picture {sample['image_id']} has changed"):
        cache.boxes_of(sample["image_id"], sample["image"] ^ 1)
    with pytest.raises(DataError, match="for 48 x 48 pixels, the picture has 24 x 48"):
        cache.boxes_of(sample["image_id"], sample["image"][:, :24])
    with pytest.raises(DataError, match="no proposals for picture nobody"):
        cache.boxes_of("nobody", sample["image"])
    with pytest.raises(DataError, match=r"no proposals in .*nowhere.*lightning-cv proposals build"):
        open_proposals(tmp_path / "nowhere")
    changed = sample["image"].copy()
    Image.fromarray(changed // 2).save(root / f"VOCdevkit/VOC2007/JPEGImages/{sample['image_id']}.jpg")
    search = Pretended()
    assert build(scenes(root), search, folder) == []  # searched again, once, and no longer stale
    assert search.calls == 1
    assert len(WithProposals(scenes(root), ProposalCache(folder))[0]["proposals"]) == 2


def test_a_damaged_file_is_named(root, tmp_path):
    build(scenes(root), Pretended(), tmp_path / "boxes")
    sample = scenes(root)[1]
    file = next((tmp_path / "boxes").glob(f"*/{picture_key(sample['image'])}.npy"))
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(DataError, match=file.name):
        ProposalCache(tmp_path / "boxes").boxes_of(sample["image_id"], sample["image"])


def test_proposals_from_a_file_of_ones_own(root, tmp_path):
    sample = scenes(root)[0]
    content = {
        "image_ids": np.array([sample["image_id"], "other"]),
        "sizes": np.array([[48, 48], [10, 20]]),
        "counts": np.array([1, 2]),
        "boxes": np.array([[1, 2, 3, 4], [0, 0, 1, 1], [0, 0, 2, 2]], np.float32),
    }
    np.savez(tmp_path / "mine.npz", **content)
    found = open_proposals(tmp_path / "mine.npz")
    assert found.boxes_of(sample["image_id"], sample["image"]).tolist() == [[1, 2, 3, 4]]
    with pytest.raises(DataError, match="for 20 x 10 pixels, the picture has 48 x 48"):
        found.boxes_of("other", sample["image"])
    np.savez(tmp_path / "wrong.npz", **(content | {"counts": np.array([1, 1])}))
    with pytest.raises(DataError, match="do not fit together"):
        ProposalFile(tmp_path / "wrong.npz")


def test_what_was_built_goes_into_one_file(root, tmp_path, capsys):
    build(scenes(root), Pretended(), tmp_path / "boxes")
    assert main(["proposals", "pack", str(tmp_path / "boxes"), str(tmp_path / "all.npz")]) == 0
    assert f"{len(scenes(root))} pictures" in capsys.readouterr().out
    for index in range(len(scenes(root))):
        sample = scenes(root)[index]
        asked = (sample["image_id"], sample["image"])
        packed, kept = (open_proposals(tmp_path / name).boxes_of(*asked) for name in ("all.npz", "boxes"))
        assert packed.tolist() == kept.tolist()
    assert main(["proposals", "pack", str(tmp_path), str(tmp_path / "none.npz")]) == 2
    assert f"no proposals in {tmp_path}: build them" in capsys.readouterr().err
    assert not (tmp_path / "none.npz").exists()


def test_a_batch_carries_proposals_that_moved_with_the_picture(root, tmp_path):
    for split in ("train", "val"):
        build(scenes(root, split), Pretended(), tmp_path / "boxes")
    data = VOCDetectionDataModule(
        str(root), FlipOnly(), DetectionEval(96), class_names=list(CLASSES), proposals=str(tmp_path / "boxes")
    )
    target = data.val_set()[[Draw(0, 1)]]["targets"][0]
    assert target["proposals"].tolist() == [[0, 0, 96, 96], [4, 6, 20, 40]]
    ways = {tuple(data.train_set()[[Draw(epoch, 0)]]["targets"][0]["proposals"][1].tolist()) for epoch in range(20)}
    assert ways == {(2, 3, 10, 20), (38, 3, 46, 20)}
    data.train_transform = ShorterSideTrain([24], 100)
    assert data.train_set()[[Draw(0, 0)]]["targets"][0]["proposals"][0].tolist() == [0, 0, 24, 24]
    data.train_transform = SSDTrain(48)
    with pytest.raises(ValueError, match="has proposals, which only"):
        data.train_set()[[Draw(0, 0)]]


def test_drawn_scenes_take_proposals_and_may_be_of_one_object(tmp_path):
    data = DrawnDetectionDataModule(str(tmp_path), 20, 4, 4, size=48, proposals="somewhere", max_objects=1)
    data.prepare_data()
    assert data.proposals == "somewhere"
    counts = [len(data.source("train")[index]["labels"]) for index in range(len(data.source("train")))]
    assert counts == [1] * 20
    assert DrawnDetectionDataModule(str(tmp_path), 20, 4, 4, size=48).root != data.root


def test_recall_by_hand(root, tmp_path):
    class Right(Pretended):
        def __call__(self, image):
            (sample,) = (s for s in scenes(root) if (s["image"] == image).all())
            return np.concatenate([np.array([[0, 0, 1, 1]], np.float32), sample["boxes"]])

    build(scenes(root), Right(), tmp_path / "boxes")
    found = recall(scenes(root), ProposalCache(tmp_path / "boxes"), [1, 100])
    assert found.recall_50.tolist() == [0, 1]


def test_the_verb_builds_and_prints_the_recall(root, tmp_path, capsys):
    options = ["--split", "val", "--out", str(tmp_path / "boxes")]
    small = ["--width", "0", "--min-side", "4", "--quiet", "--json"]
    assert main(["proposals", "build", str(root), *options, *small]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["recall_50"][-1] > 0.5
    assert main(["proposals", "recall", str(root), *options]) == 0
    assert f"{figures['recall_50'][-1]:.3f}" in capsys.readouterr().out.splitlines()[-1]
    assert main(["proposals", "build", str(root), *options, "--width", "30", "--quiet"]) == 2
    assert "width 0 there, 30 asked" in capsys.readouterr().err


def test_a_picture_that_cannot_be_read_is_told_and_the_rest_goes_on(root, tmp_path, capsys):
    image: Path = (
        next((root / "VOCdevkit/VOC2007/JPEGImages").glob("*val*"), None)
        or sorted((root / "VOCdevkit/VOC2007/JPEGImages").iterdir())[0]
    )
    split = next(s for s in ("train", "val", "test") if image.stem in scenes(root, s).ids)
    image.write_bytes(b"no picture")
    options = ["--split", split, "--out", str(tmp_path / "boxes"), "--width", "0", "--min-side", "4", "--quiet"]
    assert main(["proposals", "build", str(root), *options]) == 1
    said = capsys.readouterr()
    assert image.name in said.err
    assert f"{len(scenes(root, split)) - 1} of {len(scenes(root, split))} pictures" in said.out


@pytest.mark.slow
def test_two_processes_build_what_one_builds(root, tmp_path):
    small = ["--width", "0", "--min-side", "4", "--quiet", "--no-recall"]
    for processes in ("1", "2"):
        out = ["--out", str(tmp_path / processes), "--processes", processes]
        assert main(["proposals", "build", str(root), *out, *small]) == 0
    one, two = (ProposalCache(tmp_path / processes) for processes in ("1", "2"))
    assert one._index == two._index
    for sample in scenes(root):
        boxes = torch.from_numpy(one.boxes_of(sample["image_id"], sample["image"]))
        assert torch.equal(boxes, torch.from_numpy(two.boxes_of(sample["image_id"], sample["image"])))


def test_a_second_build_into_a_folder_is_refused_and_harms_nothing(root, tmp_path, capsys):
    folder, slow = tmp_path / "boxes", Pretended(0.5)
    slow.settings = SelectiveSearch("fast", 0, 4).settings
    process = multiprocessing.get_context("fork").Process(target=build, args=(scenes(root), slow, folder))
    process.start()
    while not list(folder.glob("*/*.npy")):
        time.sleep(0.01)
    half = next(folder.glob("*/*.npy")).with_name(".half.npy.x.part")  # as the first build writes it
    half.write_bytes(b"half")
    small = ["--width", "0", "--min-side", "4", "--quiet", "--no-recall", "--out", str(folder)]
    assert main(["proposals", "build", str(root), "--split", "val", *small]) == 2
    assert capsys.readouterr().err == f"lightning-cv proposals: another process is at work in {folder}\n"
    assert process.is_alive()
    assert half.exists()
    process.join()
    assert process.exitcode == 0
    assert main(["proposals", "build", str(root), "--split", "val", *small]) == 0  # one after the other
    assert len(ProposalCache(folder)._index) == 8
    assert not half.exists()


def test_a_build_that_was_killed_before_its_first_word_goes_on(root, tmp_path):
    folder = tmp_path / "boxes"
    folder.mkdir()
    (folder / ".lock").touch()
    (folder / ".proposals.json.x.part").write_bytes(b"half")
    assert build(scenes(root), Pretended(), folder) == []
    assert not list(folder.glob(".*.part"))


def test_no_lock_is_left_in_a_folder_of_something_else(root, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="no proposals: choose"):
        build(scenes(root), Pretended(), tmp_path)
    assert not (tmp_path / ".lock").exists()
