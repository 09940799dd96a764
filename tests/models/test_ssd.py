import pytest
import torch
from experiment_nets import EXPERIMENTS, build, net_block
from jsonargparse import ArgumentParser
from oracles.detection import iou_of, ssd_loop

from lightning_cv.contracts import DetectionTarget, Detector
from lightning_cv.models import (
    FPN,
    SSD,
    ExtraStages,
    ReducedVGG16Backbone,
    SharedHead,
    SmallBackbone,
    TimmBackbone,
    VGG16Backbone,
)
from lightning_cv.models.backbones import ExtraStage
from lightning_cv.models.detection.ssd_heads import HeadPerMap
from lightning_cv.ops.anchors import DefaultBoxes
from lightning_cv.ops.boxes import decode_deltas, iou
from lightning_cv.ops.detection_losses import SigmoidFocal


def target(boxes: list[list[float]], labels: list[int], difficult: list[bool] | None = None) -> DetectionTarget:
    return {
        "image_id": "one",
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.tensor(difficult or [False] * len(labels), dtype=torch.bool),
        "original_size": (64, 64),
    }


def tiny(extra_levels: int = 1, **arguments: object) -> SSD:
    torch.manual_seed(0)
    features = FPN(SmallBackbone(width=8), channels=16, extra_levels=extra_levels)
    return SSD(features, **{"num_classes": 3, "head": SharedHead} | arguments)


TARGETS = [target([[4, 6, 30, 34], [30, 30, 62, 60]], [1, 3]), target([[10, 10, 50, 40]], [2])]
EMPTY = [target([], []), target([], [])]


