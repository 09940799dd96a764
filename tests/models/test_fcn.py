import pytest
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser

from lightning_cv.contracts import VOID, SegmentationNet
from lightning_cv.models import FCN, FPN, SmallBackbone, TimmBackbone, VGG16Backbone
from lightning_cv.models.segmentation.fcn import BilinearUpsample

NETS = {
    "small": lambda: FCN(SmallBackbone(width=4, strides=(4, 8, 16)), num_classes=3, stride=4),
    "fpn": lambda: FCN(FPN(SmallBackbone(width=4), channels=8), num_classes=3, stride=8),
    "vgg 32s": lambda: FCN(VGG16Backbone(pools=(5,), width=4), num_classes=3, stride=32),
    "vgg 16s": lambda: FCN(VGG16Backbone(pools=(4, 5), width=4), num_classes=3, stride=16),
    "vgg 8s": lambda: FCN(VGG16Backbone(pools=(3, 4, 5), width=4), num_classes=3, stride=8),
    "timm": lambda: FCN(TimmBackbone(out_indices=(2, 3)), num_classes=3, stride=8),
}


@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
@pytest.mark.parametrize(("height", "width"), [(64, 96), (37, 101)])
def test_logits_have_the_images_own_size(build, height, width):
    net = build().eval()
    assert net(torch.rand(2, 3, height, width)).shape == (2, 3, height, width)
    assert isinstance(net, SegmentationNet)


@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_every_parameter_gets_a_gradient(build):
    torch.manual_seed(0)
    net = build()
    F.cross_entropy(net(torch.rand(2, 3, 64, 64)), torch.randint(0, 3, (2, 64, 64))).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    for name, parameter in net.scores.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("factor", [2, 8])
def test_the_untrained_upsampling_is_bilinear_up_to_the_edge(factor):
    maps = torch.rand(2, 3, 5, 4)
    expected = F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
    torch.testing.assert_close(BilinearUpsample(3, factor)(maps), expected)


def test_scores_are_fused_from_coarse_to_fine():
    torch.manual_seed(0)
    net = NETS["vgg 8s"]().eval()
    images = torch.rand(1, 3, 64, 96)
    fine, middle, coarse = (score(x) for score, x in zip(net.scores, net.backbone(images), strict=True))

    def up(x: torch.Tensor, factor: int) -> torch.Tensor:
        return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)

    torch.testing.assert_close(net(images), up(fine + up(middle + up(coarse, 2), 2), 8), atol=1e-6, rtol=1e-4)


def test_a_coarser_stride_leaves_finer_maps_out():
    net = FCN(VGG16Backbone(pools=(3, 4, 5), width=4), num_classes=2, stride=16)
    assert len(net.scores) == 2
    assert [layer.factor for layer in net.upsamplings] == [2]


def test_two_images_are_learned_by_heart():
    torch.manual_seed(0)
    net = FCN(SmallBackbone(width=8, strides=(4, 8, 16)), num_classes=3, stride=4)
    images = torch.rand(2, 3, 32, 32) * 0.3
    masks = torch.zeros(2, 32, 32, dtype=torch.int64)
    masks[0, 4:20, 8:24], masks[1, 10:30, 2:18] = 1, 2
    images[0, 0, 4:20, 8:24] += 0.6
    images[1, 1, 10:30, 2:18] += 0.6
    masks[:, 0] = VOID
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), masks, ignore_index=VOID)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_bf16_autocast_gives_nearly_the_same_logits():
    torch.manual_seed(0)
    net = NETS["small"]().eval()
    images = torch.rand(2, 3, 48, 48)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(images)
    exact = net(images)
    assert (half.float() - exact).abs().max() < 0.05 * exact.abs().max() + 1e-3


def test_dropout_acts_in_training_only():
    net = FCN(SmallBackbone(width=4), num_classes=2, stride=8, dropout=0.9)
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(net.eval()(images), net(images))
    torch.manual_seed(0)
    net.train()
    assert not torch.equal(net(images), net(images))


def test_a_wrong_stride_or_class_count_is_named():
    with pytest.raises(ValueError, match=r"stride 4 is none of the backbone's \[8, 16, 32\]"):
        FCN(SmallBackbone(width=4), num_classes=2, stride=4)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        FCN(SmallBackbone(width=4), num_classes=0)


def test_a_configuration_can_build_it():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=SegmentationNet)
    net = {
        "class_path": "lightning_cv.models.FCN",
        "init_args": {
            "backbone": {"class_path": "lightning_cv.models.SmallBackbone", "init_args": {"width": 4}},
            "num_classes": 5,
        },
    }
    built = parser.instantiate(parser.parse_object({"net": net})).net
    assert isinstance(built, FCN)
    assert built.num_classes == 5
