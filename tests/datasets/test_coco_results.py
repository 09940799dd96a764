"""COCO's results by hand: run lengths in pixels of the file, numbers of segments in colours."""

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as rle

from lightning_cv.contracts import LabelMap, Placement
from lightning_cv.datasets.coco_panoptic import segment_colours, segment_ids, spread_id
from lightning_cv.datasets.coco_results import is_coco_id, write_segments
from lightning_cv.metrics.detection import run_lengths


def test_run_lengths_of_the_example_in_cocos_format():
    """Column by column: 2 pixels off, 2 on, 2 off."""
    mask = torch.tensor([[[False, True, False], [False, True, False]]])
    (found,) = run_lengths(mask, Placement(1.0, 1.0), (2, 3))
    assert found == {"size": [2, 3], "counts": "222"}


def test_each_pixel_of_the_file_asks_the_one_that_shows_its_centre():
    """A file half as high and twice as wide as its part of the picture, which begins at column 1."""
    mask = torch.zeros(2, 4, 3, dtype=torch.bool)
    mask[0, 1, 1] = mask[0, 3, 2] = mask[0, 0, 2] = mask[1, :, 0] = True  # centres lie in rows 1 and 3
    first, second = (rle.decode(found) for found in run_lengths(mask, Placement(0.5, 2.0, left=1.0), (2, 4)))
    assert first.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    assert not second.any()
    assert run_lengths(mask[:0], Placement(1.0, 1.0), (4, 3)) == []


def test_colours_are_the_inverse_of_numbers_and_no_two_segments_share_one():
    ids = np.array([[0, 1, 255], [256, 65_535, (1 << 24) - 1]], np.int32)
    assert segment_colours(ids)[1].tolist() == [[0, 1, 0], [255, 255, 0], [255, 255, 255]]
    np.testing.assert_array_equal(segment_ids(segment_colours(ids)), ids)
    numbers = {spread_id(position) for position in range(1, 50_000)}
    assert len(numbers) == 49_999
    assert min(numbers) > 0
    assert max(numbers) < 1 << 24


def test_the_png_of_segments_says_which_pixel_is_whose(tmp_path):
    segments = torch.tensor([[0, 1], [2, 2]])
    labels = LabelMap(("sky", "dog"), 0, (187, 18))
    entry = write_segments(tmp_path / "new", 139, {"segments": segments, "labels": torch.tensor([1, 0])}, labels)
    assert (entry["image_id"], entry["file_name"]) == (139, "139.png")
    assert [info["category_id"] for info in entry["segments_info"]] == [18, 187]
    with Image.open(tmp_path / "new/139.png") as png:
        pixels = np.array(png, np.int64) @ [1, 256, 65_536]
    first, second = (info["id"] for info in entry["segments_info"])
    assert pixels.tolist() == [[0, first], [second, second]]


def test_which_ids_are_cocos():
    assert [is_coco_id(text) for text in ("0", "139", "000139", "2007_000032", "-1", "", "\u0663")] == [
        True, True, False, False, False, False, False,
    ]  # fmt: skip
