"""The paper's FCN: crops and counts as published, any size, weights from VGG-16 and from coarser strides."""

import pytest
import torch
from torch import nn
from torchvision.models import vgg16
from torchvision.models.vgg import VGG, cfgs, make_layers
from torchvision.transforms.functional import normalize

from lightning_cv.models import FCNVGG
from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD
from lightning_cv.models.backbones.vgg import CAFFE_MEAN, CAFFE_STD
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


def narrow_vgg():
    """torchvision's VGG-16 with the channels of SMALL."""
    torch.manual_seed(0)
    net = VGG(make_layers([item if item == "M" else item // 16 for item in cfgs["D"]]))
    net.classifier = nn.Sequential(
        nn.Linear(32 * 49, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 5)
    )
    return net.eval()


def scale_of(net):
    return [tuple(round(value, 5) for value in part.flatten().tolist()) for part in net.normalise.buffers()]


IMAGENET, CAFFE = ([tuple(round(v, 5) for v in part) for part in parts] for parts in (
    (IMAGENET_MEAN, IMAGENET_STD), (CAFFE_MEAN, CAFFE_STD)
))  # fmt: skip


def test_torchvisions_weights_see_images_in_torchvisions_scale(tmp_path):
    """The map after the last pool is that of torchvision's net on an image that its own transform normalised."""
    vgg, image = narrow_vgg(), torch.rand(1, 3, 64, 64)
    torch.save(vgg.state_dict(), tmp_path / "vgg.pt")
    net = FCNVGG(**SMALL, padding=1, weights=str(tmp_path / "vgg.pt")).eval()
    x = net.normalise(image)
    with torch.no_grad():
        for stage in net.stages:
            x = stage(x)
        torch.testing.assert_close(x, vgg.features(normalize(image, IMAGENET_MEAN, IMAGENET_STD)))


def test_the_scale_is_that_of_the_weights_unless_it_is_stated(tmp_path):
    torch.save(narrow_vgg().state_dict(), tmp_path / "vgg.pt")
    vgg, half = str(tmp_path / "vgg.pt"), {"mean": (0.5,) * 3}
    assert scale_of(FCNVGG(**SMALL)) == CAFFE
    first = FCNVGG(**SMALL, weights=vgg)
    assert scale_of(first) == IMAGENET
    assert scale_of(FCNVGG(**SMALL, weights=vgg, mean=CAFFE_MEAN, std=CAFFE_STD)) == CAFFE
    assert scale_of(FCNVGG(**SMALL, weights=vgg, **half)) == [(0.5,) * 3, IMAGENET[1]]
    torch.save({"state_dict": {f"net.{n}": v for n, v in first.state_dict().items()}}, tmp_path / "32.ckpt")
    assert scale_of(FCNVGG(**SMALL, weights=str(tmp_path / "32.ckpt"))) == IMAGENET
    assert scale_of(FCNVGG(**SMALL, weights=str(tmp_path / "32.ckpt"), **half)) == [(0.5,) * 3, IMAGENET[1]]
    restored = FCNVGG(**SMALL)  # a checkpoint is loaded without the weights that its net began from
    restored.load_state_dict(first.state_dict())
    assert scale_of(restored) == IMAGENET


def test_a_file_without_a_trained_classifier_is_refused(tmp_path):
    state = narrow_vgg().state_dict()
    state["classifier.0.weight"].fill_(torch.nan)  # as in torchvision's IMAGENET1K_FEATURES
    torch.save(state, tmp_path / "vgg.pt")
    with pytest.raises(ValueError, match=r"vgg\.pt: fc\.0\.weight is not finite \(torchvision"):
        FCNVGG(**SMALL, weights=str(tmp_path / "vgg.pt"))
    diverged = FCNVGG(**SMALL).state_dict()
    diverged["fc.0.weight"].fill_(torch.nan)
    torch.save(diverged, tmp_path / "own.ckpt")
    with pytest.raises(ValueError, match=r"own\.ckpt: fc\.0\.weight is not finite$"):
        FCNVGG(**SMALL, weights=str(tmp_path / "own.ckpt"))


def test_scores_of_other_classes_are_not_lost_unasked(tmp_path):
    trained = FCNVGG(**SMALL, stride=16)
    place, other = str(tmp_path / "16.ckpt"), {**SMALL, "num_classes": 5}
    torch.save(trained.state_dict(), place)
    assert not FCNVGG(**other, weights=place).score.weight.any()  # nothing is lost of scores that are zero
    nn.init.ones_(trained.skip_scores[0].weight)
    torch.save(trained.state_dict(), place)
    with pytest.raises(ValueError, match=r"16\.ckpt scores 3 classes, this net 5: keep_scores=false"):
        FCNVGG(**other, weights=place)
    net = FCNVGG(**other, weights=place, keep_scores=False)
    assert torch.equal(net.stages[4][0].weight, trained.stages[4][0].weight)
    assert FCNVGG(**SMALL, weights=place).skip_scores[0].weight.all()
    assert not FCNVGG(**SMALL, weights=place, keep_scores=False).skip_scores[0].weight.any()


def test_learned_filters_are_kept_where_their_factor_is_the_same(tmp_path):
    args = {**SMALL, "padding": 1, "learned_upsampling": True}
    trained, fresh = FCNVGG(**args, stride=16), FCNVGG(**args, stride=8)
    for parameter in (*trained.score.parameters(), *trained.upsamplings.parameters()):
        nn.init.normal_(parameter)
    place, images = str(tmp_path / "16.ckpt"), torch.rand(1, 3, 40, 50)
    torch.save(trained.state_dict(), place)
    again = FCNVGG(**args, stride=16, weights=place)
    torch.testing.assert_close(again.eval()(images), trained.eval()(images), rtol=0, atol=0)
    finer = FCNVGG(**args, stride=8, weights=place).upsamplings
    assert torch.equal(finer[0].weight, trained.upsamplings[0].weight)
    assert torch.equal(finer[2].weight, fresh.upsamplings[2].weight)
    without = FCNVGG(**args, stride=8, weights=place, keep_scores=False).upsamplings
    assert torch.equal(without[0].weight, fresh.upsamplings[0].weight)


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


@pytest.mark.parametrize(("stride", "least"), [(32, 81), (16, 73), (8, 69)])
def test_padding_that_leaves_the_edge_without_scores_is_refused(stride, least):
    for padding in (2, 20, least - 1):
        with pytest.raises(ValueError, match=f"padding {padding} .* at stride {stride} it is 1, or at least {least}"):
            FCNVGG(**SMALL, stride=stride, padding=padding)
    net = FCNVGG(**SMALL, stride=stride, padding=least).eval()
    with torch.no_grad():
        assert net(torch.rand(1, 3, 65, 90)).shape == (1, 3, 65, 90)


def test_an_image_that_is_too_small_for_the_padding_is_told_with_both():
    with pytest.raises(ValueError, match=r"an image of \(20, 64\) px with 70 px of padding is too small for fc6"):
        FCNVGG(**SMALL, padding=70)(torch.rand(1, 3, 20, 64))
    with torch.no_grad():
        assert FCNVGG(**SMALL, padding=97).eval()(torch.rand(1, 3, 1, 1)).shape == (1, 3, 1, 1)


@pytest.mark.parametrize("bad", [{"stride": 4}, {"padding": 0}, {"num_classes": 0}])
def test_what_cannot_be_is_refused(bad):
    with pytest.raises(ValueError, match="FCNVGG"):
        FCNVGG(**{**SMALL, **bad})
