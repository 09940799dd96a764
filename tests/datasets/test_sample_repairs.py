"""What is found wrong while samples are read: told once a kind, and counted, by all loader processes together."""

import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_cv.datasets.coco import UNSEEN_OBJECT as UNDRAWN_OBJECT
from lightning_cv.datasets.coco import CocoDetection
from lightning_cv.datasets.coco_panoptic import UNKNOWN_SEGMENT, UNSEEN_SEGMENT, CocoPanoptic
from lightning_cv.datasets.drawn import DRAWN_CLASSES
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.repairs import DataWarning, SampleRepairs
from lightning_cv.datasets.voc import SMALL_PICTURE, UNKNOWN_MASK, UNSEEN_OBJECT, VOCDetection, VOCInstances
from lightning_cv.datasets.writers import write_coco, write_voc

IMAGES = 12
KINDS = ("mended", "left out")


def scenes_of_voc(root: Path) -> Path:
    """All pictures but two smaller than their annotations say; of all objects but those of one image no pixels."""
    devkit = write_voc(root, "2007", {"train": IMAGES}, seed=1, size=48)
    for path in sorted((devkit / "JPEGImages").iterdir())[2:]:
        with Image.open(path) as picture:
            picture.resize((8, 8)).save(path)
    return root


def small_scenes_of_voc(root: Path) -> Path:
    """One object an image, whose box passes the lower edge of all pictures and masks but two."""
    devkit = write_voc(root, "2007", {"train": IMAGES}, seed=1, size=48)
    for number, path in enumerate(sorted((devkit / "Annotations").iterdir())):
        text = path.read_text()
        head, tail = text[: text.index("<object>")], text[text.rindex("</object>") + len("</object>") :]
        box = "<bndbox><xmin>3</xmin><ymin>5</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>"
        path.write_text(f"{head}<object><name>{DRAWN_CLASSES[0]}</name>{box}</object>{tail}")
        size = (20, 48) if number >= 2 else (48, 48)
        mask = np.zeros(size, np.uint8)
        mask[4:20, 2:30] = 1
        for folder in ("SegmentationClass", "SegmentationObject"):
            Image.fromarray(mask).save(devkit / folder / f"{path.stem}.png")
        Image.new("RGB", size[::-1]).save(devkit / "JPEGImages" / f"{path.stem}.jpg")
    return root


def masks_of_voc(root: Path) -> Path:
    """The objects of three images have other numbers than 1, 2, ... and lost the first; one image is as it was."""
    devkit = write_voc(root, "2007", {"train": IMAGES}, seed=1, size=48)
    for number, path in enumerate(sorted((devkit / "SegmentationObject").iterdir())[1:]):
        values = np.array(Image.open(path))
        values[values == 1] = 0
        if number < 3:
            values[:3, :3] = 77
        Image.fromarray(values).save(path)
    return root


def polygons_of_coco(root: Path) -> Path:
    """In all images but one, the first object is a diagonal line, which covers no pixel."""
    write_coco(root, {"train": IMAGES}, seed=1, size=48)
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    seen = {content["images"][0]["id"]}
    for entry in content["annotations"]:
        if entry["image_id"] not in seen:
            entry["segmentation"] = [[1, 1, 5, 5, 9, 9]]
            seen.add(entry["image_id"])
    path.write_text(json.dumps(content))
    return root


def segments_of_coco(root: Path) -> Path:
    """All PNG files but one have a number that the json does not know; in four a segment of the json is missing."""
    write_coco(root, {"train": IMAGES}, seed=1, size=48)
    for number, path in enumerate(sorted((root / "annotations/panoptic_train2017").iterdir())[1:]):
        colours = np.array(Image.open(path))
        if number < 4:
            rows = (colours == colours[-1, -1]).all(axis=2)
            colours[rows] = [9, 9, 9]
        colours[0, 0] = [9, 9, 9]
        Image.fromarray(colours).save(path)
    return root


def boxes(root: Path, strict: bool = False) -> VOCDetection:
    return VOCDetection(root, "2007", "train", DRAWN_CLASSES, strict=strict)


def instances(root: Path, strict: bool = False) -> VOCInstances:
    return VOCInstances(root, "2007", "train", DRAWN_CLASSES, strict=strict)


def segments(root: Path, strict: bool = False) -> CocoPanoptic:
    return CocoPanoptic(root, "train", strict=strict)


