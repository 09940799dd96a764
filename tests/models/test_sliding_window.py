"""Windows one by one and the same net over the whole image: the same logits, at very different cost."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lightning_cv.models import FullResolution, SlidingWindow


def nets(step=1, at_once=100, depth=3):
    torch.manual_seed(0)
    full = FullResolution(4, width=6, depth=depth)
    full(torch.rand(2, 3, 16, 16))  # statistics of batches that are not 0 and 1
    return full.eval(), SlidingWindow(full, step, at_once).eval()


def test_logits_agree_on_the_interior_and_only_there():
    full, sliding = nets()
    images = torch.rand(2, 3, 20, 24)
    with torch.no_grad():
        difference = (full(images) - sliding(images)).abs().amax((0, 1))
    assert difference[3:-3, 3:-3].max() < 1e-5
    assert difference[:, 0].max() > 1e-3  # one pads each map with zeros, the other the image alone


def test_a_window_by_hand():
    full, sliding = nets()
    image = torch.rand(1, 3, 9, 9)
    window = full.normalise(image)[..., 1:8, 0:7]  # around row 4, column 3
    with torch.no_grad():
        torch.testing.assert_close(sliding(image)[0, :, 4, 3], full.classify(window)[0])


def test_a_step_repeats_the_logits_of_every_second_window():
    _, all_windows = nets()
    _, every_second = nets(step=2)
    images = torch.rand(1, 3, 9, 10)
    with torch.no_grad():
        whole, coarse = all_windows(images), every_second(images)
    assert coarse.shape == whole.shape
    torch.testing.assert_close(coarse[..., ::2, ::2], whole[..., ::2, ::2])
    assert torch.equal(coarse[..., 1::2, 1::2], coarse[..., : 9 - 1 : 2, ::2])


def test_windows_cost_what_they_share_again_and_again():
    """By hand, multiply-adds of the first layer: 5 x 5 places a window of 7 x 7 against one place a pixel."""
    full, sliding = nets()
    flops = []
    for net in (full, sliding):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.rand(1, 3, 20, 20))
        flops.append(counter.get_total_flops())
    places_full = 20 * 20 * (3 * 6 + 6 * 6 + 6 * 6) * 9 + 20 * 20 * 6 * 4
    places_windows = 20 * 20 * ((25 * 3 * 6 + 9 * 6 * 6 + 1 * 6 * 6) * 9 + 6 * 4)
    assert flops == [2 * places_full, 2 * places_windows]


@pytest.mark.parametrize(("step", "at_once"), [(0, 10), (1, 0)])
def test_what_cannot_be_is_refused(step, at_once):
    with pytest.raises(ValueError, match="at least 1"):
        nets(step, at_once)
    with pytest.raises(ValueError, match="at least 1"):
        FullResolution(2, depth=0)
