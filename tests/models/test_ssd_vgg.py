import math

import pytest
import torch
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from lightning_cv.contracts import Detector
from lightning_cv.models import SSD300, SSD512, ReducedVGG16Backbone
from lightning_cv.models.backbones.ssd_vgg import L2Norm

RATIOS = {300: [[2], [2, 3], [2, 3], [2, 3], [2], [2]], 512: [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]]}
SCALES = {300: [0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05], 512: [0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05]}
STEPS = {300: [8, 16, 32, 64, 100, 300], 512: [8, 16, 32, 64, 128, 256, 512]}
CELLS = {300: [38, 19, 10, 5, 3, 1], 512: [64, 32, 16, 8, 4, 2, 1]}


def narrow(size: int) -> SSD300 | SSD512:
    torch.manual_seed(0)
    fractions = tuple(512 * scale for scale in SCALES[512])
    return SSD300(20, width=4).eval() if size == 300 else SSD512(20, sizes=fractions, width=4).eval()


@pytest.mark.parametrize(("size", "count"), [(300, 8732), (512, 24564)])
@torch.no_grad()
def test_default_boxes_are_the_papers(size, count):
    """Against torchvision's generator with the constants of the released code for VOC."""
    net, images = narrow(size), torch.rand(1, 3, size, size)
    assert [x.shape[-2:] for x in net.features(images)] == [(cells, cells) for cells in CELLS[size]]
    logits, deltas, anchors = net(images)
    assert logits.shape == (1, count, 21)
    assert deltas.shape == (1, count, 4)
    theirs = DefaultBoxGenerator(RATIOS[size], scales=SCALES[size], steps=STEPS[size], clip=False)
    maps = [torch.empty(1, 1, cells, cells) for cells in CELLS[size]]
    (expected,) = theirs(ImageList(images, [(size, size)]), maps)
    torch.testing.assert_close(anchors, expected, atol=1e-3, rtol=0)
    assert isinstance(net, Detector)


def test_the_sizes_of_ssd512_are_whole_pixels_unless_told_otherwise():
    assert SSD512(20, width=4).anchors.sizes == tuple(int(512 * scale) for scale in SCALES[512])


def test_the_maps_equal_torchvisions():
    """The same weights give the same six maps: dilation, rounding of pools, scaled conv4_3 and extra stages."""
    theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21).eval()
    net = SSD300(20).eval()
    ours = [name for name, _ in net.named_parameters()]
    values = list(theirs.backbone.parameters())
    scale = ours.index("features.backbone.norm4.scale")
    order = [name for name in ours if name != ours[scale] and name.startswith("features.")]
    assert len(values) - 1 == len(order)
    with torch.no_grad():
        net.get_parameter(ours[scale]).copy_(values[0] * torch.linspace(0.5, 1.5, 512))
        values[0].copy_(net.get_parameter(ours[scale]))
        for name, value in zip(order, values[1:], strict=True):
            net.get_parameter(name).copy_(value)
        images = torch.rand(1, 3, 300, 300)
        expected = theirs.backbone(net.features.backbone.normalise(images)).values()
        for x, y in zip(net.features(images), expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-3)


def test_the_parameters_of_ssd512_add_up():
    """Layer by layer from the paper's text: 3x3 convolutions unless said otherwise."""

    def conv(inputs: int, outputs: int, kernel: int = 3) -> int:
        return inputs * outputs * kernel**2 + outputs

    vgg = 14_714_688 + 512 + conv(512, 1024) + conv(1024, 1024, 1)
    extra = conv(1024, 256, 1) + conv(256, 512) + conv(512, 128, 1) + conv(128, 256)
    extra += 2 * (conv(256, 128, 1) + conv(128, 256)) + conv(256, 128, 1) + conv(128, 256, 4)
    per_cell = zip((512, 1024, 512, 256, 256, 256, 256), (4, 6, 6, 6, 6, 4, 4), strict=True)
    heads = sum(conv(channels, boxes * (21 + 4)) for channels, boxes in per_cell)
    with torch.device("meta"):
        assert sum(p.numel() for p in SSD512(20).parameters()) == vgg + extra + heads == 27_188_676


