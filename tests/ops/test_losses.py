import math

import pytest
import torch
from torch.distributions import Bernoulli

from lightning_cv.ops.losses import bernoulli_nll


def test_bernoulli_sums_over_pixels_and_channels_but_not_images():
    logits = torch.zeros(3, 2, 4, 5)
    targets = torch.ones(3, 2, 4, 5)
    assert torch.allclose(bernoulli_nll(logits, targets), torch.full((3,), 40 * math.log(2)))


def test_bernoulli_agrees_with_torch_distributions():
    logits = torch.randn(2, 1, 3, 3)
    targets = (torch.rand(2, 1, 3, 3) > 0.5).float()
    expected = -Bernoulli(logits=logits).log_prob(targets).sum((1, 2, 3))
    assert torch.allclose(bernoulli_nll(logits, targets), expected)


def test_confident_and_wrong_does_not_saturate():
    assert bernoulli_nll(torch.full((1, 1), 500.0), torch.zeros(1, 1)).item() == pytest.approx(500.0)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_bernoulli_refuses_targets_outside_0_to_1(bad):
    with pytest.raises(ValueError, match="within 0 and 1"):
        bernoulli_nll(torch.zeros(1, 1), torch.tensor([[bad]]))


def test_empty_shapes_and_bad_input():
    assert bernoulli_nll(torch.zeros(0, 1, 2, 2), torch.zeros(0, 1, 2, 2)).shape == (0,)
    with pytest.raises(ValueError, match="one shape"):
        bernoulli_nll(torch.zeros(1, 2), torch.zeros(1, 3))


def test_gradients_and_half_precision():
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.rand(2, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: bernoulli_nll(x, targets), logits)
    assert bernoulli_nll(torch.zeros(1, 2, dtype=torch.float16), torch.zeros(1, 2)).dtype == torch.float32
