import math

import pytest
import torch
from oracles.yolo import centre_iou, grid_loop, region_box, region_loop

from lightning_cv.ops.boxes import from_centre_form
from lightning_cv.ops.yolo import (
    NOBODY,
    Objects,
    batch_objects,
    best_anchor,
    cells_of,
    decode_region,
    encode_region,
    region_losses,
    region_owners,
)
from lightning_cv.ops.yolo_v1 import decode_grid, encode_grid, grid_losses, grid_owners, responsible, split_grid

ANCHORS = torch.tensor([[1.0, 1.0], [2.0, 3.0], [4.0, 1.5]])
STRIDE, HEIGHT, WIDTH, CLASSES = 16, 4, 5, 3


def random_objects(generator, images=3, most=5, height=HEIGHT * STRIDE, width=WIDTH * STRIDE):
    """Objects of a batch, and the same as the loops take them; the last image has none."""
    size = torch.tensor([width, height])
    rows, truths = [], []
    for image in range(images):
        count = 0 if image == images - 1 else int(torch.randint(1, most + 1, (), generator=generator))
        form = torch.rand(count, 4, generator=generator) * torch.tensor([0.98, 0.98, 0.6, 0.6]) + 0.01
        if count > 2:
            form[2] = form[1]  # two objects of one shape in one cell
        labels = torch.randint(1, CLASSES + 1, (count,), generator=generator)
        rows.append((torch.full((count,), image), from_centre_form(form) * size.repeat(2), labels))
        truths.append([(tuple(f), int(label) - 1) for f, label in zip(form.tolist(), labels, strict=True)])
    return Objects(*(torch.cat(part) for part in zip(*rows, strict=True))), truths


def region_case(seed, spread=0.7):
    generator = torch.Generator().manual_seed(seed)
    objects, truths = random_objects(generator)
    outputs = torch.randn(3, HEIGHT, WIDTH, len(ANCHORS), 5 + CLASSES, generator=generator) * spread
    return outputs, objects, truths


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("pull", [0.0, 0.01])
def test_region_losses_equal_the_loop(seed, pull):
    outputs, objects, truths = region_case(seed)
    losses = region_losses(outputs, objects, ANCHORS, STRIDE, pull=pull)
    expected = region_loop(outputs.double().numpy(), truths, ANCHORS.tolist(), pull)
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_sure_predictor_that_overlaps_an_object_by_more_than_six_tenths_is_no_fault():
    """The object has the shape of the third anchor, 4 x 1.5 cells, and its centre in column 2: IoU 0.88 with the
    predictor there, 0.68 with that of column 1, 0.52 with that of column 3."""
    objects = Objects(torch.tensor([0]), torch.tensor([[4.0, 28, 68, 52]]), torch.tensor([1]))
    outputs = torch.zeros(1, HEIGHT, WIDTH, 3, 8)
    outputs[..., 4] = 5.0  # all are sure
    sure = 1 / (1 + math.exp(-5))
    for ignore_above, spared in ((0.6, 2), (0.7, 1), (0.5, 3)):
        losses = region_losses(outputs, objects, ANCHORS, STRIDE, ignore_above=ignore_above)
        faults = HEIGHT * WIDTH * 3 - spared
        assert losses["no_object"].item() == pytest.approx(faults * 0.5 * sure**2, rel=1e-5)


def test_region_gradients_are_those_that_darknet_adds_up():
    """Of a lone predictor: scale times miss times the sigmoid's slope; class probabilities minus one-hot."""
    objects = Objects(torch.tensor([0]), torch.tensor([[4.0, 8, 12, 16]]), torch.tensor([2]))
    outputs = torch.tensor([0.3, -0.2, 0.1, 0.4, 0.6, 0.2, 0.5, -0.1]).view(1, 1, 1, 1, 8).requires_grad_()
    losses = region_losses(outputs, objects, torch.tensor([[0.5, 0.5]]), 16)
    sum(losses.values()).backward()
    x, y, objectness = (1 / (1 + math.exp(-v)) for v in (0.3, -0.2, 0.6))
    scale = 2 - 0.25
    overlap = centre_iou((x, y, 0.5 * math.exp(0.1), 0.5 * math.exp(0.4)), (0.5, 0.75, 0.5, 0.5))
    exps = [math.exp(v) for v in (0.2, 0.5, -0.1)]
    expected = [
        scale * (x - 0.5) * x * (1 - x),
        scale * (y - 0.75) * y * (1 - y),
        scale * 0.1,
        scale * 0.4,
        5 * (objectness - overlap) * objectness * (1 - objectness),
        *(value / sum(exps) - (k == 1) for k, value in enumerate(exps)),
    ]
    assert outputs.grad.flatten().tolist() == pytest.approx(expected, rel=1e-4)


