"""Windows one by one and the same net over the whole image: the same logits, at very different cost."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from lightning_cv.models import FullResolution, SlidingWindow
from lightning_cv.ops.windows import windows_around


class LargestTensor(TorchDispatchMode):
    """Bytes of the largest storage that any operation gave, the backward pass included; a view has its base's."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.bytes = max(self.bytes, leaf.untyped_storage().nbytes())
        return out


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


@pytest.mark.parametrize("step", [2, 3, 4, 20])
def test_a_pixel_takes_the_logits_of_the_nearest_window(step):
    _, all_windows = nets()
    _, some = nets(step=step)
    images = torch.rand(2, 3, 9, 12)
    with torch.no_grad():
        whole, coarse = all_windows(images), some(images)

    def nearest(pixel, side):
        return min(range(0, side, step), key=lambda centre: (abs(centre - pixel), -centre))

    expected = torch.stack(
        [torch.stack([whole[:, :, nearest(y, 9), nearest(x, 12)] for x in range(12)], -1) for y in range(9)], -2
    )
    torch.testing.assert_close(coarse, expected)


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


@pytest.mark.parametrize("train", [False, True])
def test_memory_is_that_of_the_windows_at_once_whatever_the_image(train, monkeypatch):
    """By hand: the largest tensor is that of 50 windows, either 3 x 7 x 7 pixels or the first map's 6 x 5 x 5."""
    _, sliding = nets(at_once=50)
    given, classify = [], sliding.net.classify
    monkeypatch.setattr(sliding.net, "classify", lambda windows: given.append(len(windows)) or classify(windows))
    with torch.set_grad_enabled(train), LargestTensor() as largest:
        logits = sliding.train(train)(torch.rand(2, 3, 17, 19))
        if train:
            logits.square().mean().backward()
    assert given == [50] * 12 + [2 * 17 * 19 - 600]
    assert largest.bytes == 4 * 50 * max(3 * 7 * 7, 6 * 5 * 5)
    assert largest.bytes < 4 * 2 * 17 * 19 * 3 * 7 * 7 / 12


@pytest.mark.parametrize("at_once", [1, 7, 90, 10_000])
def test_windows_in_turn_have_the_logits_and_gradients_of_all_together(at_once):
    full, sliding = nets(at_once=at_once)
    images = torch.rand(2, 3, 9, 10)
    sliding(images).square().sum().backward()
    gradients = [p.grad.clone() for p in full.parameters()]
    full.zero_grad()
    windows = windows_around(full.normalise(images), full.window).flatten(0, 2)
    together = full.classify(windows).view(2, 9, 10, 4).permute(0, 3, 1, 2)
    together.square().sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(sliding(images), together, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gradients, [p.grad for p in full.parameters()])


def test_no_images_have_no_logits():
    _, sliding = nets()
    with torch.no_grad():
        assert sliding(torch.rand(0, 3, 5, 6)).shape == (0, 4, 5, 6)


@pytest.mark.parametrize(("step", "at_once"), [(0, 10), (1, 0)])
def test_what_cannot_be_is_refused(step, at_once):
    with pytest.raises(ValueError, match="at least 1"):
        nets(step, at_once)
    with pytest.raises(ValueError, match="at least 1"):
        FullResolution(2, depth=0)
