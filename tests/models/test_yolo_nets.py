import numpy as np
import pytest
import torch
from experiment_nets import EXPERIMENTS, net_block
from experiment_nets import build as build_net
from jsonargparse import ArgumentParser
from oracles.detection import iou_of

from lightning_cv.contracts import Detector
from lightning_cv.datasets.drawn import draw_scene
from lightning_cv.metrics.voc import ImageResult, voc_mean_average_precision
from lightning_cv.models import ExtractionBackbone, SmallBackbone, TinyDarknetBackbone, TinyYOLOv2, YOLOv1
from lightning_cv.models.detection.yolo_v1 import LocallyConnected
from lightning_cv.models.detection.yolo_v2_tiny import PULLED_IMAGES

SIZE = 64


def target(boxes, labels, difficult=None):
    return {
        "image_id": "one",
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.tensor(difficult or [False] * len(labels), dtype=torch.bool),
        "original_size": (SIZE, SIZE),
    }


def tiny_v2(**arguments):
    torch.manual_seed(0)
    anchors = [(1.0, 1.0), (2.0, 2.0)]
    backbone = TinyDarknetBackbone(width=4, halvings=4, max_channels=32, norm_momentum=0.1)
    return TinyYOLOv2(backbone, 3, anchors, channels=32, **({"norm_momentum": 0.1} | arguments))


def tiny_v1(**arguments):
    torch.manual_seed(0)
    backbone = ExtractionBackbone(width=4, halvings=4, norm_momentum=0.1)
    return YOLOv1(backbone, 3, **({"side": 4, "hidden": 64, "dropout": 0.0} | arguments))


TARGETS = [target([[4, 6, 30, 34], [30, 30, 62, 60]], [1, 3]), target([[10, 10, 50, 40]], [2])]
EMPTY = [target([], []), target([], [])]
BOTH = pytest.mark.parametrize("build", [tiny_v2, tiny_v1], ids=["v2", "v1"])


def test_tiny_yolov2_is_the_lectures():
    with torch.device("meta"):
        net = TinyYOLOv2(TinyDarknetBackbone(), num_classes=20)
        outputs = net(torch.rand(1, 3, 416, 416))
        assert net.conv(torch.rand(1, 1024, 13, 13)).shape == (1, 1024, 13, 13)
        assert net.head(torch.rand(1, 1024, 13, 13)).shape == (1, 125, 13, 13)
    assert sum(parameter.numel() for parameter in net.parameters()) == 15_861_773
    assert outputs.shape == (1, 13, 13, 5, 25)
    assert outputs.shape[1:4].numel() == 845


@pytest.mark.parametrize(("arguments", "outputs"), [({}, 1470), ({"boxes": 3, "local_filters": 256}, 1715)])
def test_yolo_v1_says_as_much_as_published_and_released(arguments, outputs):
    with torch.device("meta"):
        net = YOLOv1(ExtractionBackbone(), num_classes=20, **arguments)
        parts = net(torch.rand(1, 3, 448, 448))
    assert net.image_size == (448, 448)
    assert net.last.out_features == outputs == sum(part.numel() for part in parts)


def test_outputs_belong_to_their_cells_and_anchors():
    """A head that speaks up for one anchor only: its boxes, in pixels, in the middle of every cell."""
    net = tiny_v2(score_threshold=0.5).eval()
    torch.nn.init.zeros_(net.head.weight)
    torch.nn.init.constant_(net.head.bias, -20.0)
    net.head.bias.data[8:16] = torch.tensor([0.0, 0.0, 0.0, 0.0, 9.0, -20.0, 20.0, -20.0])
    (found,) = net.detect(torch.rand(1, 3, 64, 96))
    assert len(found["labels"]) == 24  # half a cell's overlap with the next is IoU 1/3, which stays
    assert (found["labels"] == 2).all()
    centres = (found["boxes"][:, :2] + found["boxes"][:, 2:]) / 2
    inner = found["boxes"][:, 0] > 0
    assert sorted(found["boxes"][inner].tolist())[1] == [8.0, 8.0, 40.0, 40.0]
    assert centres.min() > 0


def test_local_connections_equal_a_loop():
    layer = LocallyConnected(2, 3, 4)
    torch.nn.init.normal_(layer.bias)
    x = torch.rand(2, 2, 4, 4)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    for i in range(4):
        for j in range(4):
            patch = padded[:, :, i : i + 3, j : j + 3].flatten(1)  # (N, C*9)
            expected = patch @ layer.weight[i * 4 + j].T + layer.bias[:, i, j]
            torch.testing.assert_close(layer(x)[:, :, i, j], expected)


