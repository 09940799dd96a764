"""DeconvNet's way down and up, and unpooling by the recorded places."""

import pytest
import torch
from torchvision.models import vgg16, vgg16_bn

from lightning_cv.models import FCNVGG, DeconvNet
from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD
from lightning_cv.models.backbones.vgg import CAFFE_MEAN, CAFFE_STD


def test_the_paths_sizes_are_those_of_the_figure():
    """224 -> 7 -> 1 -> 7 -> 224, of the paper's size, without memory."""
    with torch.device("meta"):
        net = DeconvNet(21).eval()
    sizes = []
    for part in (*net.down, *net.fc, *net.up):
        part.register_forward_hook(lambda _, inputs, output: sizes.append((inputs[0].shape[-1], output.shape[1:])))
    logits = net(torch.empty(1, 3, 224, 224, device="meta"))
    assert logits.shape == (1, 21, 224, 224)
    assert [side for side, _ in sizes] == [224, 112, 56, 28, 14, 7, 1, 1, 14, 28, 56, 112, 224]
    shapes = [tuple(shape) for _, shape in sizes]
    assert shapes[5:8] == [(4096, 1, 1), (4096, 1, 1), (512, 7, 7)]
    assert [shape[0] for shape in shapes[8:]] == [512, 256, 128, 64, 64]


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (33, 33)])
def test_logits_have_the_images_size(size):
    net = DeconvNet(3, width=4, hidden=8, kernel=2).eval()
    with torch.no_grad():
        assert net(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_values_go_back_to_where_the_maxima_were():
    net = DeconvNet(2, width=2, hidden=4, kernel=1).eval()
    seen = {}
    net.down[0].register_forward_hook(lambda _, __, output: seen.update(before=output))
    net.up[4].register_forward_hook(lambda _, inputs, __: seen.update(unpooled=inputs[0]))
    with torch.no_grad():
        net(torch.rand(1, 3, 32, 32))
    groups = seen["before"].unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)  # (1, C, 16, 16, 4)
    filled = (seen["unpooled"] != 0).unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    assert (filled.sum(-1) <= 1).all()
    assert filled.any()
    assert torch.equal(filled.long().argmax(-1)[filled.any(-1)], groups.argmax(-1)[filled.any(-1)])


def test_batches_are_normalised_with_the_releases_shift():
    net = DeconvNet(2, width=2, hidden=4)
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 13 + 3 + 13
    assert all(torch.equal(norm.bias, torch.full_like(norm.bias, 0.001)) for norm in norms)


def test_an_image_that_is_too_small_is_told_with_its_size():
    with pytest.raises(ValueError, match=r"about 224 px a side, got \(64, 64\)"):
        DeconvNet(2, width=2, hidden=4).eval()(torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="num_classes and kernel are at least 1"):
        DeconvNet(0)


SMALL = {"num_classes": 3, "width": 4, "hidden": 8, "kernel": 2}


def test_stage_2_goes_on_from_a_checkpoint_of_stage_1(tmp_path):
    first = DeconvNet(**SMALL)
    first.fc[1][1].running_mean.fill_(7.0)
    torch.save(
        {"state_dict": {f"net.{name}": value for name, value in first.state_dict().items()}}, tmp_path / "1.ckpt"
    )
    second = DeconvNet(**SMALL, weights=str(tmp_path / "1.ckpt"))
    state = second.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first.state_dict().items())
    with pytest.raises(ValueError, match=r"1\.ckpt: \d+ of \d+ tensors are missing or of another shape"):
        DeconvNet(**{**SMALL, "hidden": 9}, weights=str(tmp_path / "1.ckpt"))
    with pytest.raises(ValueError, match="no weights at"):
        DeconvNet(**SMALL, weights=str(tmp_path / "none"))