def test_of_two_objects_of_one_shape_in_one_cell_the_later_is_learned():
    boxes = torch.tensor([[0.1, 0.1, 1.1, 1.1], [0.3, 0.2, 1.2, 1.3]])
    owners = region_owners(Objects(torch.tensor([0, 0]), boxes, torch.tensor([1, 2])), boxes, ANCHORS, (1, 2, 2))
    assert owners.tolist() == [1, *[NOBODY] * 11]


def test_two_shapes_in_one_cell_are_both_learned():
    boxes = torch.tensor([[0.1, 0.1, 1.1, 1.1], [-0.5, -1.0, 1.5, 2.0]])
    owners = region_owners(Objects(torch.tensor([0, 0]), boxes, torch.tensor([1, 2])), boxes, ANCHORS, (1, 2, 2))
    assert owners.tolist()[:3] == [0, 1, NOBODY]


def test_the_best_anchor_has_the_shape_wherever_the_box_is():
    boxes = torch.tensor([[7.0, 7, 8, 8], [0, 0, 2, 3], [-1, 5, 3, 6]])
    assert best_anchor(boxes, ANCHORS).tolist() == [0, 1, 2]
    assert best_anchor(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[2.0, 1], [1, 2]])).tolist() == [0]


def test_a_centre_on_the_far_edge_belongs_to_the_last_cell():
    row, column = cells_of(torch.tensor([[4.0, 3, 6, 5], [0, 0, 0.5, 0.5]]), 4, 5)
    assert (row.tolist(), column.tolist()) == ([3, 0], [4, 0])


def test_a_decoded_code_is_the_box():
    boxes = from_centre_form(torch.tensor([[0.3, 2.9, 1.5, 0.4], [4.6, 0.1, 6.0, 3.0]]))
    row, column = cells_of(boxes, HEIGHT, WIDTH)
    best = best_anchor(boxes, ANCHORS)
    code = encode_region(boxes, row, column, ANCHORS[best])
    outputs = torch.zeros(1, HEIGHT, WIDTH, len(ANCHORS), 8)
    outputs[0, row, column, best, :4] = torch.cat([code[:, :2].logit(), code[:, 2:]], dim=1)
    torch.testing.assert_close(decode_region(outputs, ANCHORS)[0, row, column, best], boxes, atol=1e-5, rtol=0)


def test_decoded_boxes_equal_the_formula():
    outputs = region_case(0)[0]
    found = decode_region(outputs, ANCHORS)
    x, y, w, h = region_box(outputs[1, 2, 3, 1].tolist(), ANCHORS[1].tolist(), 3, 2, WIDTH, HEIGHT)
    expected = [(x - w / 2) * WIDTH, (y - h / 2) * HEIGHT, (x + w / 2) * WIDTH, (y + h / 2) * HEIGHT]
    assert found[1, 2, 3, 1].tolist() == pytest.approx(expected, rel=1e-5)
    assert decode_region(torch.full((1, 1, 1, 3, 8), 1e4), ANCHORS).isfinite().all()


