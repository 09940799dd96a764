"""Parts of a net that are trained, kept or taken from another run: the 4-step training of Ren et al. 2015, 3.2."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from two_stage_nets import CLASSES, batch, check_gradients, fast_rcnn, faster_rcnn, features, our_parts, spread, total

from lightning_cv.models import FasterRCNN, FastRCNN
from lightning_cv.models.detection.proposers import StoredProposer
from lightning_cv.tasks import TwoStageDetector


def saved(net: nn.Module, file: Path) -> str:
    """The net in a checkpoint of a task."""
    torch.save({"state_dict": {f"net.{name}": value for name, value in net.state_dict().items()}}, file)
    return str(file)


def test_a_stored_proposer_gives_what_the_net_proposes_and_is_not_trained(tmp_path: Path) -> None:
    first = faster_rcnn()
    spread(first)
    first.eval()
    net = fast_rcnn(proposer=StoredProposer(faster_rcnn(), saved(first, tmp_path / "first.ckpt"))).train()
    images, targets = batch()
    assert isinstance(net.proposer, StoredProposer)
    for boxes, expected in zip(net.proposer(images), first.propose(images), strict=True):
        torch.testing.assert_close(boxes, expected)
    total(net.losses(images, targets)).backward()
    assert all(parameter.grad is None for parameter in net.proposer.parameters())
    check_gradients(net)


def test_the_four_steps_of_alternating_training_hand_their_parts_on(tmp_path: Path) -> None:
    images, targets = batch()

    def step(net: nn.Module, name: str) -> dict[str, Tensor]:
        """One step of training; the state dict after it."""
        before = {key: value.clone() for key, value in net.state_dict().items()}
        losses = net.losses(images, targets)  # type: ignore[operator]
        total(losses).backward()
        torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1).step()
        after = net.state_dict()
        changed = {key.split(".")[0] for key in after if not torch.equal(after[key], before[key])}
        assert changed == {"1": {"features", "rpn"}, "2": {"features", "boxes"}, "3": {"rpn"}, "4": {"boxes"}}[name]
        assert list(losses) == (["rpn_objectness", "rpn_box"] if name in "13" else ["classifier", "box"])
        saved(net, tmp_path / name)
        return after

    parts = our_parts(64)
    two = partial(FasterRCNN, num_classes=CLASSES, rpn=parts["rpn"], boxes=parts["boxes"])  # type: ignore[arg-type]
    step(two(features(), trained=("features", "rpn")).train(), "1")
    proposer = StoredProposer(two(features()), str(tmp_path / "1"))
    second = step(fast_rcnn(proposer=proposer).train(), "2")
    third = step(
        two(features(), trained=("rpn",), weights=str(tmp_path / "2"), weights_of=("features", "boxes")).train(), "3"
    )
    fourth = step(two(features(), trained=("boxes",), weights=str(tmp_path / "3")).train(), "4")
    for key, value in fourth.items():
        if key.startswith("features."):
            assert torch.equal(value, second[key]), "the backbone is that of step 2"
        if key.startswith("rpn."):
            assert torch.equal(value, third[key])


class Counted(FastRCNN):
    """Notes how many proposals it learns from and looks at."""

    seen: list[int]

    def _proposed(self, *given: object, **also: object) -> list[Tensor]:
        found = super()._proposed(*given, **also)  # type: ignore[arg-type]
        self.seen.append(len(found[0]))
        return found


def test_step_2_learns_from_as_many_proposals_as_joint_training_and_looks_at_as_many_as_in_use(tmp_path: Path) -> None:
    first = faster_rcnn()
    spread(first)
    proposer = StoredProposer(faster_rcnn(), saved(first, tmp_path / "first.ckpt"))
    net = Counted(features(), CLASSES, our_parts(64)["boxes"], proposer)  # type: ignore[arg-type]
    net.seen = []
    images, targets = batch()
    net.train().losses(images, targets)
    net.detect(images)
    assert net.seen == list(first.rpn.top_after) == [100, 50]
    assert not any(part.training for part in proposer.modules())


def test_parts_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trained names some of .* got \['head'\]"):
        FasterRCNN(features(), CLASSES, trained=("head",), **our_parts())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no weights at"):
        fast_rcnn(weights=str(tmp_path / "none.ckpt"))
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"holds no such features: \d+ of \d+ tensors are missing"):
        fast_rcnn(weights=str(tmp_path / "other.ckpt"))
    for names in (("feature",), ()):
        with pytest.raises(ValueError, match=r"FastRCNN: weights_of names some of \['features', 'boxes'\], got"):
            fast_rcnn(weights=str(tmp_path / "other.ckpt"), weights_of=names)


def test_a_part_with_a_loss_is_trained() -> None:
    with pytest.raises(ValueError, match=r"FastRCNN: features have no loss of their own: train boxes, too"):
        fast_rcnn(trained=("features",))
    with pytest.raises(ValueError, match=r"FasterRCNN: features have no loss of their own: train rpn or boxes, too"):
        FasterRCNN(features(), CLASSES, trained=("features",), **our_parts())  # type: ignore[arg-type]


def turn(trained: tuple[str, ...], weights: str | None, weights_of: tuple[str, ...] | None) -> FasterRCNN:
    return FasterRCNN(  # type: ignore[misc]  # the parts are those of the helper
        features(), CLASSES, trained=trained, weights=weights, weights_of=weights_of, **our_parts()
    )


def starts(net: nn.Module) -> None:
    TwoStageDetector(net, torch.optim.SGD).on_fit_start()  # type: ignore[arg-type]


def test_a_step_that_was_to_go_on_from_another_is_refused_without_its_checkpoint(tmp_path: Path) -> None:
    without = {
        "3": turn(("rpn",), None, ("features", "boxes")),
        "4": turn(("boxes",), None, ("features", "rpn", "boxes")),
        "2": fast_rcnn(proposer=StoredProposer(faster_rcnn())),
    }
    for step, net in without.items():
        option = r"--model\.net\.proposer\.weights CKPT" if step == "2" else r"--model\.net\.weights CKPT"
        with pytest.raises(ValueError, match=option):
            starts(net)
        net.load_state_dict(net.state_dict())  # as in a run that goes on
        starts(net)
    starts(turn(("rpn",), saved(faster_rcnn(), tmp_path / "two.ckpt"), ("features", "boxes")))
    starts(fast_rcnn(proposer=StoredProposer(faster_rcnn(), str(tmp_path / "two.ckpt"))))
    starts(turn(("features", "rpn"), None, None))  # step 1
    starts(turn(("features", "rpn", "boxes"), None, ("features", "rpn", "boxes")))  # all is trained
    starts(fast_rcnn())
