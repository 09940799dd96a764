import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from lightning_cv.ops.upsample import bilinear_kernel, resize_bilinear


def test_kernel_of_factor_two_by_hand():
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    torch.testing.assert_close(bilinear_kernel(2), ramp[:, None] * ramp)
    assert bilinear_kernel(1).tolist() == [[1.0]]


def kernel_by_definition(factor):
    """Long et al. 2015, 3.3, as Caffe's bilinear filler: 2f - f % 2 taps, 1 - |x - c| / f about their middle c."""
    taps = 2 * factor - factor % 2
    middle = (taps - 1) / 2
    return torch.tensor(
        [[(1 - abs(y - middle) / factor) * (1 - abs(x - middle) / factor) for x in range(taps)] for y in range(taps)]
    )


def test_kernel_of_factor_four_by_hand():
    ramp = torch.tensor([1.0, 3, 5, 7, 7, 5, 3, 1]) / 8
    torch.testing.assert_close(bilinear_kernel(4), ramp[:, None] * ramp)


@pytest.mark.parametrize("factor", [1, 2, 4, 6, 8, 16, 32])
def test_kernel_is_that_of_the_definition(factor):
    kernel = bilinear_kernel(factor)
    assert kernel.shape == (2 * factor - factor % 2,) * 2
    torch.testing.assert_close(kernel, kernel_by_definition(factor))
    assert torch.equal(kernel, kernel.T)
    assert torch.equal(kernel, kernel.flip(0, 1))


@pytest.mark.parametrize("factor", [3, 5])
def test_an_odd_factor_has_no_kernel_of_ours_but_is_resized_as_by_definition(factor):
    """The odd kernel has a tap in its middle, so that 2f - 1 taps are padded by (f - 1) / 2, not by f / 2."""
    with pytest.raises(ValueError, match=f"got {factor}"):
        bilinear_kernel(factor)
    image = torch.rand(1, 1, 4, 5)
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    kernel = kernel_by_definition(factor)[None, None]
    out = F.conv_transpose2d(padded, kernel, stride=factor, padding=factor // 2 + factor)
    torch.testing.assert_close(resize_bilinear(image, (4 * factor, 5 * factor)), out)


@pytest.mark.parametrize("factor", [2, 4, 8, 16, 32])
def test_weights_that_meet_at_an_output_pixel_sum_to_one(factor):
    kernel = bilinear_kernel(factor)
    meeting = sum(
        kernel[i : i + factor, j : j + factor] for i in (0, factor) for j in (0, factor)
    )  # the four taps of each phase
    torch.testing.assert_close(meeting, torch.ones(factor, factor))


@pytest.mark.parametrize("factor", [2, 4, 8, 16, 32])
def test_transposed_convolution_with_the_kernel_is_bilinear_interpolation(factor):
    image = torch.rand(1, 1, 5, 6)
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    out = F.conv_transpose2d(padded, bilinear_kernel(factor)[None, None], stride=factor, padding=factor // 2 + factor)
    torch.testing.assert_close(out, F.interpolate(image, scale_factor=factor, mode="bilinear", align_corners=False))


@pytest.mark.parametrize("factor", [0, -2])
def test_a_factor_that_cannot_be_centred_is_refused(factor):
    with pytest.raises(ValueError, match=f"got {factor}"):
        bilinear_kernel(factor)


def test_resizing_equals_the_loop():
    image = torch.rand(2, 1, 3, 2, dtype=torch.float64)
    out = resize_bilinear(image, (5, 7))
    for y in range(5):
        for x in range(7):
            sy = min(max((y + 0.5) * 3 / 5 - 0.5, 0), 2)
            sx = min(max((x + 0.5) * 2 / 7 - 0.5, 0), 1)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, 2), min(x0 + 1, 1)
            dy, dx = sy - y0, sx - x0
            top = image[:, :, y0, x0] * (1 - dx) + image[:, :, y0, x1] * dx
            bottom = image[:, :, y1, x0] * (1 - dx) + image[:, :, y1, x1] * dx
            torch.testing.assert_close(out[:, :, y, x], top * (1 - dy) + bottom * dy)


def test_resizing_has_the_right_gradient_and_takes_an_empty_batch():
    maps = torch.rand(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: resize_bilinear(x, (4, 5)), (maps,))
    assert resize_bilinear(torch.zeros(0, 2, 3, 3), (6, 6)).shape == (0, 2, 6, 6)