def test_region_losses_of_no_object_leave_no_output_without_a_gradient():
    outputs = region_case(0)[0].requires_grad_()
    none = Objects(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    losses = region_losses(outputs, none, ANCHORS, STRIDE)
    assert {name for name, value in losses.items() if value.item() != 0} == {"no_object"}
    sum(losses.values()).backward()
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize(
    "box", [[8.0, 8, 8.1, 8.1], [0, 0, 80, 64], [-40, -40, 120, 104]], ids=["tiny", "whole", "huge"]
)
def test_losses_of_odd_boxes_are_finite(box):
    objects = Objects(torch.tensor([0]), torch.tensor([box]), torch.tensor([1]))
    outputs = region_case(0)[0]
    assert all(value.isfinite() for value in region_losses(outputs, objects, ANCHORS, STRIDE).values())
    grid = split_grid(torch.randn(3, 16 * 13), 4, 2, 3)
    assert all(value.isfinite() for value in grid_losses(grid, objects, (64, 80)).values())


# --- YOLO v1


def grid_case(seed, boxes=2, side=4, spread=0.7):
    generator = torch.Generator().manual_seed(seed)
    objects, truths = random_objects(generator, height=96, width=64)
    outputs = torch.randn(3, side * side * (CLASSES + 5 * boxes), generator=generator) * spread
    return outputs, objects, truths


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("boxes", [1, 2, 3])
def test_grid_losses_equal_the_loop(seed, boxes):
    outputs, objects, truths = grid_case(seed, boxes)
    losses = grid_losses(split_grid(outputs, 4, boxes, CLASSES), objects, (96, 64))
    expected = grid_loop(outputs.double().numpy(), truths, 4, boxes, CLASSES)
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_grid_gradients_are_those_that_darknet_adds_up():
    """Scale times miss, of one cell with one box."""
    outputs = torch.tensor([[0.2, 0.7, 0.4, 0.5, 0.25, 0.6, 0.8]]).requires_grad_()  # 2 classes, confidence, box
    objects = Objects(torch.tensor([0]), torch.tensor([[0.0, 0, 10, 5]]), torch.tensor([2]))
    sum(grid_losses(split_grid(outputs, 1, 1, 2), objects, (10, 10)).values()).backward()
    overlap = centre_iou((0.5, 0.25, 0.36, 0.64), (0.5, 0.25, 1.0, 0.5))
    expected = [0.2, -0.3, 0.4 - overlap, 0, 0, 5 * (0.6 - 1), 5 * (0.8 - math.sqrt(0.5))]
    assert outputs.grad[0].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_first_object_of_a_cell_is_learned():
    boxes = torch.tensor([[0.1, 0.1, 0.3, 0.3], [0.15, 0.1, 0.3, 0.3], [0.8, 0.6, 1.0, 1.0]])
    owners = grid_owners(Objects(torch.tensor([0, 0, 0]), boxes, torch.tensor([1, 2, 3])), boxes, 2, 2)
    assert owners.tolist() == [0, 3, 3, 2, 3, 3, 3, 3]


def test_the_box_of_largest_overlap_answers_or_else_the_nearest():
    true = torch.tensor([[0.4, 0.4, 0.6, 0.6]])
    over, under, far = [0.35, 0.35, 0.65, 0.65], [0.4, 0.4, 0.5, 0.5], [0.0, 0.0, 0.1, 0.1]
    best, overlap = responsible(torch.tensor([[under, over, far]]), true)
    assert (best.item(), overlap.item()) == (1, pytest.approx(0.04 / 0.09))
    best, overlap = responsible(torch.tensor([[far, [0.2, 0.2, 0.3, 0.3]]]), true)
    assert (best.item(), overlap.item()) == (1, 0.0)


def test_a_decoded_grid_code_is_the_box():
    boxes = from_centre_form(torch.tensor([[0.3, 0.9, 0.15, 0.4], [0.7, 0.1, 0.6, 0.9]]))
    row, column = cells_of(boxes * 7, 7, 7)
    outputs = torch.zeros(1, 49, 2, 4)
    outputs[0, row * 7 + column, 1] = encode_grid(boxes, 7)
    torch.testing.assert_close(decode_grid(outputs, 7)[0, row * 7 + column, 1], boxes)


def test_the_parts_of_the_output_lie_as_in_the_release():
    parts = split_grid(torch.arange(2.0 * 2 * (3 + 5 * 2))[None], 2, 2, 3)
    assert parts.classes[0, 1].tolist() == [3, 4, 5]
    assert parts.confidences[0, 1].tolist() == [14, 15]
    assert parts.boxes[0, 1, 1].tolist() == [32, 33, 34, 35]


def test_grid_losses_of_no_object_leave_no_output_without_a_gradient():
    outputs = grid_case(0)[0].requires_grad_()
    none = Objects(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    losses = grid_losses(split_grid(outputs, 4, 2, CLASSES), none, (96, 64))
    assert {name for name, value in losses.items() if value.item() != 0} == {"no_object"}
    sum(losses.values()).backward()
    assert outputs.grad.isfinite().all()


# --- which objects count


def test_difficult_objects_crowds_and_specks_are_left_out():
    boxes = torch.tensor([[0.0, 0, 50, 50], [0, 0, 60, 60], [0, 0, 70, 70], [5, 5, 5.05, 90], [9, 9, 9, 30]])
    target = {
        "image_id": "one",
        "boxes": boxes,
        "labels": torch.arange(1, 6),
        "difficult": torch.tensor([False, True, False, False, False]),
        "crowd": torch.tensor([False, False, True, False, False]),
        "original_size": (100, 100),
    }
    empty = target | {name: target[name][:0] for name in ("boxes", "labels", "difficult", "crowd")}
    objects = batch_objects([empty, target], 100, 100, 0.001, train_on_difficult=False)
    assert (objects.image.tolist(), objects.labels.tolist()) == ([1], [1])
    objects = batch_objects([target, target], 100, 100, 0.0, train_on_difficult=True)
    assert objects.image.tolist() == [0, 0, 0, 1, 1, 1]
    assert objects.labels.tolist() == [1, 2, 4, 1, 2, 4]