def polygons(root: Path, strict: bool = False) -> CocoDetection:
    return CocoDetection(root, "train", with_masks=True, strict=strict)


BROKEN = {
    "boxes": (scenes_of_voc, boxes, {SMALL_PICTURE: IMAGES - 2}),
    "small": (small_scenes_of_voc, instances, {SMALL_PICTURE: IMAGES - 2}),
    "polygons": (polygons_of_coco, polygons, {UNDRAWN_OBJECT: IMAGES - 1}),
    "masks": (masks_of_voc, instances, {UNSEEN_OBJECT: IMAGES - 1, UNKNOWN_MASK: 3}),
    "segments": (segments_of_coco, segments, {UNKNOWN_SEGMENT: IMAGES - 1, UNSEEN_SEGMENT: 4}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_process_tells_each_kind_once(tmp_path, name):
    spoil, read, faulty = BROKEN[name]
    dataset = read(spoil(tmp_path))
    assert dataset.repairs.counts == {}
    with pytest.warns(DataWarning) as told:
        [dataset[index] for index in [*range(IMAGES), *range(IMAGES)]]
    assert len(told) == len(faulty)
    for kind in faulty:
        [message] = [str(warning.message) for warning in told if kind in str(warning.message)]
        assert "further ones are counted silently" in message
        assert f"`lightning-cv data check {tmp_path}` finds them all" in message
    assert dataset.repairs.counts == faulty
    with pytest.raises(DataError, match=r"\(strict\)"):
        [read(tmp_path, strict=True)[index] for index in range(IMAGES)]


LOADER = """
import sys, torch
sys.path.insert(0, {tests!r})
from test_sample_repairs import BROKEN, as_it_is
from torch.utils.data import DataLoader
if __name__ == "__main__":
    name, root, method = sys.argv[1:]
    dataset = BROKEN[name][1](root)
    loader = DataLoader(dataset, None, num_workers=2, multiprocessing_context=method, collate_fn=as_it_is)
    for _ in range(2):
        assert len(list(loader)) == len(dataset)
    print(dataset.repairs.counts)
"""


def as_it_is(sample):
    return sample["image_id"]


def load(tmp_path: Path, name: str, method: str) -> tuple[str, list[str]]:
    """The counts after two epochs with two workers, and what all processes told."""
    script = tmp_path / "load.py"
    script.write_text(LOADER.format(tests=str(Path(__file__).parent)))
    root = BROKEN[name][0](tmp_path / "data")
    command = [sys.executable, str(script), name, str(root), method]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), [line for line in done.stderr.splitlines() if "DataWarning" in line]


@pytest.mark.parametrize("name", BROKEN)
def test_two_workers_tell_each_kind_once_and_count_together(tmp_path, name):
    counts, told = load(tmp_path, name, "fork")
    assert counts == str(BROKEN[name][2])
    assert len(told) == len(BROKEN[name][2])
    for kind in BROKEN[name][2]:
        assert sum(kind in line for line in told) == 1


@pytest.mark.slow  # each worker imports torch anew
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_so_do_workers_that_are_started_in_other_ways(tmp_path, method):
    counts, told = load(tmp_path, "segments", method)
    assert counts == str(BROKEN["segments"][2])
    assert len(told) == 2


def test_a_claim_of_another_process_silences(tmp_path):
    repairs = SampleRepairs("here", tmp_path, KINDS, 3, strict=False)
    claim = repairs._claim.with_name(f"{repairs._claim.name}-1")
    claim.touch()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            repairs.note(2, "left out", "c.jpg")
    finally:
        claim.unlink()
    assert repairs.counts == {"left out": 1}
    with pytest.warns(DataWarning, match=r"here: left out \(first: a\.jpg\)"):
        repairs.note(0, "left out", "a.jpg")
    assert not claim.exists()


def test_a_copy_counts_for_itself(tmp_path):
    repairs = SampleRepairs("here", tmp_path, KINDS, 3, strict=False)
    copy = pickle.loads(pickle.dumps(repairs))
    with pytest.warns(DataWarning):
        repairs.note(0, "mended", "a.jpg")
    assert (repairs.counts, copy.counts) == ({"mended": 1}, {})
    assert SampleRepairs("here", tmp_path, KINDS, 0, strict=False).counts == {}
