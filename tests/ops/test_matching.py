import numpy as np
import pytest
import torch
from oracles.detection import bipartite_loop, ssd_loop

from lightning_cv.ops.matching import match_bipartite, match_regions, match_rpn, match_ssd


def test_two_objects_with_the_same_best_anchor_both_get_one():
    # torchvision's matcher gives anchor 0 to the object written last and loses the other
    overlaps = torch.tensor([[[0.6, 0.2, 0.1], [0.7, 0.3, 0.0]]])
    assert match_bipartite(overlaps).tolist() == [[1, 0, -1]]


def test_the_best_pair_goes_first_whatever_the_order_of_objects():
    overlaps = torch.tensor([[[0.5, 0.4], [0.9, 0.8]]])
    assert match_bipartite(overlaps).tolist() == [[1, 0]]
    assert match_bipartite(overlaps.flip(1)).tolist() == [[0, 1]]


def test_an_object_without_any_overlap_gets_no_anchor():
    assert match_bipartite(torch.tensor([[[0.0, 0.0], [0.0, 0.2]]])).tolist() == [[-1, 1]]


def test_more_objects_than_anchors():
    assert match_bipartite(torch.tensor([[[0.1], [0.3], [0.2]]])).tolist() == [[1]]


@pytest.mark.parametrize("match", [match_bipartite, match_ssd, match_rpn])
def test_no_objects_or_no_anchors(match):
    assert match(torch.zeros(2, 0, 3)).tolist() == [[-1] * 3] * 2
    assert match(torch.zeros(2, 0, 0)).shape == (2, 0)


@pytest.mark.parametrize("match", [match_bipartite, match_ssd, match_rpn, match_regions])
def test_no_anchors_but_objects(match):
    assert match(torch.zeros(1, 2, 0)).shape == (1, 0)


def test_ssd_adds_anchors_from_the_threshold_on():
    overlaps = torch.tensor([[[0.7, 0.5, 0.49], [0.2, 0.6, 0.3]]])
    assert match_ssd(overlaps, threshold=0.5).tolist() == [[0, 1, -1]]
    assert match_ssd(overlaps, threshold=0.49).tolist() == [[0, 1, 0]]


def test_a_forced_match_stands_against_a_better_object():
    # anchor 0 overlaps object 0 more, but object 0 has anchor 1 and object 1 has nothing else
    overlaps = torch.tensor([[[0.6, 0.8], [0.1, 0.0]]])
    assert match_ssd(overlaps).tolist() == [[1, 0]]


@pytest.mark.parametrize("seed", range(20))
def test_random_overlaps_equal_the_loops(seed):
    rng = np.random.default_rng(seed)
    objects, anchors = int(rng.integers(1, 8)), int(rng.integers(1, 30))
    overlaps = rng.random((3, objects, anchors)) * (rng.random((3, objects, anchors)) < 0.6)
    overlaps[2, objects // 2 :] = 0  # an image with fewer objects
    tensor = torch.from_numpy(overlaps)
    assert match_bipartite(tensor).tolist() == [bipartite_loop(image) for image in overlaps]
    assert match_ssd(tensor, 0.5).tolist() == [ssd_loop(image, 0.5) for image in overlaps]


def test_a_threshold_that_matches_everything_is_refused():
    with pytest.raises(ValueError, match="got 0"):
        match_ssd(torch.rand(1, 1, 1), threshold=0)