@BOTH
@pytest.mark.parametrize("targets", [TARGETS, EMPTY, [TARGETS[0], EMPTY[0]]], ids=["objects", "none", "one image"])
@pytest.mark.parametrize("bf16", [False, True])
def test_losses_are_finite_and_every_parameter_has_a_gradient(build, targets, bf16):
    net = build()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        losses = net.losses(torch.rand(2, 3, SIZE, SIZE), targets)
    assert set(losses) - {"prior"} == {"box", "object", "no_object", "class"}
    assert all(value.shape == () and value.dtype == torch.float32 for value in losses.values())
    sum(losses.values()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@BOTH
def test_losses_under_bf16_are_nearly_the_same(build):
    net, images = build().eval(), torch.rand(2, 3, SIZE, SIZE)
    exact = sum(net.losses(images, TARGETS).values()).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = sum(net.losses(images, TARGETS).values()).item()
        found = net.detect(images)
    assert half == pytest.approx(exact, rel=0.03)
    assert all(value.isfinite().all() for one in found for value in one.values())


@BOTH
def test_the_loss_is_a_mean_over_images(build):
    net, images = build().eval(), torch.rand(2, 3, SIZE, SIZE)
    both = net.losses(images, TARGETS)
    singly = [net.losses(images[n : n + 1], TARGETS[n : n + 1]) for n in range(2)]
    for name, value in both.items():
        assert value.item() == pytest.approx((singly[0][name] + singly[1][name]).item() / 2, rel=1e-4)


@BOTH
def test_difficult_objects_are_left_out_unless_asked_for(build):
    images = torch.rand(1, 3, SIZE, SIZE)
    hard = [target([[4, 6, 30, 34], [30, 30, 62, 60]], [1, 3], difficult=[False, True])]
    easy = [target([[4, 6, 30, 34]], [1])]
    plain, eager = build().eval(), build(train_on_difficult=True).eval()
    assert plain.losses(images, hard) == plain.losses(images, easy)
    assert eager.losses(images, hard)["class"] > plain.losses(images, hard)["class"]
    crowded = [hard[0] | {"difficult": torch.zeros(2, dtype=torch.bool), "crowd": torch.tensor([False, True])}]
    assert plain.losses(images, crowded) == plain.losses(images, easy)


def test_anchors_are_targets_of_the_first_images_only_and_a_checkpoint_knows_it():
    net, images = tiny_v2(), torch.rand(2, 3, SIZE, SIZE)
    assert net.losses(images, TARGETS)["prior"] > 0
    assert net.seen.item() == 2
    assert net.eval().losses(images, TARGETS)["prior"] == 0
    assert net.seen.item() == 2  # validation is not training
    net.seen.fill_(PULLED_IMAGES - 1)
    assert net.train().losses(images, TARGETS)["prior"] > 0
    assert net.losses(images, TARGETS)["prior"] == 0
    other = tiny_v2()
    other.load_state_dict(net.state_dict())
    assert other.losses(images, TARGETS)["prior"] == 0


def test_tiny_yolov2_takes_images_of_any_size_and_any_backbone():
    for height, width in ((64, 96), (75, 101), (32, 32)):
        net = tiny_v2()
        assert net(torch.rand(1, 3, height, width)).shape == (1, -(-height // 16), -(-width // 16), 2, 8)
        net.losses(torch.rand(1, 3, height, width), [target([[0, 0, width, height]], [1])])
    net = TinyYOLOv2(SmallBackbone(width=4, strides=(8, 16)), 3, channels=8)
    assert net(torch.rand(1, 3, 64, 64)).shape == (1, 4, 4, 5, 8)
    assert isinstance(net, Detector)


def test_yolo_v1_says_which_size_it_needs():
    with pytest.raises(ValueError, match=r"grid of 4 x 4 cells needs images of \(64, 64\) pixels .* got \(64, 96\)"):
        tiny_v1().detect(torch.rand(1, 3, 64, 96))
    assert isinstance(tiny_v1(), Detector)


@BOTH
def test_detections_lie_in_the_image_best_first(build):
    net = build(score_threshold=0.0).eval()
    for found in net.detect(torch.rand(2, 3, SIZE, SIZE)):
        assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
        assert found["boxes"].min() >= 0
        assert found["boxes"].max() <= SIZE
        assert found["scores"].max() <= 1
        assert set(found["labels"].tolist()) <= {1, 2, 3}
        assert not found["boxes"].requires_grad


def test_a_negative_confidence_and_a_negative_class_are_no_detection():
    net = tiny_v1(score_threshold=0.0).eval()
    torch.nn.init.zeros_(net.last.weight)
    torch.nn.init.constant_(net.last.bias, -1.0)
    assert len(net.detect(torch.rand(1, 3, SIZE, SIZE))[0]["scores"]) == 0


@BOTH
def test_two_images_are_learned_by_heart(build):
    net = build()
    images = torch.rand(2, 3, SIZE, SIZE) * 0.3
    for n, truth in enumerate(TARGETS):
        for box, label in zip(truth["boxes"].int().tolist(), truth["labels"].tolist(), strict=True):
            images[n, label - 1, box[1] : box[3], box[0] : box[2]] += 0.6
    # four times each: batch norm keeps variances that are N / (N - 1) of those it trains with, 24 layers deep in v1
    batch, truths = images.repeat(4, 1, 1, 1), TARGETS * 4
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=60)
    for _ in range(60):
        optimizer.zero_grad()
        sum(net.losses(batch, truths).values()).backward()
        optimizer.step()
        schedule.step()
    net.eval()
    for found, truth in zip(net.detect(images), TARGETS, strict=True):
        sure = found["scores"] > 0.4
        assert sorted(found["labels"][sure].tolist()) == sorted(truth["labels"].tolist())
        for box, label in zip(found["boxes"][sure].tolist(), found["labels"][sure].tolist(), strict=True):
            assert iou_of(box, truth["boxes"][truth["labels"] == label][0].tolist()) > 0.6


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="TinyYOLOv2: num_classes counts the classes, at least 1, got 0"):
        TinyYOLOv2(TinyDarknetBackbone(width=1), 0)
    with pytest.raises(ValueError, match="anchors are widths and heights in cells, above 0, got"):
        TinyYOLOv2(TinyDarknetBackbone(width=1), 3, anchors=[(1.0, 0.0)])
    with pytest.raises(ValueError, match="side, boxes must be at least 1, got 3, 0, 2"):
        tiny_v1(side=0)


def test_a_configuration_can_build_it():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=Detector)
    block = {
        "class_path": "lightning_cv.models.TinyYOLOv2",
        "init_args": {
            "backbone": {"class_path": "lightning_cv.models.TinyDarknetBackbone", "init_args": {"width": 2}},
            "num_classes": 5,
            "anchors": [[1, 2.5], [3, 1]],
        },
    }
    built = parser.instantiate(parser.parse_object({"net": block})).net
    assert isinstance(built, TinyYOLOv2)
    assert built.anchors.tolist() == [[1, 2.5], [3, 1]]


