"""Hierarchical grouping: by hand, and the same boxes in the same order as from the definition."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "oracles"))

from grouping import grouped

from lightning_cv.ops.regions import Alike, by_priority, group_regions, measure_regions, neighbours

ALL = Alike(colour=True, texture=True, size=True, fill=True)
WAYS = [
    ALL,
    Alike(colour=False, texture=True, size=True, fill=True),
    Alike(colour=True, texture=False, size=False, fill=False),
    Alike(colour=False, texture=False, size=False, fill=True),
    Alike(colour=False, texture=False, size=True, fill=False),
]


def patches(rng: np.random.Generator, height: int = 14, width: int = 17, count: int = 12) -> np.ndarray:
    """Labels of a picture in which every pixel belongs to the nearest of some points: connected regions."""
    points = rng.permutation(height * width)[:count]
    ys, xs = np.mgrid[:height, :width]
    away = (ys[..., None] - points // width) ** 2 + (xs[..., None] - points % width) ** 2
    return away.argmin(axis=2)


def test_a_region_is_measured_by_hand() -> None:
    labels = np.array([[0, 0, 1], [2, 2, 1]])
    colour = np.array([[[0, 1, 1], [0, 0, 1]]])
    found = measure_regions(labels, colour, colour, colour_bins=2, texture_bins=2)
    assert found.sizes.tolist() == [2, 2, 2]
    assert found.boxes.tolist() == [[0, 0, 2, 1], [2, 0, 3, 2], [0, 1, 2, 2]]
    assert found.colour.tolist() == [[1, 1], [0, 2], [2, 0]]
    assert found.neighbours.tolist() == [[0, 1], [0, 2], [1, 2]]


def test_regions_of_one_colour_merge_first() -> None:
    labels = np.array([[0, 1, 2, 3]])
    colour = np.array([[[0, 0, 1, 1]]])
    regions = measure_regions(labels, colour, colour, 2, 2)
    boxes = group_regions(regions, Alike(colour=True, texture=False, size=False, fill=False))
    assert boxes[4:].tolist() == [[0, 0, 2, 1], [2, 0, 4, 1], [0, 0, 4, 1]]


@pytest.mark.parametrize("alike", WAYS)
@pytest.mark.parametrize("seed", range(6))
def test_grouping_gives_the_boxes_of_the_definition(alike: Alike, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = patches(rng)
    colour, texture = rng.integers(0, 3, (2, *labels.shape)), rng.integers(0, 4, (3, *labels.shape))
    fast = group_regions(measure_regions(labels, colour, texture, 3, 4), alike)
    assert fast.tolist() == grouped(labels, colour, texture, 3, 4, alike)


def test_one_region_is_its_own_hierarchy() -> None:
    labels = np.zeros((3, 5), np.int64)
    regions = measure_regions(labels, labels[None], labels[None])
    assert regions.neighbours.shape == (0, 2)
    assert group_regions(regions, ALL).tolist() == [[0, 0, 5, 3]]


def test_a_region_without_pixels_is_refused() -> None:
    labels = np.array([[0, 2]])
    with pytest.raises(ValueError, match="region 1 of 3 has no pixel"):
        measure_regions(labels, labels[None], labels[None])


def test_neighbours_touch_along_an_edge_not_at_a_corner() -> None:
    assert neighbours(np.array([[0, 1], [2, 3]])).tolist() == [[0, 1], [0, 2], [1, 3], [2, 3]]


def test_priority_is_the_place_from_the_top_times_chance() -> None:
    one, other = np.array([[0, 0, 1, 1], [0, 0, 2, 2]]), np.array([[0, 0, 3, 3], [0, 0, 2, 2]])
    chance = torch.rand(4, generator=torch.Generator().manual_seed(7), dtype=torch.float64).tolist()
    ranked = sorted(
        zip([2 * chance[0], chance[1], 2 * chance[2], chance[3]], [1, 2, 3, 2], strict=True), key=lambda pair: pair[0]
    )
    order = list(dict.fromkeys(size for _, size in ranked))
    assert by_priority([one, other], torch.Generator().manual_seed(7))[:, 2].tolist() == order
    assert by_priority([], torch.Generator()).shape == (0, 4)
