"""Codecs against what is known of them: sizes of markers, lossless ones, principal components of a line."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from sklearn.datasets import load_digits

from lightning_cv.metrics.compression import (
    Coded,
    LinearAutoencoder,
    code_latents,
    code_spread,
    eight_bits,
    figures,
    jpeg_scans,
    mosaics,
    png_mosaics,
    zlib_all,
)


@pytest.fixture(scope="module")
def digits():
    """50 digits, each pixel twice in both directions: (50, 1, 16, 16)."""
    images = torch.from_numpy(load_digits().images[:50]).float()[:, None] / 16
    return eight_bits(images.repeat_interleave(2, -1).repeat_interleave(2, -2))


@pytest.fixture(scope="module")
def noise():
    """Five colour images that no block fits: (5, 3, 13, 19)."""
    return eight_bits(torch.rand(5, 3, 13, 19, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("codec", [png_mosaics, zlib_all])
def test_lossless_codecs_give_back_every_value(codec, digits, noise):
    for images in (digits, noise):
        coded = codec(images)
        assert torch.equal(coded.images, images)
        assert 0 < coded.size < 1.2 * images.numel() + 200


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_mosaics_give_each_image_back_in_its_place(form, digits, noise):
    many = digits.repeat(9, 1, 1, 1)[:441]  # two mosaics, the second one not full
    coded = mosaics(many, form, 95)
    assert coded.images.shape == many.shape
    assert float((coded.images - many).square().mean((1, 2, 3)).max()) < 1e-3
    flat = torch.arange(5).view(5, 1, 1, 1).expand_as(noise) / 5  # each image of one colour: any mix-up is seen
    assert torch.allclose(mosaics(flat, form, 95).images, flat, atol=0.02)


def test_a_jpeg_alone_is_its_scan_and_the_header_counted_by_hand(digits):
    file = io.BytesIO()
    Image.fromarray((digits[0, 0] * 255).round().to(torch.uint8).numpy()).save(file, "JPEG", quality=50)
    whole, position = file.getvalue(), 2
    while whole[position + 1] != 0xDA:  # from marker to marker by their own lengths, to the start of the scan
        position += 2 + int.from_bytes(whole[position + 2 : position + 4], "big")
    position += 2 + int.from_bytes(whole[position + 2 : position + 4], "big")
    assert jpeg_scans(digits[:1], 50).size == len(whole) - position - 2
    assert position > 300  # what would have been counted too


def test_jpeg_costs_and_quality_rise_together(digits):
    found = [figures(jpeg_scans(digits, quality), digits) for quality in (5, 30, 80)]
    for worse, better in pairwise(found):
        assert worse.bits_per_image < better.bits_per_image
        assert worse.psnr < better.psnr
        assert worse.ssim < better.ssim
    alone, together = jpeg_scans(digits, 30), mosaics(digits, "JPEG", 30)
    assert torch.equal(alone.images, together.images)  # blocks are the same ones, only the header is shared
    assert together.size - alone.size < 350


def test_figures_are_bits_a_place_and_the_mean_psnr_of_the_images(digits):
    darker = (digits - 0.1).clamp(0, 1)
    found = figures(Coded(darker, 1000), digits)
    assert found.bits_per_image == 8 * 1000 / 50
    assert found.bits_per_pixel == 8 * 1000 / 50 / 256
    pairs = zip(digits.numpy(), darker.numpy(), strict=True)
    assert found.psnr == pytest.approx(np.mean([peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs]))
    half = torch.cat([digits[:1], darker[1:2]])  # the first of two came back exactly
    assert figures(Coded(half, 1), digits[:2]).psnr == pytest.approx(
        (10 * np.log10(12 * 255**2) + peak_signal_noise_ratio(digits[1].numpy(), darker[1].numpy(), data_range=1)) / 2,
        abs=0.01,
    )
    assert figures(Coded(digits, 1), digits).psnr == np.inf
    small = torch.zeros(2, 3, 8, 8)
    assert np.isnan(figures(Coded(small, 1), small).ssim)


def test_latents_come_back_as_multiples_of_the_step_and_cost_their_entropy():
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(5000, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.0])
    codes = torch.randn(2000, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.0])
    received, size = code_latents(codes, train, 0.5)
    assert torch.equal(received, (codes / 0.5).round() * 0.5)
    # differential entropy of a Gaussian, log2(deviation * sqrt(2 pi e) / step); the silent latent is free
    expected = sum(np.log2(s * np.sqrt(2 * np.pi * np.e) / 0.5) for s in (1.0, 5.0))
    assert 8 * size / 2000 == pytest.approx(expected, rel=0.02)
    with pytest.raises(ValueError, match="step of the quantiser must be positive, got 0"):
        code_latents(codes, train, 0)


def test_codes_of_other_data_escape_and_survive():
    train, codes = torch.zeros(10, 1), torch.tensor([[0.0], [1000.0], [-7.5]])
    received, size = code_latents(codes, train, 0.5)
    assert torch.equal(received, codes)
    assert size >= 8  # two numbers of 32 bits


def test_spread_is_the_root_mean_square_of_the_deviations():
    codes = torch.tensor([[1.0, 10.0], [-1.0, 10.0]])
    assert code_spread(codes) == pytest.approx(0.5**0.5)


def test_principal_components_find_a_line_of_images():
    shape, offset = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(1)), 0.3
    images = torch.linspace(-1, 1, 9).view(9, 1, 1, 1) * shape + offset
    linear = LinearAutoencoder(images, 1)
    assert torch.allclose(linear.decode(linear.encode(images)), images, atol=1e-5)
    assert float(linear.encode(images).abs().max()) == pytest.approx(float(shape.norm()), rel=1e-5)
    with pytest.raises(ValueError, match="have 1 to 6 components"):
        LinearAutoencoder(images, 7)


def test_images_that_no_codec_takes_are_refused():
    for bad in (torch.zeros(2, 2, 8, 8), torch.zeros(0, 1, 8, 8), torch.zeros(8, 8)):
        with pytest.raises(ValueError, match="codecs take images"):
            zlib_all(bad)
