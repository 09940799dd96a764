import copy

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN, ssd300_vgg16
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from lightning_cv.contracts import CandidateDetector, DetectionTarget, Detector
from lightning_cv.models import FPN, SmallBackbone, TorchvisionDenseDetector, TorchvisionDetector
from lightning_cv.models.detection.torchvision import _AsTheyAre, _Features, fcos_on, retinanet_on
from lightning_cv.ops.boxes import iou
from lightning_cv.ops.nms import class_wise_nms_of_batch


def features() -> FPN:
    return FPN(SmallBackbone(width=8, strides=[8, 16]), channels=32)


def faster_rcnn() -> FasterRCNN:
    anchors = AnchorGenerator(((16, 32), (32, 64)), ((1.0,), (1.0,)))
    pool = MultiScaleRoIAlign(["0", "1"], 7, 2)
    net = FasterRCNN(_Features(features()), 4, rpn_anchor_generator=anchors, box_roi_pool=pool)
    net.transform = _AsTheyAre(16)
    return net


NETS = {
    "fcos": lambda: TorchvisionDenseDetector(fcos_on(features(), 3), 3),
    "retinanet": lambda: TorchvisionDenseDetector(retinanet_on(features(), 3), 3),
    "faster_rcnn": lambda: TorchvisionDetector(faster_rcnn(), 3),
}


def target(boxes: list[list[float]], labels: list[int]) -> DetectionTarget:
    return {
        "image_id": "one",
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.zeros(len(labels), dtype=torch.bool),
        "original_size": (64, 64),
    }


TARGETS = [target([[4, 6, 30, 34], [30, 30, 62, 60]], [1, 3]), target([[10, 10, 50, 40]], [2])]
EMPTY = [target([], []), target([], [])]


@pytest.fixture(params=NETS)
def net(request) -> TorchvisionDetector:
    torch.manual_seed(0)
    built = NETS[request.param]()
    assert isinstance(built, Detector)
    return built