def four_scenes(size=128):
    """Drawn scenes of up to three objects, no two of which share a cell of 16 pixels."""
    scenes, seed = [], 0
    while len(scenes) < 4:
        scene = draw_scene(seed, size, max_objects=3)
        cells = {tuple(cell) for cell in ((scene.boxes[:, :2] + scene.boxes[:, 2:]) // 32).tolist()}
        if len(cells) == len(scene.labels):
            scenes.append(scene)
        seed += 1
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2) / 255
    return images, [target(scene.boxes.tolist(), scene.labels.tolist()) for scene in scenes]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo_v2_tiny_drawn", "yolo_v1_drawn"])
def test_four_scenes_are_learned_by_heart(name):
    images, targets = four_scenes()
    torch.manual_seed(0)
    (path,) = (path for path in EXPERIMENTS if path.stem == name)
    net = build_net(net_block(path)).to(memory_format=torch.channels_last)
    steps = 120
    optimizer = torch.optim.AdamW(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(net.losses(images, targets).values()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 50.0)
        optimizer.step()
        schedule.step()
    found = net.eval().detect(images)
    results = [
        ImageResult(
            f["boxes"].double().numpy(), f["scores"].double().numpy(), f["labels"].numpy(),
            t["boxes"].double().numpy(), t["labels"].numpy(), t["difficult"].numpy(), (128, 128),
        )
        for f, t in zip(found, targets, strict=True)
    ]  # fmt: skip
    assert voc_mean_average_precision(results, net.num_classes)[0] >= 0.95


@pytest.mark.slow
def test_a_step_of_the_published_tiny_yolov2():
    net = TinyYOLOv2(TinyDarknetBackbone(), num_classes=20)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    images, targets = torch.rand(2, 3, 416, 416), [target([[40, 60, 300, 340]], [7]), target([], [])]
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = sum(net.losses(images, targets).values())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
    assert len(net.detect(images)) == 2
