import numpy as np
import pytest
import torch
from oracles.corners import (
    focal_loop,
    heat_loop,
    least_overlap,
    pairs_loop,
    pool_loop,
    pull_push_loop,
    smooth_l1_loop,
)

from lightning_cv.ops.corners import (
    CornerMaps,
    corner_focal_loss,
    corner_losses,
    corner_radius,
    corner_targets,
    pair_corners,
    peaks_only,
    pool_towards,
    pull_and_push,
)

EDGES = ["top", "left", "bottom", "right"]


def random_boxes(count: int, seed: int, size: float = 64.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * (size - 10)
    return torch.cat([corner, (corner + 4 + torch.rand(count, 2, generator=generator) * 40).clamp(max=size)], dim=1)


def random_maps(images: int, classes: int, height: int, width: int, seed: int = 0) -> CornerMaps:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, images, classes, height, width), (2, images, height, width), (2, images, 2, height, width))
    return CornerMaps(*(torch.randn(shape, generator=generator) for shape in shapes))


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("shape", [(5, 7), (1, 6), (6, 1), (1, 1)])
def test_pooling_equals_the_loop(edge, shape):
    x = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    expected = [[pool_loop(plane.double().numpy(), edge) for plane in image] for image in x]
    np.testing.assert_allclose(pool_towards(x, edge).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("edge", EDGES)
def test_the_form_for_export_is_the_same(edge, monkeypatch):
    x = torch.randn(2, 3, 5, 13)
    expected = pool_towards(x, edge)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(pool_towards(x, edge), expected, rtol=0, atol=0)


@pytest.mark.parametrize("edge", EDGES)
def test_pooling_has_the_right_gradient(edge):
    x = torch.randperm(24, generator=torch.Generator().manual_seed(0)).double().view(1, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: pool_towards(value, edge), x)


@pytest.mark.parametrize("sides", [(10, 10), (3, 30), (1, 1), (17, 5)])
@pytest.mark.parametrize("overlap", [0.3, 0.5, 0.7])
def test_the_radius_is_the_largest_that_keeps_the_overlap(sides, overlap):
    radius = corner_radius(*sides, overlap)
    assert least_overlap(*sides, radius) == pytest.approx(overlap, abs=1e-9)
    assert least_overlap(*sides, radius * 0.99) > overlap > least_overlap(*sides, radius * 1.01)


def test_heat_is_the_maximum_of_gaussians():
    boxes, labels = random_boxes(6, 0), torch.tensor([1, 2, 1, 2, 2, 1])
    targets = corner_targets([boxes[:4], boxes[4:]], [labels[:4], labels[4:]], 2, 16, 16)
    assert targets.image.tolist() == [0, 0, 0, 0, 1, 1]
    for corner in range(2):
        cells = (boxes.view(-1, 2, 2)[:, corner] / 4).floor().clamp(max=15).int().tolist()
        assert targets.cells[corner].tolist() == cells
        for image in range(2):
            for k in range(2):
                mine = [g for g in range(6) if targets.image[g] == image and labels[g] == k + 1]
                sides = np.ceil((boxes[mine, 2:] - boxes[mine, :2]).numpy() / 4)
                radii = [int(corner_radius(h, w, 0.3)) for w, h in sides]
                expected = heat_loop([tuple(cells[g]) for g in mine], radii, 16, 16)
                np.testing.assert_allclose(targets.heat[corner, image, k].numpy(), expected, atol=1e-6)


def test_a_cell_and_its_offset_are_the_corner_also_on_the_far_edge():
    boxes = torch.tensor([[3.0, 5.0, 64.0, 64.0], [0.0, 0.0, 8.0, 9.5]])
    targets = corner_targets([boxes], [torch.tensor([1, 1])], 1, 16, 16)
    corners = (targets.cells + targets.offsets).transpose(0, 1).reshape(2, 4) * 4
    torch.testing.assert_close(corners, boxes)
    assert targets.cells.max() == 15


def test_targets_of_no_boxes_are_empty():
    targets = corner_targets([torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.long)] * 2, 3, 4, 5)
    assert targets.heat.shape == (2, 2, 3, 4, 5)
    assert targets.heat.sum() == 0
    assert targets.cells.shape == (2, 0, 2)


@pytest.mark.parametrize("seed", range(3))
def test_focal_loss_equals_the_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(2, 3, 4, 5, generator=generator)
    heat = torch.rand(2, 3, 4, 5, generator=generator)
    heat[heat > 0.9] = 1.0
    expected = focal_loop(logits.double().numpy(), heat.double().numpy())
    assert corner_focal_loss(logits, heat).item() == pytest.approx(expected, rel=1e-5)
    nothing = focal_loop(logits.double().numpy(), np.zeros((2, 3, 4, 5)))
    assert corner_focal_loss(logits, torch.zeros_like(heat)).item() == pytest.approx(nothing, rel=1e-5)