@pytest.mark.parametrize(
    "backbone",
    [
        lambda: SmallBackbone(width=4),
        lambda: TimmBackbone(out_indices=(2, 3)),
        lambda: VGG16Backbone(pools=(3, 4), width=4),
    ],
    ids=["small", "timm", "vgg"],
)
@pytest.mark.parametrize(("height", "width"), [(64, 96), (75, 101)])
def test_every_anchor_has_scores_and_deltas(backbone, height, width):
    net = SSD(FPN(backbone(), channels=8, extra_levels=2), num_classes=4).eval()
    logits, deltas, anchors = net(torch.rand(2, 3, height, width))
    cells = sum(-(-height // stride) * -(-width // stride) for stride in net.strides)
    assert logits.shape == (2, cells * 6, 5)
    assert deltas.shape == (2, cells * 6, 4)
    assert anchors.shape == (cells * 6, 4)
    assert isinstance(net, Detector)


@pytest.mark.parametrize(
    "features",
    [
        lambda: ExtraStages(
            TimmBackbone(out_indices=(2, 3)), [ExtraStage(8, 16), ExtraStage(4, 8, stride=1, padding=0)]
        ),
        lambda: FPN(ExtraStages(ReducedVGG16Backbone(4, 16), [ExtraStage(8, 16), ExtraStage(4, 8)]), channels=8),
    ],
    ids=["timm with extra stages", "pyramid on the paper's maps"],
)
def test_any_source_of_maps_will_do(features):
    boxes = DefaultBoxes([16, 32, 64, 96, 128], [[2], [2, 3], [2, 3], [2]], [8, 16, 32, 64])
    net = SSD(features(), num_classes=3, anchors=boxes)
    losses = net.losses(torch.rand(2, 3, 96, 96), TARGETS)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert len(net.eval().detect(torch.rand(2, 3, 96, 96))) == 2


def test_predictions_belong_to_their_anchors():
    """A head that speaks up for one of the shapes must move the anchors of that shape and no others."""
    net = tiny(extra_levels=0).eval()
    torch.nn.init.zeros_(net.box_head.last.weight)
    net.box_head.last.bias.data[4 * 1 + 2] = 5.0  # second shape of every cell: its width grows by e
    _, deltas, anchors = net(torch.rand(1, 3, 64, 64))
    moved = deltas[0, :, 2] == 5
    sides = anchors[:, 2:] - anchors[:, :2]
    strides = torch.tensor([8.0] * 64 + [16.0] * 16 + [32.0] * 4)
    torch.testing.assert_close(sides[moved], (2.5 * strides)[:, None].expand(-1, 2))
    grown = decode_deltas(deltas[0], anchors)[moved]
    torch.testing.assert_close(grown[:, 2] - grown[:, 0], 2.5 * torch.e * strides)
    torch.testing.assert_close(grown[:, 3] - grown[:, 1], 2.5 * strides)


def test_assignment_equals_the_loop():
    net = tiny()
    anchors = net(torch.rand(1, 3, 64, 64))[2]
    assigned = net.assign(anchors, [*TARGETS, *EMPTY])
    for n, truth in enumerate([*TARGETS, *EMPTY]):
        overlaps = iou(truth["boxes"], anchors)
        match = ssd_loop(overlaps.numpy(), 0.5)
        assert assigned.labels[n].tolist() == [0 if g < 0 else int(truth["labels"][g]) for g in match]
        for a, g in enumerate(match):
            if g >= 0:
                box = decode_deltas(assigned.deltas[n, a], anchors[a])
                torch.testing.assert_close(box, truth["boxes"][g], atol=1e-3, rtol=0)


def test_every_object_has_an_anchor():
    boxes = [[10.0, 10, 24, 24], [11.0, 11, 24, 24], [10.0, 11, 25, 24], [3.0, 40, 9, 44]]
    assigned = tiny().assign(tiny()(torch.rand(1, 3, 64, 64))[2], [target(boxes, [1, 2, 3, 1])])
    assert {1, 2, 3} <= set(assigned.labels[0].tolist())


def test_difficult_objects_are_trained_on_unless_told_otherwise():
    truth = [target([[4, 6, 30, 34], [30, 30, 62, 60]], [1, 3], difficult=[True, False])]
    anchors = tiny()(torch.rand(1, 3, 64, 64))[2]
    assert set(tiny().assign(anchors, truth).labels.unique().tolist()) == {0, 1, 3}
    assert set(tiny(train_on_difficult=False).assign(anchors, truth).labels.unique().tolist()) == {0, 3}


@pytest.mark.parametrize("targets", [TARGETS, EMPTY, [TARGETS[0], EMPTY[0]]], ids=["objects", "none", "one image"])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("class_loss", [None, SigmoidFocal()], ids=["mined", "focal"])
def test_losses_are_finite_and_every_parameter_has_a_gradient(targets, bf16, class_loss):
    net = tiny(class_loss=class_loss)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        losses = net.losses(torch.rand(2, 3, 64, 64), targets)
    assert set(losses) == {"class", "box"}
    assert all(value.shape == () and value.dtype == torch.float32 for value in losses.values())
    sum(losses.values()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_losses_under_bf16_are_nearly_the_same():
    net, images = tiny(), torch.rand(2, 3, 64, 64)
    exact = net.losses(images, TARGETS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net.losses(images, TARGETS)
    for name, value in exact.items():
        assert half[name].item() == pytest.approx(value.item(), rel=0.03)


@pytest.mark.parametrize("class_loss", [None, SigmoidFocal()], ids=["mined", "focal"])
def test_two_images_are_learned_by_heart(class_loss):
    net = tiny(class_loss=class_loss)
    images = torch.rand(2, 3, 64, 64) * 0.3
    for n, truth in enumerate(TARGETS):
        for box, label in zip(truth["boxes"].int().tolist(), truth["labels"].tolist(), strict=True):
            images[n, label - 1, box[1] : box[3], box[0] : box[2]] += 0.6
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = sum(net.losses(images, TARGETS).values())
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3
    net.eval()
    for found, truth in zip(net.detect(images), TARGETS, strict=True):
        sure = found["scores"] > 0.5
        assert sorted(found["labels"][sure].tolist()) == sorted(truth["labels"].tolist())
        for box, label in zip(found["boxes"][sure].tolist(), found["labels"][sure].tolist(), strict=True):
            wanted = truth["boxes"][truth["labels"] == label][0].tolist()
            assert iou_of(box, wanted) > 0.7


def test_detections_lie_in_the_image_best_first_and_no_more_than_asked():
    net = tiny(score_threshold=0.0, top_after=7).eval()
    for found in net.detect(torch.rand(2, 3, 64, 80)):
        assert len(found["scores"]) == 7
        assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
        assert (found["boxes"][:, :2] >= 0).all()
        assert (found["boxes"][:, 2] <= 80).all()
        assert (found["boxes"][:, 3] <= 64).all()
        assert set(found["labels"].tolist()) <= {1, 2, 3}
        assert not found["boxes"].requires_grad


def test_no_class_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        tiny(num_classes=0)


def test_a_configuration_can_build_it():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=Detector)
    net = {
        "class_path": "lightning_cv.models.SSD",
        "init_args": {
            "features": {"class_path": "lightning_cv.models.SmallBackbone", "init_args": {"width": 4}},
            "num_classes": 5,
            "anchors": {"class_path": "lightning_cv.ops.anchors.StrideAnchors", "init_args": {"ratios": [1.0]}},
            "delta_scale": [0.1, 0.1, 0.2, 0.2],
        },
    }
    built = parser.instantiate(parser.parse_object({"net": net})).net
    assert isinstance(built, SSD)
    assert built.num_classes == 5


def test_crowds_are_no_objects():
    truth = [target([[4, 6, 30, 34], [30, 30, 62, 60]], [1, 3]) | {"crowd": torch.tensor([True, False])}]
    net = tiny()
    anchors = net(torch.rand(1, 3, 64, 64))[2]
    assert set(net.assign(anchors, truth).labels.unique().tolist()) == {0, 3}


def test_focal_loss_starts_from_its_prior():
    net = tiny(class_loss=SigmoidFocal(prior=0.03)).eval()
    logits = net(torch.rand(1, 3, 64, 64))[0]
    assert logits.shape[-1] == 3
    assert logits.sigmoid().mean().item() == pytest.approx(0.03, rel=0.05)


def test_a_shared_head_says_the_same_on_every_map_and_others_do_not():
    shared, own = tiny(), tiny(head=HeadPerMap)
    maps = [torch.ones(1, 16, 5, 5)] * 4
    for head, same in ((shared.class_head, True), (own.class_head, False)):
        first, second = head(maps)[:2]
        assert torch.equal(first, second) == same


def test_maps_that_differ_share_no_head():
    with pytest.raises(ValueError, match="have the same channels and outputs"):
        SSD(SmallBackbone(width=4), 3, head=SharedHead)


@pytest.mark.parametrize(
    ("name", "class_loss", "box_loss", "gradient", "weights"),
    [
        ("ssd_drawn", 10.594583511352539, 2.7794206142425537, 32.87266159057617, 732.2183472840611),
        ("ssd_lite0_voc07", 30.598793029785156, 5.534310817718506, 499.07147216796875, 20140.70574264672),
    ],
)
def test_published_results_are_of_this_net(name, class_loss, box_loss, gradient, weights):
    """Our own figures, taken when the README's results were made: the same seed still gives the same net and loss."""
    (path,) = [path for path in EXPERIMENTS if path.stem == name]
    torch.manual_seed(0)
    net = build(net_block(path))
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    targets = [target([[4, 6, 60, 64], [50, 50, 120, 110]], [1, 3]), target([[10, 10, 90, 70]], [2])]
    losses = net.losses(images, targets)
    sum(losses.values()).backward()
    found = torch.stack([p.grad.norm() for p in net.parameters() if p.grad is not None]).norm()
    assert sum(p.double().sum().item() for p in net.parameters()) == pytest.approx(weights, rel=1e-9)
    assert losses["class"].item() == pytest.approx(class_loss, rel=1e-5)
    assert losses["box"].item() == pytest.approx(box_loss, rel=1e-5)
    assert found.item() == pytest.approx(gradient, rel=1e-4)
