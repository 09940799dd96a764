"""The paper's FCN: crops and counts as published, any size, weights from VGG-16 and from coarser strides."""

import pytest
import torch
from torchvision.models import vgg16

from lightning_cv.models import FCNVGG
from lightning_cv.models.segmentation.fcn_vgg import Grid, _crops

SMALL = {"num_classes": 3, "width": 4, "hidden": 8}


@pytest.mark.parametrize(
    ("factors", "published"), [([32], [19]), ([2, 16], [5, 27]), ([2, 2, 8], [5, 9, 31])], ids=["32s", "16s", "8s"]
)
def test_crops_are_those_of_the_released_nets(factors, published):
    assert _crops(100, 0, factors) == published


def test_a_grid_says_where_cells_lie():
    """By hand: a pool of 2 makes cells centred between two pixels; a transposed convolution takes that back."""
    pooled = Grid(1, 0).conv(2, 0, stride=2)
    assert pooled == Grid(2, 0.5)
    assert pooled.conv(3, 1) == pooled
    assert pooled.deconv(2) == Grid(1, -1.0)  # its first cell lies a pixel before the image
    assert pooled.deconv(2).steps_to(Grid(1, 0)) == -1


@pytest.mark.parametrize("padding", [100, 1])
@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("size", [(1, 1), (33, 50), (97, 64)])
def test_logits_have_the_images_size(padding, stride, size):
    net = FCNVGG(**SMALL, stride=stride, padding=padding).eval()
    with torch.no_grad():
        assert net(torch.rand(1, 3, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("padding", [100, 1])
@pytest.mark.parametrize("stride", [32, 16, 8])
def test_maps_lie_where_the_image_has_them(padding, stride):
    """With bilinear upsampling and one score that is a map's brightness, a ramp across the image comes out as a ramp.

    A crop that is off by a cell would shift the ramp by `stride` pixels, or break it where maps of two strides meet.
    """
    net = FCNVGG(num_classes=2, stride=stride, padding=padding, width=4, hidden=8, mean=(0.0,) * 3, std=(1.0,) * 3)
    net.eval()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if not name.startswith("upsamplings"):
                weight.zero_()
        convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
        for conv in convolutions:
            middle = conv.kernel_size[0] // 2
            conv.weight[0, 0, middle, middle] = 1.0  # the first channel is handed on as it is
    ramp = torch.arange(512.0).expand(1, 3, 512, 512)
    with torch.no_grad():
        out = net(ramp)[0, 0]
    middle = out[256, 192:320]
    steps = {32: 1.0, 16: 2.0, 8: 3.0}[stride]  # how many maps are summed
    pooled_up = middle / steps - torch.arange(192.0, 320.0)  # pools take the maximum, the last pixel of a cell
    assert pooled_up.std() < stride / 3
    shift = {32: 15.5, 16: (15.5 + 7.5) / 2, 8: (15.5 + 7.5 + 3.5) / 3}[stride]
    assert pooled_up.mean() == pytest.approx(shift, abs=0.6)


def test_untrained_scores_are_zero_and_fixed_upsampling_gets_no_gradient():
    net = FCNVGG(**SMALL, stride=8, padding=1)
    logits = net(torch.rand(1, 3, 64, 64))
    assert logits.abs().max() == 0
    assert not any(parameter.requires_grad for parameter in net.upsamplings.parameters())
    assert all(p.requires_grad for p in FCNVGG(**SMALL, learned_upsampling=True).upsamplings.parameters())


def test_skip_scales_multiply_what_is_scored():
    torch.manual_seed(0)
    plain, scaled = (FCNVGG(**SMALL, padding=1, skip_scales=scales).eval() for scales in ((1, 1), (0.01, 0.0001)))
    for net in (plain, scaled):
        net.load_state_dict(plain.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for score in plain.skip_scores:
            score.weight.normal_()
        scaled.load_state_dict(plain.state_dict())
        for score, factor in zip(scaled.skip_scores, (100, 10000), strict=True):
            score.weight *= factor
        torch.testing.assert_close(plain(images), scaled(images), rtol=1e-4, atol=1e-5)


def test_vgg_weights_become_convolutions_and_fully_connected_layers(tmp_path):
    """The whole net at its published width on the meta device, filled from a file of torchvision's own naming."""
    theirs = vgg16(weights=None).features[:3].state_dict()
    theirs = {f"features.{name}": value for name, value in theirs.items()}
    small = FCNVGG(num_classes=2, width=64, hidden=4)
    own = small.state_dict()
    names = [name for name in own if name.startswith("stages.")]
    rest = dict(zip([n for n in vgg16_names() if n not in theirs], names[len(theirs) :], strict=True))
    state = theirs | {their: torch.randn_like(own[ours]) for their, ours in rest.items()}
    fc6, fc7 = torch.randn(4, 512 * 49), torch.randn(4, 4)
    state |= {"classifier.0.weight": fc6, "classifier.0.bias": torch.ones(4)}
    state |= {"classifier.3.weight": fc7, "classifier.3.bias": torch.zeros(4), "classifier.6.weight": torch.zeros(9, 4)}
    torch.save(state, tmp_path / "vgg.pt")
    net = FCNVGG(num_classes=2, width=64, hidden=4, weights=str(tmp_path / "vgg.pt"))
    assert torch.equal(net.stages[0][0].weight, state["features.0.weight"])
    assert torch.equal(net.stages[4][4].bias, state["features.28.bias"])
    maps = torch.randn(1, 512, 7, 7)
    torch.testing.assert_close(net.fc[0](maps).flatten(), fc6 @ maps.flatten() + 1, rtol=1e-4, atol=1e-3)
    assert torch.equal(net.fc[3].weight.flatten(1), fc7)


def vgg16_names():
    with torch.device("meta"):
        return [name for name in vgg16(weights=None).state_dict() if name.startswith("features.")]


def test_a_finer_net_goes_on_from_a_coarser_ones_checkpoint(tmp_path):
    coarse = FCNVGG(**SMALL, stride=16, padding=1)
    torch.nn.init.normal_(coarse.score.weight)
    state = {f"net.{name}": value for name, value in coarse.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "16.ckpt")
    fine = FCNVGG(**SMALL, stride=8, padding=1, weights=str(tmp_path / "16.ckpt"))
    assert torch.equal(fine.score.weight, coarse.score.weight)
    assert torch.equal(fine.stages[2][0].weight, coarse.stages[2][0].weight)
    assert fine.skip_scores[1].weight.abs().max() == 0
    with pytest.raises(ValueError, match=r"30 of 30 tensors are missing or of another shape"):
        FCNVGG(num_classes=3, width=8, hidden=16, weights=str(tmp_path / "16.ckpt"))
    with pytest.raises(ValueError, match="no weights at"):
        FCNVGG(**SMALL, weights=str(tmp_path / "none.ckpt"))


@pytest.mark.parametrize("bad", [{"stride": 4}, {"padding": 0}, {"num_classes": 0}])
def test_what_cannot_be_is_refused(bad):
    with pytest.raises(ValueError, match="FCNVGG"):
        FCNVGG(**{**SMALL, **bad})
