"""`lightning-cv evaluate --bootstrap`: intervals beside the figures."""

import json

import numpy as np
import pytest
from PIL import Image

from lightning_cv.cli import main


@pytest.fixture
def masks(tmp_path):
    """Four pictures of 2 x 2 pixels, all of class 1: found whole, by half, by half and not at all."""
    truth, guess = tmp_path / "VOC2007", tmp_path / "guess"
    for folder in (truth / "SegmentationClass", truth / "ImageSets/Segmentation", guess):
        folder.mkdir(parents=True)
    (truth / "ImageSets/Segmentation/test.txt").write_text("a\nb\nc\nd\n")
    for name, right in zip("abcd", (4, 2, 2, 0), strict=True):
        found = np.array([1] * right + [0] * (4 - right), np.uint8).reshape(2, 2)
        Image.fromarray(np.ones((2, 2), np.uint8)).save(truth / f"SegmentationClass/{name}.png")
        Image.fromarray(found).save(guess / f"{name}.png")
    return ["evaluate", "voc-segmentation", "--gt", str(truth), "--pred", str(guess)]


def test_masks_have_intervals(masks, capsys):
    assert main([*masks, "--json", "--bootstrap", "2000"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["figures"]["pixel_accuracy"] == 0.5
    # of the sums of 4 draws of (4, 2, 2, 0) out of 16, one in 256 is 0 and one is 16, 8 are 2 and 8 are 14
    assert found["intervals"]["pixel_accuracy"] == [2 / 16, 14 / 16]
    assert set(found["intervals"]) == set(found["figures"])
    assert main([*masks, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["intervals"] == {}


def test_a_class_that_a_resample_lacks_is_in_no_mean(tmp_path, capsys):
    """Class 1 is in one of two pictures and found there; predicted in the other, too, it has an overlap of a half.

    Of the draws half have both pictures: (0 + 1/2) / 2. A quarter have the first alone: 1. A quarter the second: 0 for
    the background, and class 1, of which there is nothing to find, does not count.
    """
    truth, guess = tmp_path / "VOC2007", tmp_path / "guess"
    for folder in (truth / "SegmentationClass", truth / "ImageSets/Segmentation", guess):
        folder.mkdir(parents=True)
    (truth / "ImageSets/Segmentation/test.txt").write_text("a\nb\n")
    for name, value in (("a", 1), ("b", 0)):
        Image.fromarray(np.full((2, 2), value, np.uint8)).save(truth / f"SegmentationClass/{name}.png")
        Image.fromarray(np.ones((2, 2), np.uint8)).save(guess / f"{name}.png")
    arguments = ["voc-segmentation", "--gt", str(truth), "--pred", str(guess)]
    assert main(["evaluate", *arguments, "--json", "--bootstrap", "400"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["figures"]["miou"] == 0.25
    assert found["intervals"]["miou"] == [0.0, 1.0]


def test_the_table_says_both_ends(masks, capsys):
    assert main([*masks, "--bootstrap", "2000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "pixel_accuracy            0.500000  95 %: 0.125000 to 0.875000" in lines
    assert max(len(line) for line in lines if "95 %" in line) <= 80


def test_boxes_have_intervals(tmp_path, capsys):
    """Two pictures with an object each, of which one is found: a resample has none, half or all of them right."""
    for place, name, line in (("gt", "1", "a 0 0 9 9\n"), ("gt", "2", "a 0 0 9 9\n"), ("pred", "1", "a 0.5 0 0 9 9\n")):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / f"{name}.txt").write_text(line)
    arguments = ["boxes-txt", "--gt", str(tmp_path / "gt"), "--pred", str(tmp_path / "pred")]
    assert main(["evaluate", *arguments, "--json", "--bootstrap", "200"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["figures"] == {"map@0.5": 0.5}
    assert found["intervals"] == {"map@0.5": [0.0, 1.0]}


def test_refusals(masks, capsys):
    assert main([*masks, "--bootstrap", "-1"]) == 2
    assert "--bootstrap must be at least 0, got -1" in capsys.readouterr().err
    assert main(["evaluate", "coco", *masks[2:], "--bootstrap", "10"]) == 2
    assert "--bootstrap is an option of" in capsys.readouterr().err
