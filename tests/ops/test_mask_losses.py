import pytest
import torch
from oracles import queries

from lightning_cv.ops.mask_losses import (
    box_costs,
    corners,
    dice_cost,
    focal_cost,
    middle_and_size,
    resized_masks,
    squared_dice,
)

NUMBERS = torch.Generator().manual_seed(0)


def test_costs_of_every_pair_equal_their_loops():
    masks, true = torch.rand(4, 5, 6, generator=NUMBERS), torch.rand(3, 5, 6, generator=NUMBERS) > 0.5
    expected = [[queries.dice(m, t) for t in true.tolist()] for m in masks.tolist()]
    torch.testing.assert_close(dice_cost(masks, true.float()), torch.tensor(expected))
    logits, labels = torch.randn(4, 6, generator=NUMBERS), torch.tensor([5, 0, 5])
    expected = [[queries.sigmoid_cost(row[label]) for label in labels.tolist()] for row in logits.tolist()]
    torch.testing.assert_close(focal_cost(logits, labels), torch.tensor(expected))
    boxes, wanted = (torch.rand(n, 4, generator=NUMBERS) * 0.5 + 0.1 for n in (4, 3))
    distance, giou = box_costs(boxes, wanted)
    for q, box in enumerate(boxes.tolist()):
        for g, one in enumerate(wanted.tolist()):
            assert distance[q, g].item() == pytest.approx(queries.l1(box, one), abs=1e-5)
            assert giou[q, g].item() == pytest.approx(-queries.giou(box, one), abs=1e-5)


def test_dice_of_pairs_is_the_diagonal_of_all_pairs():
    masks, true = torch.rand(4, 5, 6, generator=NUMBERS), (torch.rand(4, 5, 6, generator=NUMBERS) > 0.5).float()
    torch.testing.assert_close(squared_dice(masks, true), dice_cost(masks, true).diagonal())
    assert squared_dice(true, true).tolist() == pytest.approx([0.0] * 4, abs=1e-6)
    empty = torch.zeros(1, 5, 6, requires_grad=True)
    loss = squared_dice(empty, torch.zeros(1, 5, 6)).sum()
    loss.backward()
    assert loss.item() == 1  # nothing found where nothing is
    assert empty.grad is not None
    assert empty.grad.isfinite().all()


def test_without_things_or_queries_costs_are_empty():
    assert dice_cost(torch.zeros(0, 2, 2), torch.zeros(3, 2, 2)).shape == (0, 3)
    assert focal_cost(torch.zeros(4, 2), torch.zeros(0, dtype=torch.int64)).shape == (4, 0)
    assert [cost.shape for cost in box_costs(torch.rand(4, 4), torch.zeros(0, 4))] == [(4, 0)] * 2
    assert resized_masks(torch.zeros(0, 3, 3, dtype=torch.bool), (2, 2)).shape == (0, 2, 2)


def test_boxes_there_and_back():
    boxes = torch.tensor([[0.0, 10, 40, 30], [5, 5, 6, 7]])
    shares = middle_and_size(boxes, 50, 80)
    assert shares[0].tolist() == pytest.approx([0.25, 0.4, 0.5, 0.4])
    torch.testing.assert_close(corners(shares) * torch.tensor([80.0, 50, 80, 50]), boxes)
