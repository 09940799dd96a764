"""What stands between maps and the vector of a region, and the backbones under two-stage nets."""

from functools import partial

import pytest
import torch
from torch import nn
from two_stage_nets import CLASSES, batch

from lightning_cv.models import FPN, FasterRCNN, RoIAlign, SmallBackbone, TwoLinearHead
from lightning_cv.models.backbones import TimmBackbone, VGG16Backbone
from lightning_cv.models.detection.region_features import RoIPool, TimmStageHead, TruncatedLinear, truncated_svd
from lightning_cv.models.detection.roi_heads import BoxBranch
from lightning_cv.models.detection.rpn import RPN
from lightning_cv.ops.anchors import RegionAnchors


def test_truncated_svd_is_the_nearest_of_its_rank() -> None:
    weight = torch.diag(torch.tensor([3.0, 2.0, 1.0])) @ torch.eye(3, 5)
    first, second = truncated_svd(weight, 2)
    assert (first.shape, second.shape) == ((2, 5), (3, 2))
    expected = weight.clone()
    expected[2, 2] = 0
    torch.testing.assert_close(second @ first, expected)


def test_layers_are_truncated_in_evaluation_only_and_follow_new_weights() -> None:
    torch.manual_seed(0)
    layer, x = TruncatedLinear(6, 5, rank=5), torch.rand(3, 6)
    whole = nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer.eval()(x), whole)  # of full rank: the same
    layer.rank = 2
    layer._factors = None
    thin = layer(x)
    assert not torch.allclose(thin, whole, atol=1e-3)
    torch.testing.assert_close(layer.train()(x), whole)
    layer.eval().load_state_dict({name: 2 * value for name, value in layer.state_dict().items()})
    torch.testing.assert_close(layer(x), 2 * thin)
    assert TwoLinearHead(2, 3, hidden=8, ranks=(4, 2)).state_dict().keys() == TwoLinearHead(2, 3, 8).state_dict().keys()
    with pytest.raises(ValueError, match="rank must be 1 to 5"):
        TruncatedLinear(6, 5, rank=6)


@pytest.mark.parametrize("change", ["fused", "averaged", "loaded"])
def test_factors_follow_weights_whose_version_does_not_change(change: str) -> None:
    torch.manual_seed(0)
    layer, x = TruncatedLinear(6, 5, rank=5).eval(), torch.rand(3, 6)
    with torch.inference_mode():
        layer(x)
    if change == "fused":
        layer.weight.grad = torch.ones_like(layer.weight)
        torch.optim.AdamW([layer.weight], lr=0.5, fused=True).step()
    elif change == "averaged":
        layer.weight.data.copy_(torch.rand(5, 6))
    else:
        layer.load_state_dict(TruncatedLinear(6, 5).state_dict())
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias), atol=1e-5, rtol=0)


def test_a_frozen_truncated_layer_lets_gradients_through_after_an_evaluation() -> None:
    layer, x = TruncatedLinear(6, 5, rank=3).eval().requires_grad_(False), torch.rand(3, 6, requires_grad=True)
    with torch.inference_mode():
        layer(torch.rand(2, 6))
    layer(x).sum().backward()
    assert x.grad is not None


def test_vgg_gives_conv5_and_the_head_its_classifier(tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    layers = {"classifier.0": (8, 16 * 9), "classifier.3": (8, 8)}
    state = {
        f"{name}.{kind}": torch.rand(*shape[: 2 if kind == "weight" else 1])
        for name, shape in layers.items()
        for kind in ("weight", "bias")
    }
    torch.save(state, tmp_path / "vgg.pth")
    head = TwoLinearHead(16, 3, hidden=8, weights=str(tmp_path / "vgg.pth"))
    assert torch.equal(head.fc7.weight, state["classifier.3.weight"])
    with pytest.raises(ValueError, match=r"layer 1 is not of shape \(9, 144\)"):
        TwoLinearHead(16, 3, hidden=9, weights=str(tmp_path / "vgg.pth"))
    backbone = VGG16Backbone(pools=[5], width=2, last_pool=False, frozen_stages=2)
    assert backbone.strides == [16]
    assert backbone(torch.rand(1, 3, 64, 50))[0].shape == (1, 16, 4, 4)
    trained = [p.requires_grad for p in backbone.features.parameters()]
    assert trained == [False] * 8 + [True] * 18
    pooled = VGG16Backbone(pools=[5], width=2)
    pooled.load_state_dict(backbone.state_dict())
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(nn.functional.max_pool2d(backbone(images)[0], 2), pooled(images)[0])
    with pytest.raises(ValueError, match="frozen_stages must be 0 to 5"):
        VGG16Backbone(pools=[5], frozen_stages=6)


def test_a_net_stands_on_the_fourth_stage_of_a_resnet() -> None:
    """ResNet-C4: the fifth stage is the head."""
    torch.manual_seed(0)
    backbone = TimmBackbone("resnet18", out_indices=[3], freeze_norm=True, freeze_norm_scale=True)
    head = partial(TimmStageHead, name="resnet18", freeze_norm=True)
    net = FasterRCNN(
        backbone,
        CLASSES,
        partial(RPN, anchors=RegionAnchors([[32, 64]]), samples=32),
        partial(BoxBranch, reader=RoIAlign(4), head=head, samples=8, background=(0.0, 0.5)),
    ).train()
    assert not any(module.training for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    images, targets = batch()
    torch.stack(list(net.losses(images[:1], targets[:1]).values())).sum().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
    assert net.boxes.head.stages[0][0].downsample[0].weight.grad.abs().sum() > 0  # type: ignore[union-attr,operator]
    with pytest.raises(ValueError, match="layer4 takes 256 channels, the map has 64"):
        TimmStageHead(64, 4, name="resnet18")


def test_maps_of_different_channels_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="RPN: maps share its layers"):
        RPN([4, 8], [8, 16], RegionAnchors([[8], [16]]))
    with pytest.raises(ValueError, match="RoIPool: maps that are read need the same channels"):
        BoxBranch([4, 8], [8, 16], 3)
    assert BoxBranch([4, 8], [8, 16], 3, reader=RoIPool(maps=1)).head.fc6.in_features == 4 * 49  # type: ignore[union-attr]


def test_a_pyramid_may_end_without_relu_and_in_a_pooled_map() -> None:
    torch.manual_seed(0)
    backbone = SmallBackbone(width=4, strides=[8, 16])
    plain, ended = FPN(backbone, 8, pooled_levels=1, relu=False), FPN(backbone, 8)
    ended.load_state_dict(plain.state_dict())
    plain, ended = plain.eval(), ended.eval()
    images = torch.rand(1, 3, 64, 48)
    maps = plain(images)
    assert plain.strides == [8, 16, 32]
    assert [tuple(x.shape[-2:]) for x in maps] == [(8, 6), (4, 3), (2, 2)]
    assert torch.equal(maps[2], nn.functional.max_pool2d(maps[1], 1, 2))
    assert all((x < 0).any() for x in maps)
    for x, y in zip(maps, ended(images), strict=False):
        torch.testing.assert_close(x.relu(), y)
