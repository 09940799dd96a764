import pytest
import torch
from jsonargparse import ArgumentParser

from lightning_cv.contracts import CandidateDetector, DetectionTarget, Detector
from lightning_cv.datasets.drawn import draw_scene
from lightning_cv.metrics.detection import VOCMeanAP
from lightning_cv.models import CornerNet, StackedHourglass
from lightning_cv.transforms import image_tensor


def target(boxes: list[list[float]], labels: list[int]) -> DetectionTarget:
    return {
        "image_id": "one",
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.zeros(len(labels), dtype=torch.bool),
        "original_size": (64, 64),
    }


def tiny(stacks: int = 2, **arguments: object) -> CornerNet:
    torch.manual_seed(0)
    backbone = StackedHourglass((8, 12, 16), (1, 1, 2), stacks, stem=8, out_channels=8)
    return CornerNet(backbone, **({"num_classes": 3, "hidden": 8} | arguments))


TARGETS = [target([[4, 6, 30, 34], [30, 30, 62, 60]], [1, 3]), target([[10, 10, 50, 40]], [2])]
EMPTY = [target([], []), target([], [])]


@pytest.mark.parametrize(("height", "width"), [(64, 96), (75, 101), (1, 5)])
@pytest.mark.parametrize("stacks", [1, 3])
def test_every_stack_gives_maps_of_a_quarter_of_the_image(stacks, height, width):
    net = tiny(stacks).eval()
    maps = net(torch.rand(2, 3, height, width))
    h, w = -(-height // 4), -(-width // 4)
    assert len(maps) == stacks
    assert maps[0].heat.shape == (2, 2, 3, h, w)
    assert maps[0].tags.shape == (2, 2, h, w)
    assert maps[0].offsets.shape == (2, 2, 2, h, w)
    assert isinstance(net, Detector)
    assert isinstance(net, CandidateDetector)


def test_blackness_that_halving_needs_is_added_at_the_right_and_below():
    backbone, image = tiny().backbone.eval(), torch.rand(1, 3, 60, 50)
    padded = torch.nn.functional.pad(image, (0, 14, 0, 4))
    torch.testing.assert_close(backbone(image)[-1], backbone(padded)[-1][..., :15, :13])


def test_hourglass_104_is_104_convolutions_deep():
    """Along the longest way, on which a residual block counts for its two 3x3 convolutions."""
    with torch.device("meta"):
        net = StackedHourglass()
    depth = 1 + 2  # the stem's 7x7 convolution and its block
    for hourglass in net.hourglasses:
        deep = hourglass
        while not isinstance(deep, torch.nn.Sequential):
            depth += 2 * (len(deep.down) + len(deep.up))
            deep = deep.deeper
        depth += 2 * len(deep) + 1  # the blocks in the middle, and the convolution that gives the map
    depth += 1 + 2  # from the first map back: a 1x1 convolution and a block
    assert depth == 104


@pytest.mark.parametrize("targets", [TARGETS, EMPTY, [TARGETS[0], EMPTY[0]]], ids=["objects", "none", "one image"])
@pytest.mark.parametrize("bf16", [False, True])
def test_losses_are_finite_and_every_parameter_has_a_gradient(targets, bf16):
    net = tiny()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        losses = net.losses(torch.rand(2, 3, 64, 64), targets)
    assert set(losses) == {"heat", "pull", "push", "offset"}
    assert all(value.shape == () and value.dtype == torch.float32 for value in losses.values())
    sum(losses.values()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_training_starts_at_a_corner_probability_of_a_tenth():
    maps = tiny()(torch.rand(2, 3, 64, 64))
    for one in maps:
        assert one.heat.sigmoid().mean().item() == pytest.approx(0.1, abs=0.02)


def test_crowds_are_no_objects():
    truth = TARGETS[0] | {"crowd": torch.tensor([True, False])}
    wanted = tiny().assign([truth], 16, 16)
    assert wanted.image.tolist() == [0]
    assert (wanted.heat == 1).nonzero()[:, 2].tolist() == [2, 2]  # class 3 alone


@pytest.mark.slow
def test_four_drawn_images_are_learned_by_heart():
    torch.manual_seed(0)
    scenes = [draw_scene(seed) for seed in range(4)]
    images = torch.stack([image_tensor(scene.image) for scene in scenes])
    truth = [
        target(scene.boxes.tolist(), scene.labels.tolist()) | {"image_id": str(n), "original_size": (128, 128)}
        for n, scene in enumerate(scenes)
    ]
    net = CornerNet(StackedHourglass((16, 24, 32, 48), (1, 1, 1, 1), 1, stem=16, out_channels=24), 10, hidden=24)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 300)
        optimizer.zero_grad()
        sum(net.losses(images, truth).values()).backward()
        optimizer.step()
    net.eval()
    metric = VOCMeanAP(10)
    metric.update(net.detect(images), truth, (128, 128))
    assert metric.compute().item() >= 0.95


@pytest.mark.slow
def test_the_published_net_takes_a_step():
    torch.manual_seed(0)
    net = CornerNet(StackedHourglass(), 80)
    optimizer = torch.optim.Adam(net.parameters(), lr=2.5e-4)
    images, truth = torch.rand(2, 3, 127, 127), [target([[4, 6, 90, 100]], [80]), target([], [])]
    first = sum(net.losses(images, truth).values())
    first.backward()
    optimizer.step()
    assert sum(net.losses(images, truth).values()) < first


def test_detections_lie_in_the_image_best_first_and_no_more_than_asked():
    net = tiny(top_after=7, tag_distance=100.0).eval()
    for found in net.detect(torch.rand(2, 3, 64, 80)):
        assert 0 < len(found["scores"]) <= 7
        assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
        assert (found["boxes"] >= 0).all()
        assert (found["boxes"] <= torch.tensor([80, 64, 80, 64])).all()
        assert set(found["labels"].tolist()) <= {1, 2, 3}
        assert not found["boxes"].requires_grad


def test_a_candidate_counts_for_one_class():
    net = tiny(tag_distance=100.0).eval()
    boxes, scores = net.candidates(torch.rand(2, 3, 64, 64))
    assert boxes.shape == (2, 1000, 4)
    assert scores.shape == (2, 1000, 3)
    assert ((scores > 0).sum(-1) <= 1).all()
    assert (scores > 0).any()


def test_the_mirrored_image_gives_the_mirrored_pairs():
    net, image = tiny(tag_distance=100.0, flip_test=True).eval(), torch.rand(1, 3, 64, 64)
    straight, mirrored = net.candidates(image), net.candidates(image.flip(-1))
    turned = mirrored.boxes[:, 1000:, [2, 1, 0, 3]]  # what the second look at the mirrored image found
    turned = torch.stack([64 - turned[..., 0], turned[..., 1], 64 - turned[..., 2], turned[..., 3]], dim=-1)
    torch.testing.assert_close(straight.boxes[:, :1000], turned, atol=1e-4, rtol=0)
    torch.testing.assert_close(straight.scores[:, :1000], mirrored.scores[:, 1000:])


@pytest.mark.parametrize(
    ("arguments", "message"), [({"num_classes": 0}, "at least 1"), ({"min_overlap": 1.0}, "between 0 and 1")]
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)


@pytest.mark.parametrize("arguments", [((8,), (1,), 1), ((8, 8), (1,), 1), ((8, 8), (1, 0), 1), ((8, 8), (1, 1), 0)])
def test_an_impossible_hourglass_is_refused(arguments):
    with pytest.raises(ValueError, match="one number a size"):
        StackedHourglass(*arguments)


def test_a_configuration_can_build_it():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=Detector)
    backbone = {"channels": [8, 8], "blocks": [1, 1], "stacks": 1, "stem": 8, "out_channels": 8}
    net = {
        "class_path": "lightning_cv.models.CornerNet",
        "init_args": {
            "backbone": {"class_path": "lightning_cv.models.StackedHourglass", "init_args": backbone},
            "num_classes": 5,
        },
    }
    assert isinstance(parser.instantiate(parser.parse_object({"net": net})).net, CornerNet)
