"""k-means anchors: hand examples, planted clusters, rounds that never get worse."""

import pytest
import torch

from lightning_cv.ops.kmeans import improving_anchors, kmeans_anchors, shape_iou, start_anchors


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shapes_of_any_kind(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 2, generator=generator(seed), dtype=torch.float64).mul(4).exp()


def planted(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three kinds of boxes, up to 5 % larger or smaller, of different frequency."""
    centres = torch.tensor([[10.0, 10.0], [60.0, 20.0], [30.0, 90.0]])
    kinds = torch.tensor([0] * 200 + [1] * 50 + [2] * 100)
    noise = 1 + 0.1 * (torch.rand(len(kinds), 2, generator=generator(seed)) - 0.5)
    return centres[kinds] * noise, centres


def test_iou_of_shapes_by_hand():
    shapes = torch.tensor([[2.0, 4.0], [3.0, 3.0]])
    anchors = torch.tensor([[4.0, 2.0], [2.0, 4.0], [1.0, 1.0]])
    expected = torch.tensor([[4 / 12, 1, 1 / 8], [6 / 11, 6 / 11, 1 / 9]])
    assert torch.allclose(shape_iou(shapes, anchors), expected)


def test_iou_of_shapes_is_that_of_boxes_with_one_centre():
    from torchvision.ops import box_iou

    shapes, anchors = shapes_of_any_kind(20, 1), shapes_of_any_kind(7, 2)
    boxes, others = (torch.cat([-shape / 2, shape / 2], dim=1) for shape in (shapes, anchors))
    assert torch.allclose(shape_iou(shapes, anchors), box_iou(boxes, others))


def test_one_anchor_of_two_shapes_by_hand():
    # a shape itself has the mean IoU (1 + 4 / 16) / 2 = 0.625, their mean (3, 3) has (4 / 9 + 9 / 16) / 2 = 0.503
    found = kmeans_anchors(torch.tensor([[2.0, 2.0], [4.0, 4.0]]), 1, generator())
    assert found.anchors.tolist() in ([[2.0, 2.0]], [[4.0, 4.0]])
    assert found.mean_iou == pytest.approx(0.625)


def test_as_many_anchors_as_shapes_are_the_shapes():
    shapes = torch.tensor([[5.0, 1.0], [1.0, 1.0], [4.0, 8.0]])
    found = kmeans_anchors(shapes, 3, generator())
    assert found.anchors.tolist() == [[1.0, 1.0], [5.0, 1.0], [4.0, 8.0]]  # by area
    assert found.mean_iou == pytest.approx(1.0)


def test_planted_clusters_are_found():
    shapes, centres = planted()
    found = kmeans_anchors(shapes, 3, generator())
    order = centres.prod(dim=1).argsort()
    assert torch.allclose(found.anchors, centres[order], rtol=0.02)
    assert found.mean_iou > 0.93


@pytest.mark.parametrize("seed", range(5))
def test_no_round_makes_the_anchors_worse(seed):
    shapes = shapes_of_any_kind(300, seed)
    rounds = list(improving_anchors(shapes, start_anchors(shapes, 6, generator(seed)), 100))
    assert len(rounds) > 2
    scores = [one.mean_iou for one in rounds]
    assert scores == sorted(scores)
    overlaps = shape_iou(shapes, rounds[-1].anchors).amax(dim=1)
    assert scores[-1] == pytest.approx(float(overlaps.mean()))


def test_more_restarts_are_never_worse_and_the_seed_decides():
    shapes = shapes_of_any_kind(200, 3)
    one, ten = (kmeans_anchors(shapes, 5, generator(), restarts=restarts) for restarts in (1, 10))
    assert ten.mean_iou >= one.mean_iou
    again = kmeans_anchors(shapes, 5, generator(), restarts=10)
    assert torch.equal(again.anchors, ten.anchors)


def test_fewer_different_shapes_than_anchors():
    found = kmeans_anchors(torch.full((4, 2), 3.0), 2, generator())
    assert found.anchors.tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert found.mean_iou == pytest.approx(1.0)


def test_dtype_is_kept():
    assert kmeans_anchors(torch.ones(3, 2), 1, generator()).anchors.dtype == torch.float32


@pytest.mark.parametrize(
    ("shapes", "k", "words"),
    [
        (torch.ones(3, 2), 4, "4 anchors cannot be found in 3 shapes"),
        (torch.ones(3, 2), 0, "0 anchors"),
        (torch.ones(0, 2), 1, "in 0 shapes"),
        (torch.ones(3, 4), 1, r"\(N, 2\), got \(3, 4\)"),
        (torch.tensor([[1.0, 0.0]]), 1, "above 0"),
        (torch.tensor([[1.0, float("nan")]]), 1, "above 0"),
    ],
)
def test_what_cannot_be_clustered(shapes, k, words):
    with pytest.raises(ValueError, match=words):
        kmeans_anchors(shapes, k, generator())
