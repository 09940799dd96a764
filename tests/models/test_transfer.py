import pytest
import torch

from lightning_cv.models import FCN, FPN, SSD, SmallBackbone

SIZE = {"width": 8, "blocks": [0, 1, 1, 0], "max_channels": 16}


@pytest.fixture
def detector(tmp_path):
    """A detector and its checkpoint."""
    torch.manual_seed(1)
    net = SSD(FPN(SmallBackbone(**SIZE, strides=[8, 16]), channels=8), num_classes=2)
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {f"net.{name}": value for name, value in net.state_dict().items()}}, path)
    return net, path


def test_a_backbone_goes_on_from_another_nets(detector):
    net, path = detector
    fcn = FCN(FPN(SmallBackbone(**SIZE, strides=[4, 8, 16], weights=str(path)), 8), num_classes=3, stride=4)
    theirs = net.features.backbone.state_dict()
    ours = fcn.backbone.backbone.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_a_plain_state_dict_will_do(detector, tmp_path):
    net, _ = detector
    torch.save(net.features.backbone.state_dict(), tmp_path / "backbone.pt")
    ours = SmallBackbone(**SIZE, strides=[16], weights=str(tmp_path / "backbone.pt"))
    assert torch.equal(ours.stem[0][0].weight, net.features.backbone.stem[0][0].weight)


@pytest.mark.parametrize("other", [{"width": 10}, {"blocks": [0, 1, 2, 0]}])
def test_a_backbone_of_another_size_is_refused(detector, other):
    with pytest.raises(ValueError, match=r"last\.ckpt holds no net of this kind and size"):
        SmallBackbone(**SIZE | other, strides=[8, 16], weights=str(detector[1]))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no weights at .*gone\.ckpt"):
        SmallBackbone(**SIZE, weights=str(tmp_path / "gone.ckpt"))


def test_a_restored_net_normalises_as_it_was_trained():
    """Also where it is built without what told it how: a checkpoint's `weights` are dropped when it is loaded."""
    trained = SmallBackbone(**SIZE, strides=[8], mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)).eval()
    restored = SmallBackbone(**SIZE, strides=[8]).eval()
    images = torch.rand(1, 3, 32, 32)
    restored.load_state_dict(trained.state_dict())
    assert torch.equal(restored(images)[0], trained(images)[0])
