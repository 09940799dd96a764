"""Selective search finds what is drawn, in pixels of the picture, the same each time."""

import numpy as np
import pytest
import torch

from lightning_cv.datasets.drawn import draw_scene
from lightning_cv.datasets.selective_search import SelectiveSearch, colour_planes, edges, in_bins
from lightning_cv.metrics.proposals import finding_ranks, proposal_recall

SMALL = SelectiveSearch(width=0, min_side=8)


def test_the_objects_of_drawn_scenes_are_found() -> None:
    ranks = []
    for seed in range(4):
        scene = draw_scene(seed)
        ranks.append(finding_ranks(SMALL(scene.image).astype(np.float64), scene.boxes.astype(np.float64)))
    assert proposal_recall(ranks, [2000])[0, 0] > 0.8


def test_a_red_square_on_grey_is_one_of_few_boxes() -> None:
    image = np.full((60, 80, 3), 128, np.uint8)
    image[20:40, 30:60] = (200, 30, 30)
    boxes = SMALL(image)
    assert [30, 20, 60, 40] in boxes.tolist()
    assert [0, 0, 80, 60] in boxes.tolist()
    assert len(boxes) < 10


def test_boxes_are_in_pixels_of_the_picture_at_whatever_width_it_is_searched() -> None:
    image = np.full((60, 80, 3), 128, np.uint8)
    image[20:40, 30:60] = (200, 30, 30)
    boxes = torch.from_numpy(SelectiveSearch(width=160, min_side=16)(image))
    assert (boxes - torch.tensor([30.0, 20.0, 60.0, 40.0])).abs().amax(dim=1).min() <= 1
    assert boxes[:, 2:].amax(dim=0).tolist() == [80, 60]


def test_the_same_settings_give_the_same_boxes_and_another_seed_their_other_order() -> None:
    image = draw_scene(3).image
    first, again = SMALL(image), SMALL(image)
    other = SelectiveSearch(width=0, min_side=8, seed=1)(image)
    assert first.tolist() == again.tolist() != other.tolist()
    assert sorted(first.tolist()) == sorted(other.tolist())


def test_no_box_is_narrower_than_asked_and_there_are_no_more_than_asked() -> None:
    image = draw_scene(3).image
    boxes = SelectiveSearch(width=0, min_side=12, most=30)(image)
    assert len(boxes) == 30
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 12


def test_quality_finds_more_than_fast() -> None:
    image = draw_scene(5, size=64).image
    fast, quality = (SelectiveSearch(mode=mode, width=0, min_side=4)(image) for mode in ("fast", "quality"))
    assert {tuple(box) for box in fast.tolist()} < {tuple(box) for box in quality.tolist()}


def test_a_picture_of_one_pixel_and_one_of_one_colour_give_the_whole() -> None:
    assert SelectiveSearch(width=0, min_side=0)(np.zeros((1, 1, 3), np.uint8)).tolist() == [[0, 0, 1, 1]]
    assert SMALL(np.full((30, 40, 3), 7, np.uint8)).tolist() == [[0, 0, 40, 30]]


def test_colours_by_hand() -> None:
    red = np.array([[[255, 0, 0]]], np.uint8)
    assert colour_planes(red, "hsv").ravel() == pytest.approx([0, 1, 1])
    assert colour_planes(red, "rgi").ravel() == pytest.approx([1, 0, 1 / 3])
    assert colour_planes(red, "lab").ravel() == pytest.approx(
        [0.5324, (80.09 + 128) / 255, (67.2 + 128) / 255], abs=1e-3
    )
    assert in_bins(np.array([0.0, 0.05, 0.99, 1.0], np.float32), 10).tolist() == [0, 0, 9, 9]


def test_a_step_rises_by_one_in_its_own_direction_and_not_in_the_opposite_one() -> None:
    plane = np.zeros((1, 9, 10), np.float32)
    plane[:, :, 5:] = 1
    found = edges(plane)[:, 4, 5]  # 8 directions, from left to right on, clockwise as rows go down
    assert found == pytest.approx(np.cos(np.arange(8) * np.pi / 4).clip(0), abs=1e-6)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="mode is fast or quality"):
        SelectiveSearch(mode="slow")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not negative"):
        SelectiveSearch(min_side=-1)
