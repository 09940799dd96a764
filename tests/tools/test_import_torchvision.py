import pytest
import torch
from torch import nn
from torchvision.models.vgg import VGG, cfgs, make_layers

from lightning_cv.cli import main
from lightning_cv.cli.predictor import load_model
from lightning_cv.models import FCNVGG, DeconvNet
from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD


def narrow_vgg(width=2, hidden=6):
    """torchvision's VGG-16, narrow."""
    torch.manual_seed(0)
    net = VGG(make_layers([item if item == "M" else item // 64 * width for item in cfgs["D"]]))
    net.classifier = nn.Sequential(
        nn.Linear(8 * width * 49, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(),
        nn.Linear(hidden, 10),
    )  # fmt: skip
    return net.eval()


def test_the_classifier_becomes_convolutions_that_say_the_same(tmp_path, capsys):
    vgg = narrow_vgg()
    torch.save(vgg.state_dict(), tmp_path / "vgg16.pth")
    assert main(["import", "torchvision", str(tmp_path / "vgg16.pth"), "--out", str(tmp_path / "fcn.ckpt")]) == 0
    assert "VGG-16 as FCN-32s" in capsys.readouterr().out
    net = load_model(tmp_path / "fcn.ckpt", "cpu").task.net
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        features = vgg.features(net.normalise(image))
        hidden = vgg.classifier[:6](features.flatten(1))
        torch.testing.assert_close(net.fc(features)[..., 0, 0], hidden)
        assert not net(image).any()  # the scores begin at zero
    assert net.num_classes == 21


def test_a_net_begins_from_the_checkpoint(tmp_path):
    torch.save(narrow_vgg().state_dict(), tmp_path / "vgg16.pth")
    main(["import", "torchvision", str(tmp_path / "vgg16.pth"), "--out", str(tmp_path / "fcn.ckpt")])
    net = FCNVGG(4, stride=8, width=2, hidden=6, weights=str(tmp_path / "fcn.ckpt"))
    torch.testing.assert_close(net.stages[0][0].weight, narrow_vgg().features[0].weight)
    deconvnet = DeconvNet(4, width=2, hidden=6, weights=str(tmp_path / "fcn.ckpt"))
    torch.testing.assert_close(deconvnet.down[4][2][0].weight, narrow_vgg().features[28].weight)
    torch.testing.assert_close(deconvnet.fc[1][0].bias, narrow_vgg().classifier[3].bias)
    for started in (net, deconvnet):
        torch.testing.assert_close(started.normalise.mean.flatten(), torch.tensor(IMAGENET_MEAN))
        torch.testing.assert_close(started.normalise.std.flatten(), torch.tensor(IMAGENET_STD))


@pytest.mark.parametrize("content", [b"", b"not a file of torch", {"a": 1}, [1]])
def test_other_files_are_refused(tmp_path, capsys, content):
    file = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    assert main(["import", "torchvision", str(file), "--out", str(tmp_path / "x.ckpt")]) == 2
    assert str(file) in capsys.readouterr().err
    assert not (tmp_path / "x.ckpt").exists()


def test_layers_of_another_net_are_refused(tmp_path, capsys):
    state = narrow_vgg().state_dict()
    del state["features.2.weight"]
    torch.save(state, tmp_path / "weights.pth")
    assert main(["import", "torchvision", str(tmp_path / "weights.pth"), "--out", str(tmp_path / "x.ckpt")]) == 2
    assert "missing or of another shape" in capsys.readouterr().err