@pytest.mark.parametrize("model", [vgg16, vgg16_bn])
def test_the_way_down_can_begin_from_vgg(model, tmp_path):
    """torchvision's net at its own width on the meta device says the names and order; small tensors fill them."""
    with torch.device("meta"):
        layout = {name: value.shape for name, value in model(weights=None).state_dict().items()}
    state = {}
    for name, shape in layout.items():
        if name.startswith("features"):
            small = [max(side // 16, 1) if side > 3 else side for side in shape]
            state[name] = torch.randn(small)
    state |= {"classifier.0.weight": torch.randn(8, 32 * 2 * 2), "classifier.0.bias": torch.randn(8)}
    state |= {"classifier.3.weight": torch.randn(8, 8), "classifier.3.bias": torch.randn(8)}
    torch.save(state, tmp_path / "vgg.pt")
    net = DeconvNet(**SMALL, weights=str(tmp_path / "vgg.pt"))
    convolutions = [layer for stage in net.down for layer in stage.modules() if isinstance(layer, torch.nn.Conv2d)]
    theirs = [name for name, value in state.items() if value.ndim == 4]
    assert len(convolutions) == len(theirs) == 13
    for layer, name in zip(convolutions, theirs, strict=True):
        assert torch.equal(layer.weight, state[name])
        assert torch.equal(layer.bias, state[name.replace("weight", "bias")])
    maps = torch.randn(1, 32, 2, 2)
    expected = state["classifier.0.weight"] @ maps.flatten() + state["classifier.0.bias"]
    torch.testing.assert_close(net.fc[0][0](maps).flatten(), expected)
    assert torch.equal(net.fc[1][0].bias, state["classifier.3.bias"])
    assert_scale(net, IMAGENET_MEAN, IMAGENET_STD)
    assert_scale(DeconvNet(**SMALL, weights=str(tmp_path / "vgg.pt"), mean=CAFFE_MEAN), CAFFE_MEAN, IMAGENET_STD)
    torch.save(net.state_dict(), tmp_path / "1.ckpt")
    assert_scale(DeconvNet(**SMALL, weights=str(tmp_path / "1.ckpt")), IMAGENET_MEAN, IMAGENET_STD)
    assert_scale(DeconvNet(**SMALL, weights=str(tmp_path / "1.ckpt"), std=CAFFE_STD), IMAGENET_MEAN, CAFFE_STD)
    assert_scale(DeconvNet(**SMALL), CAFFE_MEAN, CAFFE_STD)
    state["classifier.3.bias"].fill_(torch.nan)
    torch.save(state, tmp_path / "vgg.pt")
    with pytest.raises(ValueError, match=r"fc\.1\.0\.bias is not finite"):
        DeconvNet(**SMALL, weights=str(tmp_path / "vgg.pt"))


def assert_scale(net, mean, std):
    torch.testing.assert_close(net.normalise.mean.flatten(), torch.tensor(mean))
    torch.testing.assert_close(net.normalise.std.flatten(), torch.tensor(std))


def test_the_way_down_can_begin_from_an_fcns_checkpoint(tmp_path):
    fcn = FCNVGG(3, width=4, hidden=8, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    torch.save({"state_dict": {f"net.{n}": value for n, value in fcn.state_dict().items()}}, tmp_path / "fcn.ckpt")
    net = DeconvNet(3, width=4, hidden=8, weights=str(tmp_path / "fcn.ckpt"))  # of kernel 7, as fc6
    theirs = [layer for layer in (*fcn.stages.modules(), *fcn.fc) if isinstance(layer, torch.nn.Conv2d)]
    ours = [layer for layer in (*net.down.modules(), *net.fc[:2].modules()) if isinstance(layer, torch.nn.Conv2d)]
    for own, given in zip(ours, theirs, strict=True):
        assert torch.equal(own.weight, given.weight)
        assert torch.equal(own.bias, given.bias)
    assert_scale(net, IMAGENET_MEAN, IMAGENET_STD)
    with pytest.raises(ValueError, match="1 of 32 tensors are missing or of another shape"):
        DeconvNet(**SMALL, weights=str(tmp_path / "fcn.ckpt"))


def test_statistics_are_computed_anew_for_trained_weights(tmp_path):
    """Evaluation normalises by the means over all batches, not by what the file holds."""
    torch.save(DeconvNet(**SMALL).state_dict() | {"down.0.0.1.running_mean": torch.full((4,), 9.0)}, tmp_path / "1")
    net = DeconvNet(**SMALL, weights=str(tmp_path / "1"), fresh_statistics=True).train()
    conv, norm = net.down[0][0][:2]
    batches = torch.rand(5, 2, 3, 64, 64)
    with torch.no_grad():
        seen = [conv(net.normalise(batch)) for batch in batches]
        for batch in batches:
            net(batch)
    expected = torch.stack([one.mean(dim=(0, 2, 3)) for one in seen]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, expected)
    expected = torch.stack([one.var(dim=(0, 2, 3)) for one in seen]).mean(dim=0)
    torch.testing.assert_close(norm.running_var, expected)
    assert DeconvNet(**SMALL, weights=str(tmp_path / "1")).down[0][0][1].running_mean[0] == 9
