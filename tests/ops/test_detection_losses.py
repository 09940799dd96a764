import math

import pytest
import torch
from oracles.detection import focal_loop, mining_loop, ssd_losses_loop

from lightning_cv.ops.detection_losses import (
    AnchorTargets,
    MinedCrossEntropy,
    SigmoidFocal,
    mine_hard_negatives,
    ssd_losses,
)


def test_mining_takes_the_worst_background_three_to_one():
    losses = torch.tensor([[9.0, 0.1, 0.5, 0.4, 0.3, 0.2]])
    positives = torch.tensor([[True, False, False, False, False, False]])
    assert mine_hard_negatives(losses, positives).tolist() == [[False, False, True, True, True, False]]


def test_an_image_without_positives_has_no_negatives_unless_asked():
    losses, none = torch.tensor([[0.3, 0.2]]), torch.zeros(1, 2, dtype=torch.bool)
    assert not mine_hard_negatives(losses, none).any()
    assert mine_hard_negatives(losses, none, minimum=1).tolist() == [[True, False]]


def test_a_positive_is_never_taken_for_a_negative():
    positives = torch.tensor([[True, True, False]])  # three to one would need six
    assert mine_hard_negatives(torch.rand(1, 3), positives).tolist() == [[False, False, True]]


def test_mining_without_anchors():
    assert mine_hard_negatives(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)).shape == (2, 0)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("minimum", [0, 4])
def test_mining_equals_the_loop(seed, minimum):
    generator = torch.Generator().manual_seed(seed)
    losses = torch.rand(4, 25, generator=generator)
    positives = torch.rand(4, 25, generator=generator) < 0.15
    expected = mining_loop(losses.tolist(), positives.tolist(), 3, minimum)
    assert mine_hard_negatives(losses, positives, 3.0, minimum).tolist() == expected


def random_case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, AnchorTargets]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(1, 4, (3, 20), generator=generator) * (torch.rand(3, 20, generator=generator) < 0.2)
    labels[2] = 0
    wanted = torch.randn(3, 20, 4, generator=generator)
    logits = torch.randn(3, 20, 4, generator=generator)
    deltas = torch.randn(3, 20, 4, generator=generator) * 2
    return logits, deltas, AnchorTargets(labels, wanted)


@pytest.mark.parametrize("seed", range(5))
def test_losses_equal_the_loop(seed):
    logits, deltas, targets = random_case(seed)
    losses = ssd_losses(logits, deltas, targets)
    expected = ssd_losses_loop(logits.tolist(), deltas.tolist(), targets.labels.tolist(), targets.deltas.tolist(), 3)
    assert (losses["class"].item(), losses["box"].item()) == pytest.approx(expected, rel=1e-5)


def test_uniform_scores_cost_four_logarithms_a_positive():
    targets = AnchorTargets(torch.tensor([[1, 0, 0, 0, 0]]), torch.ones(1, 5, 4))
    losses = ssd_losses(torch.zeros(1, 5, 3), torch.zeros(1, 5, 4), targets)
    assert losses["class"].item() == pytest.approx(4 * math.log(3))  # one positive, three negatives
    assert losses["box"].item() == pytest.approx(4 * 0.5)


def test_no_objects_at_all_is_finite_and_every_prediction_has_a_gradient():
    logits, deltas = torch.randn(2, 5, 3, requires_grad=True), torch.randn(2, 5, 4, requires_grad=True)
    targets = AnchorTargets(torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5, 4))
    losses = ssd_losses(logits, deltas, targets)
    sum(losses.values()).backward()
    assert [value.item() for value in losses.values()] == [0.0, 0.0]
    assert logits.grad is not None
    assert deltas.grad is not None
    assert logits.grad.abs().sum() == deltas.grad.abs().sum() == 0  # as in the original: nothing is learned


def test_gradients_reach_positives_and_mined_negatives_only():
    logits, deltas, targets = random_case()
    logits.requires_grad_()
    deltas.requires_grad_()
    sum(ssd_losses(logits, deltas, targets).values()).backward()
    positives = targets.labels > 0
    touched = logits.grad.abs().sum(-1) > 0
    assert (touched.sum(1) == positives.sum(1) * 4).all()
    assert ((deltas.grad.abs().sum(-1) > 0) == positives).all()


def test_losses_are_float32_under_autocast():
    logits, deltas, targets = random_case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = ssd_losses(logits.bfloat16(), deltas.bfloat16(), targets)
    exact = ssd_losses(logits, deltas, targets)
    for name, value in losses.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.02)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 0.5)])
def test_focal_loss_equals_the_loop(seed, alpha, gamma):
    logits, deltas, targets = random_case(seed)
    logits = logits[..., :3]
    expected = focal_loop(logits.tolist(), targets.labels.tolist(), alpha, gamma)
    assert SigmoidFocal(alpha, gamma)(logits, targets.labels).item() == pytest.approx(expected, rel=1e-5)
    total = ssd_losses(logits, deltas, targets, SigmoidFocal(alpha, gamma))["class"]
    assert total.item() == pytest.approx(expected / max(1, (targets.labels > 0).sum().item()), rel=1e-5)


def test_focal_loss_of_a_hand_example():
    """p = 0.5 everywhere: one true output of alpha 1/4 and five others of 3/4, each times 1/4 log 2."""
    labels = torch.tensor([[2, 0]])
    loss = SigmoidFocal()(torch.zeros(1, 2, 3), labels)
    assert loss.item() == pytest.approx((0.25 + 5 * 0.75) * 0.25 * math.log(2))


def test_a_kind_of_loss_knows_its_outputs_and_scores():
    logits = torch.tensor([[0.0, math.log(3.0), 0.0]])
    assert MinedCrossEntropy().outputs(2) == 3
    assert MinedCrossEntropy().scores(logits).tolist() == [pytest.approx([0.6, 0.2])]
    assert SigmoidFocal().outputs(3) == 3
    assert SigmoidFocal().scores(logits).tolist() == [pytest.approx([0.5, 0.75, 0.5])]
    assert torch.sigmoid(torch.tensor(SigmoidFocal(prior=0.02).initial_bias)).item() == pytest.approx(0.02)


@pytest.mark.parametrize("loss", [MinedCrossEntropy(), SigmoidFocal()])
def test_a_batch_without_anchors_or_objects_is_finite(loss):
    for count in (0, 4):
        logits = torch.randn(2, count, loss.outputs(3), requires_grad=True)
        value = loss(logits, torch.zeros(2, count, dtype=torch.int64))
        value.backward()
        assert torch.isfinite(value)
        assert logits.grad is not None


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="negative_ratio and min_negatives are at least 0, got -1"):
        MinedCrossEntropy(negative_ratio=-1)
    for arguments in ({"alpha": 1.5}, {"gamma": -1.0}, {"prior": 1.0}):
        with pytest.raises(ValueError, match="SigmoidFocal: alpha from 0 to 1"):
            SigmoidFocal(**arguments)
