import pytest
import torch
from oracles.detection import default_boxes_loop

from lightning_cv.ops.anchors import DefaultBoxes, StrideAnchors, anchor_shapes, cell_centres, grid_anchors


def test_centres_of_a_hand_example():
    assert cell_centres(2, 3, stride=8).tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


def test_an_empty_map_has_no_centres_and_no_anchors():
    assert cell_centres(0, 3, stride=8).shape == (0, 2)
    assert grid_anchors(0, 3, 8, anchor_shapes([8], [1])).shape == (0, 4)


def test_shapes_keep_the_area_and_have_the_ratio():
    shapes = anchor_shapes([10, 20], [0.5, 1, 2])
    torch.testing.assert_close(shapes.prod(1), torch.tensor([100.0] * 3 + [400.0] * 3))
    torch.testing.assert_close(shapes[:, 0] / shapes[:, 1], torch.tensor([0.5, 1, 2] * 2))


def test_grid_equals_the_loop():
    shapes = anchor_shapes([8, 12], [1, 2])
    expected = [
        [(x + 0.5) * 4 - w / 2, (y + 0.5) * 4 - h / 2, (x + 0.5) * 4 + w / 2, (y + 0.5) * 4 + h / 2]
        for y in range(3)
        for x in range(2)
        for w, h in shapes.tolist()
    ]
    torch.testing.assert_close(grid_anchors(3, 2, 4, shapes), torch.tensor(expected))


def test_one_cell_one_shape():
    assert grid_anchors(1, 1, 16, anchor_shapes([8], [1])).tolist() == [[4, 4, 12, 12]]


def test_default_boxes_equal_the_loop():
    settings = {"sizes": [30, 60, 111.5, 162], "ratios": [[2], [2, 3], []], "steps": [8, 16, 30]}
    boxes = DefaultBoxes(**settings)([(4, 4), (2, 2), (1, 1)], strides=[8, 16, 16])
    assert len(boxes) == 16 * 4 + 4 * 6 + 2
    torch.testing.assert_close(boxes, torch.tensor(default_boxes_loop([4, 2, 1], **settings)), atol=1e-4, rtol=0)


def test_stride_anchors_grow_with_their_map():
    anchors = StrideAnchors(scales=[2, 3], ratios=[1])
    boxes = anchors([(1, 2), (1, 1)], strides=[8, 16])
    assert boxes.tolist() == [
        [-4, -4, 12, 12], [-8, -8, 16, 16], [4, -4, 20, 12], [0, -8, 24, 16], [-8, -8, 24, 24], [-16, -16, 32, 32],
    ]  # fmt: skip


def test_anchor_sets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"m maps have m \+ 1 sizes.* got 2, 2 and 2"):
        DefaultBoxes([30, 60], [[2], [2]], [8, 16])
    with pytest.raises(ValueError, match="above 0"):
        DefaultBoxes([30, 60], [[0]], [8])
    with pytest.raises(ValueError, match="stated for 1 maps, the net has 2"):
        DefaultBoxes([30, 60], [[2]], [8])([(2, 2), (1, 1)], strides=[8, 16])
    with pytest.raises(ValueError, match="scales and ratios are above 0"):
        StrideAnchors(scales=[])
