"""The lecture's own examples of upsampling, and one net for all of them."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
import yaml
from experiment_nets import build
from torch.utils.flop_counter import FlopCounterMode

from lightning_cv.cli.experiments import read_yaml, shipped_experiments
from lightning_cv.models import DilatedNet, EncoderDecoder
from lightning_cv.models.segmentation import (
    BedOfNails,
    Bilinear,
    MaxUnpool,
    Nearest,
    PixelShuffle,
    TransposedConv,
)

ALL = [Nearest, BedOfNails, MaxUnpool, Bilinear, TransposedConv, PixelShuffle]
TWO = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
NOWHERE = torch.zeros(1, 1, 2, 2, dtype=torch.int64)


def up(kind, x, places=NOWHERE, size=(4, 4)):
    with torch.no_grad():
        return kind(x.shape[1])(x, places, size)[0, 0].tolist()


def test_nearest_neighbours_of_the_slide():
    assert up(Nearest, TWO) == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


def test_bed_of_nails_of_the_slide():
    assert up(BedOfNails, TWO) == [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]


def test_max_unpooling_of_the_slide():
    """The pool's maxima 5, 6, 7, 8 of a 4 x 4 map; later 1, 2, 3, 4 go back to where those were."""
    before = torch.tensor([[[[1.0, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]]]])
    pooled, places = F.max_pool2d(before, 2, return_indices=True)
    assert pooled[0, 0].tolist() == [[5, 6], [7, 8]]
    assert up(MaxUnpool, TWO, places) == [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]


def test_the_transposed_convolution_of_the_slide():
    """In one dimension, stride 2: the filter (x, y, z) times a, and times b two cells on; they add up.

    Our layer has four taps and drops one cell at the border: a zero before the filter and one after b leave the slide's
    five values. The image is one pixel high, and so is the result, made by the filter's second row.
    """
    x, y, z, a, b = 2.0, 3.0, 5.0, 7.0, 11.0
    layer = TransposedConv(1)
    with torch.no_grad():
        layer.deconv.weight.zero_()[0, 0, 1] = torch.tensor([0.0, x, y, z])
        out = layer(torch.tensor([[[[a, b, 0.0]]]]), NOWHERE, (1, 5))
    assert out.tolist() == [[[[a * x, a * y, a * z + b * x, b * y, b * z]]]]


def test_a_transposed_convolution_begins_as_bilinear_interpolation():
    x = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        learned = TransposedConv(3)(x, NOWHERE, (10, 12))
    expected = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    torch.testing.assert_close(learned[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2])


def test_pixel_shuffle_begins_without_a_checkerboard():
    x = torch.rand(1, 3, 4, 4)
    with torch.no_grad():
        out = PixelShuffle(3)(x, NOWHERE, (8, 8))
    torch.testing.assert_close(out, F.interpolate(out[..., ::2, ::2], scale_factor=2.0, mode="nearest"))


@pytest.mark.parametrize("kind", ALL)
def test_an_odd_size_is_cut(kind):
    x = torch.rand(2, 4, 3, 4)
    _, places = F.max_pool2d(torch.rand(2, 4, 5, 7), 2, ceil_mode=True, return_indices=True)
    assert kind(4)(x, places, (5, 7)).shape == (2, 4, 5, 7)


def test_nets_of_different_upsamplers_share_everything_else():
    states = []
    for kind in ALL:
        torch.manual_seed(0)
        net = EncoderDecoder(5, kind, width=4, depth=2)
        states.append({n: v for n, v in net.state_dict().items() if not n.startswith("upsamplers.")})
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(state[name], states[0][name]) for name in state)


@pytest.mark.parametrize("kind", ALL)
def test_an_encoder_decoder_keeps_any_size_and_trains_all(kind):
    net = EncoderDecoder(5, kind, width=4, depth=3)
    logits = net(torch.rand(2, 3, 37, 50))
    assert logits.shape == (2, 5, 37, 50)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_dilation_sees_as_far_as_the_sum_of_its_rates():
    net = DilatedNet(2, width=3, depth=3).eval()
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    net(image)[0, 0, 32, 32].backward()
    rows = image.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    reach = 1 + 2 + 4 + 8 + 4 + 2 + 1
    assert (rows.min().item(), rows.max().item()) == (32 - reach, 32 + reach)


@pytest.mark.parametrize(
    ("number", "gmacs", "millions", "per_cell"),
    [(0, 0.064, 0.110, 0), (5, 0.066, 0.115, 1), (4, 0.072, 0.130, 4), (6, 0.059, 0.015, None)],
)
def test_the_nets_of_the_comparison_cost_what_its_file_says(number, gmacs, millions, per_cell):
    """By hand: 3x3 convolutions at 64 / 2^level pixels, an upsampler's C^2 multiply-adds `per_cell` of its result."""
    blocks = read_yaml(shipped_experiments() / "sweeps/upsamplers_drawn.yaml")["parameters"]["model.net"]["values"]
    net = build(yaml.safe_load(blocks[number]))
    if per_cell is None:
        by_hand = 64**2 * (9 * 3 * 16 + 6 * 9 * 16 * 16 + 16 * 11)
    else:
        by_hand, channels = 64**2 * 16 * 11, [3, 16, 32, 64]
        for level, (a, b) in enumerate(pairwise(channels)):
            up = a * b + a * a if level else b * b  # of the level below's, before its upsampler; at the top `last`
            by_hand += (64 >> level) ** 2 * 9 * (a * b + b * b + up)
            by_hand += (64 >> level - 1) ** 2 * per_cell * a * a if level else 0
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.requires_grad_(False).eval()(torch.rand(1, 3, 64, 64))
    assert counter.get_total_flops() == 2 * by_hand
    assert by_hand / 1e9 == pytest.approx(gmacs, abs=5e-4)
    assert sum(parameter.numel() for parameter in net.parameters()) / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize("make", [lambda: EncoderDecoder(0, Nearest), lambda: DilatedNet(2, width=0)])
def test_what_cannot_be_is_refused(make):
    with pytest.raises(ValueError, match="at least 1"):
        make()
