import math

import pytest
import torch

from lightning_cv.ops.likelihoods import Bernoulli
from lightning_cv.ops.losses import in_unit_range, same_shape


def test_bernoulli_sums_over_pixels_and_channels_but_not_images():
    found = Bernoulli()(torch.zeros(3, 2, 4, 5), torch.ones(3, 2, 4, 5))
    assert torch.allclose(found, torch.full((3,), 40 * math.log(2)))


def test_confident_and_wrong_does_not_saturate():
    assert Bernoulli()(torch.full((1, 1), 500.0), torch.zeros(1, 1)).item() == pytest.approx(500.0)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_images_outside_0_to_1_are_refused(bad):
    with pytest.raises(ValueError, match=r"within 0 and 1, got .* normalising transform"):
        in_unit_range(torch.tensor([[0.5, bad]]))


def test_images_from_0_to_1_and_none_at_all_pass():
    in_unit_range(torch.tensor([[0.0, 1.0]]))
    in_unit_range(torch.zeros(0, 1, 2, 2))
    same_shape(torch.zeros(0, 2), torch.zeros(0, 2))
    assert Bernoulli()(torch.zeros(0, 1, 2, 2), torch.zeros(0, 1, 2, 2)).shape == (0,)


@pytest.mark.parametrize("shape", [(1, 2), (3, 3), (3,)])
def test_another_shape_is_refused_where_broadcasting_would_hide_it(shape):
    with pytest.raises(ValueError, match="one shape"):
        same_shape(torch.zeros(3, 2), torch.zeros(shape))


def test_gradients_and_half_precision():
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.rand(2, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: Bernoulli()(x, targets), logits)
    assert Bernoulli()(torch.zeros(1, 2, dtype=torch.float16), torch.zeros(1, 2)).dtype == torch.float32
