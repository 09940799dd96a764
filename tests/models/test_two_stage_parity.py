"""torchvision's Faster and Mask R-CNN, given the same weights and settings, say the same."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from two_stage_nets import (
    CLASSES,
    batch,
    empty,
    faster_rcnn,
    mask_rcnn,
    spread,
    their_faster_rcnn,
    their_mask_rcnn,
)

from lightning_cv.contracts import Detections, DetectionTarget
from lightning_cv.models import FasterRCNN
from lightning_cv.models.detection.objects import objects_of, whole_sizes
from lightning_cv.tasks import InstanceSegModule, TwoStageDetector
from lightning_cv.tools.import_torchvision_detectors import our_names

THEIR_LOSSES = {
    "rpn_objectness": "loss_objectness",
    "rpn_box": "loss_rpn_box_reg",
    "classifier": "loss_classifier",
    "box": "loss_box_reg",
    "mask": "loss_mask",
}
close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-4)


@pytest.fixture(params=["boxes", "masks"])
def pair(request: pytest.FixtureRequest) -> tuple[FasterRCNN, nn.Module]:
    ours, theirs = (
        (faster_rcnn(), their_faster_rcnn()) if request.param == "boxes" else (mask_rcnn(), their_mask_rcnn())
    )
    spread(theirs)
    state = {name.replace("backbone.maps.", "features."): value for name, value in theirs.state_dict().items()}
    ours.load_state_dict(our_names(state, range(1, CLASSES + 1)))
    return ours, theirs


def theirs_of(targets: list[DetectionTarget]) -> list[dict[str, Tensor]]:
    return [{name: target[name] for name in ("boxes", "labels", "masks") if name in target} for target in targets]  # type: ignore[literal-required]


def test_proposals_are_the_same(pair: tuple[FasterRCNN, nn.Module]) -> None:
    ours, theirs = (net.eval() for net in pair)
    images, targets = batch()
    with torch.no_grad():
        shown, _ = theirs.transform(list(images))
        maps = theirs.backbone(shown.tensors)
        expected, _ = theirs.rpn(shown, maps)
        found = ours.propose(images)
        assert all(len(boxes) > 10 for boxes in found)
        for boxes, wanted in zip(found, expected, strict=True):
            close(boxes, wanted)
        theirs.rpn.training = True  # the numbers of training
        expected, _ = theirs.rpn(shown, maps, theirs_of(targets))
        regions = ours.rpn(ours.features(images))
        pairs = ours.rpn.proposals(regions, whole_sizes(images), training=True)
    for (boxes, scores), wanted in zip(pairs, expected, strict=True):
        close(boxes, wanted)
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)


@pytest.mark.parametrize("nothing", [False, True], ids=["objects", "an image without objects"])
def test_losses_and_gradients_are_the_same(pair: tuple[FasterRCNN, nn.Module], nothing: bool) -> None:
    ours, theirs = pair
    images, targets = batch(masks=True)
    if nothing:
        targets[0] = empty(targets[0])
    expected = theirs(list(images), theirs_of(targets))
    losses = ours.losses(images, targets)
    assert {THEIR_LOSSES[name] for name in losses} == expected.keys()
    for name, value in losses.items():
        close(value, expected[THEIR_LOSSES[name]])
    sum(losses.values()).backward()
    sum(expected.values()).backward()
    gradients = {name.replace("backbone.maps.", "features."): p.grad for name, p in theirs.named_parameters()}
    renamed = our_names(gradients, range(1, CLASSES + 1))
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, renamed[name], atol=1e-4, rtol=1e-3, msg=name)


def test_detections_are_the_same(pair: tuple[FasterRCNN, nn.Module]) -> None:
    ours, theirs = (net.eval() for net in pair)
    images, _ = batch()
    with torch.no_grad():
        expected = theirs(list(images))
    check_same(ours.detect(images), expected)


def check_same(found: list[Detections], expected: list[dict[str, Tensor]]) -> None:
    assert len({label for one in found for label in one["labels"].tolist()}) == CLASSES
    for one, wanted in zip(found, expected, strict=True):
        assert len(one["labels"]) > 10
        close(one["boxes"], wanted["boxes"])
        close(one["scores"], wanted["scores"])
        assert torch.equal(one["labels"], wanted["labels"])
        if "masks" in one:
            probabilities = wanted["masks"][:, 0]
            masks = one["masks"][:, : probabilities.shape[1], : probabilities.shape[2]]
            clear = (probabilities - 0.5).abs() > 1e-4
            assert torch.equal(masks & clear, (probabilities >= 0.5) & clear)
            assert masks.sum() > 100


def test_images_of_different_sizes_are_the_same(pair: tuple[FasterRCNN, nn.Module]) -> None:
    ours, theirs = pair
    images, targets = batch(masks=True)
    images[1, :, 64:], images[1, :, :, 96:] = 0, 0  # as torchvision pads
    targets[1] = targets[1] | {"boxes": torch.tensor([[20.0, 10.0, 90.0, 60.0]]), "shown": (64, 96)}
    smaller = theirs_of(targets)
    smaller[1]["masks"] = targets[1]["masks"][:, :64, :96]
    expected = theirs([images[0], images[1, :, :64, :96]], smaller)
    for name, value in ours.losses(images, targets).items():
        close(value, expected[THEIR_LOSSES[name]])
    assert objects_of(targets[1], images, True).size == (64, 96)


def test_detections_of_images_of_different_sizes_are_the_same(pair: tuple[FasterRCNN, nn.Module]) -> None:
    """The first image is the smaller one, whose padding is to be told from picture."""
    ours, theirs = (net.eval() for net in pair)
    images, _ = batch()
    images[0, :, 56:], images[0, :, :, 72:] = 0, 0
    pictures, sizes = [images[0, :, :56, :72], images[1]], [(56, 72), (96, 128)]
    with torch.no_grad():
        expected = theirs(pictures)
        shown, _ = theirs.transform(pictures)
        proposals, _ = theirs.rpn(shown, theirs.backbone(shown.tensors))
    for boxes, wanted in zip(ours.propose(images, sizes), proposals, strict=True):
        close(boxes, wanted)
    found = ours.detect_in(images, sizes)
    check_same(found, expected)
    targets = [target | {"shown": size} for target, size in zip(batch()[1], sizes, strict=True)]
    task = (InstanceSegModule if "masks" in found[0] else TwoStageDetector)(ours, torch.optim.SGD)
    check_same(task.detections({"images": images, "targets": targets}), expected)
    assert len(ours.detect(images)[0]["boxes"]) != len(found[0]["boxes"]) or not torch.allclose(
        ours.detect(images)[0]["boxes"], found[0]["boxes"]
    ), "it finds something in the padding, too"