@pytest.mark.parametrize("targets", [TARGETS, EMPTY, [TARGETS[0], EMPTY[0]]], ids=["objects", "none", "one image"])
@pytest.mark.parametrize("bf16", [False, True])
def test_losses_are_finite_and_every_parameter_has_a_gradient(net, targets, bf16):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        losses = net.losses(torch.rand(2, 3, 64, 64), targets)
    assert all(value.shape == () and value.dtype == torch.float32 for value in losses.values())
    assert all("loss_" not in name for name in losses)
    sum(losses.values()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_both_verbs_work_in_both_modes_and_leave_the_mode_alone(net):
    images = torch.rand(2, 3, 64, 64)
    for mode in (True, False):
        net.train(mode)
        statistics = [m.running_mean.clone() for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        net.losses(images, TARGETS)
        after = [m.running_mean for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(torch.equal(a, b) for a, b in zip(statistics, after, strict=True)) == (not mode)
        net.detect(images)
        assert all(module.training == mode for module in net.modules())


@pytest.mark.parametrize("name", ["fcos", "retinanet"])
def test_losses_are_torchvisions_own_with_labels_from_zero(name):
    torch.manual_seed(0)
    net = NETS[name]()
    bare = copy.deepcopy(net.net)
    images = torch.rand(2, 3, 64, 64)
    shifted = [{"boxes": t["boxes"], "labels": t["labels"] - 1} for t in TARGETS]
    expected = bare(list(images), shifted)
    losses = net.losses(images, TARGETS)
    assert losses.keys() == {key.removeprefix("loss_") for key in expected}
    for key, value in expected.items():
        assert losses[key.removeprefix("loss_")].item() == pytest.approx(value.item(), rel=1e-6)


@pytest.mark.parametrize("name", ["fcos", "retinanet"])
def test_two_images_are_learned_by_heart(name):
    torch.manual_seed(0)
    net = NETS[name]()
    images = torch.rand(2, 3, 64, 64) * 0.3
    for n, truth in enumerate(TARGETS):
        for box, label in zip(truth["boxes"].int().tolist(), truth["labels"].tolist(), strict=True):
            images[n, label - 1, box[1] : box[3], box[0] : box[2]] += 0.6
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        sum(net.losses(images, TARGETS).values()).backward()
        optimizer.step()
    net.eval()
    for found, truth in zip(net.detect(images), TARGETS, strict=True):
        assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
        for box, label in zip(truth["boxes"], truth["labels"], strict=True):
            best = int((found["labels"] == label).nonzero()[0])
            assert iou(found["boxes"][best : best + 1], box[None]) > 0.7


@pytest.mark.parametrize("name", ["fcos", "retinanet"])
def test_its_own_suppression_of_the_candidates_gives_torchvisions_detections(name):
    torch.manual_seed(0)
    net = NETS[name]().eval()
    assert isinstance(net, CandidateDetector)
    images = torch.rand(2, 3, 50, 72)  # padded to whole cells
    net.net.score_thresh = float(net.candidates(images).scores.median())
    net.net.topk_candidates = 10**6  # torchvision counts a map's, of all classes
    thinned = class_wise_nms_of_batch(
        net.candidates(images),
        score_threshold=net.net.score_thresh,
        iou_threshold=net.net.nms_thresh,
        top_before=net.net.topk_candidates,
        top_after=net.net.detections_per_img,
    )
    for found, expected in zip(net.detect(images), thinned, strict=True):
        assert len(found["scores"]) > 10
        for key, value in found.items():
            torch.testing.assert_close(value, expected[key])


def test_candidates_are_of_nets_that_keep_the_size_of_images():
    assert not isinstance(NETS["faster_rcnn"](), CandidateDetector)
    with pytest.raises(ValueError, match="SSD is no net of fcos_on or retinanet_on"):
        TorchvisionDenseDetector(ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21), 20)
    resizing = fcos_on(features(), 3)
    resizing.transform = GeneralizedRCNNTransform(64, 64, [0.0] * 3, [1.0] * 3)
    with pytest.raises(ValueError, match="FCOS is no net of fcos_on or retinanet_on"):
        TorchvisionDenseDetector(resizing, 3)


def test_images_of_any_size_keep_it():
    net = NETS["fcos"]().eval()
    seen = []
    net.net.backbone.register_forward_hook(lambda module, images, maps: seen.append(images[0].shape[-2:]))
    net.detect(torch.rand(1, 3, 50, 64))
    net.losses(torch.rand(1, 3, 50, 64), TARGETS[1:])
    assert seen == [(64, 64), (64, 64)]  # 50 is padded to whole cells of stride 16


def test_difficult_and_crowd_objects():
    net = NETS["fcos"]()
    truth = TARGETS[0] | {"crowd": torch.tensor([True, False])}
    assert net._target(truth)["labels"].tolist() == [2]
    truth = TARGETS[0] | {"difficult": torch.tensor([False, True])}
    assert net._target(truth)["labels"].tolist() == [0, 2]
    net.train_on_difficult = False
    assert net._target(truth)["labels"].tolist() == [0]


def test_a_net_with_a_background_output_has_one_more():
    bare = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21)
    net = TorchvisionDetector(bare, 20)
    assert net._target(TARGETS[0])["labels"].tolist() == [1, 3]
    with pytest.raises(ValueError, match="SSD of 21 classes is built with num_classes=22, got 21"):
        TorchvisionDetector(bare, 21)
    with pytest.raises(ValueError, match="FCOS of 20 classes is built with num_classes=20, got 21"):
        TorchvisionDetector(fcos_on(features(), 21), 20)


def test_other_nets_are_refused():
    with pytest.raises(ValueError, match="Linear is none of FCOS"):
        TorchvisionDetector(nn.Linear(1, 1), 3)
    with pytest.raises(ValueError, match="all maps need the same channels"):
        fcos_on(SmallBackbone(width=8), 3)