@pytest.mark.parametrize("counts", [[3, 1, 0], [2], [5, 4]])
def test_pull_and_push_equal_the_loop(counts):
    tags = torch.randn(2, sum(counts), generator=torch.Generator().manual_seed(0))
    image = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    parts = [[part.tolist() for part in corner.double().split(counts)] for corner in tags]
    pull, push = pull_and_push(tags, image, len(counts))
    expected = pull_push_loop(*parts)
    assert (pull.item(), push.item()) == pytest.approx(expected, rel=1e-5)


def test_pull_and_push_by_hand():
    """Tags 1 and 3, and 2 twice: means are 2 and 2, the first is pulled by 1 + 1, and both push each other fully."""
    pull, push = pull_and_push(torch.tensor([[1.0, 2.0], [3.0, 2.0]]), torch.tensor([0, 0]), 1)
    assert (pull.item(), push.item()) == (1.0, 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_all_terms_equal_the_loops(seed):
    boxes = [random_boxes(3, seed), random_boxes(2, seed + 10)]
    labels = [torch.tensor([1, 2, 2]), torch.tensor([3, 1])]
    maps, targets = random_maps(2, 3, 16, 16, seed), corner_targets(boxes, labels, 3, 16, 16)
    found = corner_losses(maps, targets)
    offset, tags = 0.0, []
    for corner in range(2):
        mine = []
        for g, (x, y) in enumerate(targets.cells[corner].tolist()):
            n = int(targets.image[g])
            wanted = targets.offsets[corner, g].double().numpy()
            offset += smooth_l1_loop(maps.offsets[corner, n, :, y, x].double().numpy(), wanted) / 5
            mine.append(maps.tags[corner, n, y, x].item())
        tags.append([mine[:3], mine[3:]])
    pull, push = pull_push_loop(*tags)
    heat = sum(focal_loop(maps.heat[c].double().numpy(), targets.heat[c].double().numpy()) for c in range(2))
    expected = {"heat": heat, "pull": 0.1 * pull, "push": 0.1 * push, "offset": offset}
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_a_plateau_keeps_all_its_peaks_and_a_slope_only_its_top():
    heat = torch.tensor([[[[0.1, 0.2, 0.9], [0.1, 0.3, 0.2], [0.5, 0.5, 0.1]]]])
    assert peaks_only(heat).nonzero()[:, 2:].tolist() == [[0, 2], [2, 0], [2, 1]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("top", "distance"), [(100, 0.5), (8, 2.0)])
def test_pairs_equal_the_loop(seed, top, distance):
    maps = random_maps(2, 2, 6, 7, seed)
    found = pair_corners(maps, top, distance, pairs=1000)
    for n in range(2):
        expected = pairs_loop(
            maps.heat[:, n].sigmoid().double().numpy(), maps.tags[:, n].double().numpy(),
            maps.offsets[:, n].double().numpy(), top, distance,
        )  # fmt: skip
        real = found.scores[n] > 0
        assert real.sum() == len(expected) > 0
        np.testing.assert_allclose(found.scores[n][real].numpy(), [score for score, _, _ in expected], rtol=1e-5)
        assert found.labels[n][real].tolist() == [label for _, label, _ in expected]
        np.testing.assert_allclose(found.boxes[n][real].numpy(), [box for _, _, box in expected], rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_perfect_maps_give_the_boxes_back(seed):
    boxes, labels = random_boxes(5, seed), torch.tensor([1, 2, 3, 1, 2])
    targets = corner_targets([boxes], [labels], 3, 16, 16)
    maps = CornerMaps(torch.logit(targets.heat, 1e-4), torch.zeros(2, 1, 16, 16), torch.zeros(2, 1, 2, 16, 16))
    for corner in range(2):
        for g, (x, y) in enumerate(targets.cells[corner].tolist()):
            maps.tags[corner, 0, y, x] = 2.0 * g
            maps.offsets[corner, 0, :, y, x] = targets.offsets[corner, g]
    found = pair_corners(maps)
    sure = found.scores[0] > 0.99
    order = found.labels[0][sure] * 1e6 + found.boxes[0][sure] @ torch.tensor([1e3, 1e2, 10.0, 1.0])
    wanted = labels * 1e6 + boxes / 4 @ torch.tensor([1e3, 1e2, 10.0, 1.0])
    torch.testing.assert_close(found.boxes[0][sure][order.argsort()] * 4, boxes[wanted.argsort()], atol=1e-4, rtol=0)
