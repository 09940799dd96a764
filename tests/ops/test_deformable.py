import math

import pytest
import torch
from oracles.deformable import attend

from lightning_cv.ops.deformable import cell_centres, deformable_attention, sine_positions

SIZES = [(3, 5), (2, 3), (1, 1)]


def drawn(images=2, queries=4, heads=2, points=3, channels=2, far=0.0):
    numbers = torch.Generator().manual_seed(0)
    cells = sum(h * w for h, w in SIZES)
    values = torch.randn(images, cells, heads, channels, generator=numbers, dtype=torch.float64)
    places = torch.rand(images, queries, heads, 3, points, 2, generator=numbers, dtype=torch.float64) * (1 + far) - far
    weights = torch.rand(images, queries, heads, 3, points, generator=numbers, dtype=torch.float64)
    return values, places, weights


@pytest.mark.parametrize("far", [0.0, 0.6], ids=["inside", "partly outside"])
def test_deformable_attention_equals_its_loops(far):
    values, places, weights = drawn(far=far)
    found = deformable_attention(values, SIZES, places, weights)
    for image in range(2):
        expected = attend(values[image].tolist(), SIZES, places[image].tolist(), weights[image].tolist())
        torch.testing.assert_close(found[image], torch.tensor(expected, dtype=torch.float64))


def test_a_place_in_the_middle_of_a_cell_reads_that_cell():
    values = torch.arange(6.0).view(1, 6, 1, 1)
    places = cell_centres([(2, 3)], torch.device("cpu")).view(1, 6, 1, 1, 1, 2)
    found = deformable_attention(values, [(2, 3)], places, torch.ones(1, 6, 1, 1, 1))
    torch.testing.assert_close(found.flatten(), torch.arange(6.0))


def test_no_queries_and_gradients():
    values, places, weights = drawn(queries=0)
    assert deformable_attention(values, SIZES, places, weights).shape == (2, 0, 4)
    values, places, weights = (x.requires_grad_() for x in drawn(images=1, queries=2, points=1))
    assert torch.autograd.gradcheck(lambda *x: deformable_attention(x[0], SIZES, x[1], x[2]), (values, places, weights))


def test_codes_of_places_by_hand():
    codes = sine_positions([(1, 2)], 8, torch.device("cpu"))
    y, x = math.pi, 2 * math.pi * 0.75  # of the second cell, whose middle is at 0.5 and 0.75
    slow = 10_000**0.5
    expected = [math.sin(y), math.cos(y), math.sin(y / slow), math.cos(y / slow)]
    expected += [math.sin(x), math.cos(x), math.sin(x / slow), math.cos(x / slow)]
    assert codes[1].tolist() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        sine_positions([(1, 2)], 6, torch.device("cpu"))