def test_l2norm_equals_the_loop():
    layer, x = L2Norm(3), torch.randn(2, 3, 2, 2)
    torch.nn.init.normal_(layer.scale)
    for n in range(2):
        for i in range(2):
            for j in range(2):
                length = math.sqrt(sum(v**2 for v in x[n, :, i, j].tolist()))
                wanted = [s * v / length for s, v in zip(layer.scale.tolist(), x[n, :, i, j].tolist(), strict=True)]
                assert layer(x)[n, :, i, j].tolist() == pytest.approx(wanted, rel=1e-5)


def test_l2norm_of_a_dead_cell_is_zero_and_trains_on():
    x = torch.zeros(1, 3, 1, 1, requires_grad=True)
    out = L2Norm(3)(x)
    out.sum().backward()
    assert out.abs().sum() == 0
    assert torch.isfinite(x.grad).all()


@pytest.fixture
def vgg_state() -> dict[str, torch.Tensor]:
    """A narrow VGG-16 under torchvision's names, classifier of 16 channels."""
    torch.manual_seed(1)
    net = ReducedVGG16Backbone(width=2, hidden=4)
    state = {}
    numbers = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    convs = [layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d)]
    for number, conv in zip(numbers, convs, strict=False):
        state[f"features.{number}.weight"] = torch.randn_like(conv.weight)
        state[f"features.{number}.bias"] = torch.randn_like(conv.bias)
    return state | {
        "classifier.0.weight": torch.randn(16, 16 * 49),
        "classifier.0.bias": torch.randn(16),
        "classifier.3.weight": torch.randn(16, 16),
        "classifier.3.bias": torch.randn(16),
    }


def test_torchvisions_weights_are_thinned_out(vgg_state, tmp_path):
    torch.save(vgg_state, tmp_path / "vgg.pth")
    net = ReducedVGG16Backbone(width=2, hidden=4, weights=str(tmp_path / "vgg.pth"))
    fc6, fc7 = net.fc[0], net.fc[2]
    for out in range(4):
        assert fc6.bias[out] == vgg_state["classifier.0.bias"][4 * out]
        for c, i, j in [(0, 0, 0), (3, 1, 2), (15, 2, 1)]:
            assert fc6.weight[out, c, i, j] == vgg_state["classifier.0.weight"][4 * out, c * 49 + 3 * i * 7 + 3 * j]
        for inner in range(4):
            assert fc7.weight[out, inner] == vgg_state["classifier.3.weight"][4 * out, 4 * inner]
    assert torch.equal(net.to_pool5[1].weight, vgg_state["features.24.weight"])


def test_weights_of_the_convolutions_alone_and_blue_first(vgg_state, tmp_path):
    bare = {n.removeprefix("features."): v for n, v in vgg_state.items() if n.startswith("features.")}
    torch.save(bare, tmp_path / "bare.pth")
    net = ReducedVGG16Backbone(width=2, hidden=4, weights=str(tmp_path / "bare.pth"), blue_first=True)
    assert torch.equal(net.to_conv4[0].weight, bare["0.weight"].flip(1))
    assert torch.equal(net.to_conv4[2].weight, bare["2.weight"])


def test_other_weights_are_refused(vgg_state, tmp_path):
    path = str(tmp_path / "vgg.pth")
    with pytest.raises(ValueError, match="no weights at"):
        ReducedVGG16Backbone(weights=path)
    torch.save(vgg_state, path)
    with pytest.raises(ValueError, match=r"layer 0 of .* is \(2, 3, 3, 3\), ours \(4, 3, 3, 3\)"):
        ReducedVGG16Backbone(width=4, hidden=4, weights=path)
    del vgg_state["features.5.weight"]
    torch.save(vgg_state, path)
    with pytest.raises(ValueError, match="holds 14 of VGG-16's 15 layers"):
        ReducedVGG16Backbone(width=2, hidden=4, weights=path)


@pytest.mark.slow
def test_a_step_of_the_published_net():
    net = SSD300(20)
    target = {"image_id": "a", "boxes": torch.tensor([[20.0, 30.0, 200.0, 250.0]]), "labels": torch.tensor([7]),
              "difficult": torch.tensor([False]), "original_size": (300, 300)}  # fmt: skip
    loss = sum(net.losses(torch.rand(1, 3, 300, 300), [target]).values())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
