import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lightning_cv.metrics.images import masked_psnr, psnr, ssim
from lightning_cv.metrics.reconstruction import ReconstructionQuality


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 17, 23, generator=generator)
    noise = torch.randn(images.shape, generator=generator) * torch.tensor([0.01, 0.05, 0.2, 0.4]).reshape(4, 1, 1, 1)
    return (images + noise).clamp(0, 1), images


def test_by_hand():
    images = torch.full((2, 1, 12, 12), 0.5)
    targets = images.clone()
    targets[1] += 0.1
    assert psnr(images, targets).tolist() == pytest.approx([math.inf, 20.0], abs=1e-5)
    assert ssim(images, targets)[0] == 1
    # flat images: only the term of the means is left
    assert ssim(images, targets)[1].item() == pytest.approx((2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4))


def test_each_image_agrees_with_scikit_image(pair):
    images, targets = (part.double().numpy() for part in pair)
    noise = [peak_signal_noise_ratio(b, a, data_range=1) for a, b in zip(images, targets, strict=True)]
    likeness = [
        structural_similarity(a, b, channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5,
                              use_sample_covariance=False)
        for a, b in zip(images, targets, strict=True)
    ]  # fmt: skip
    assert psnr(*pair).tolist() == pytest.approx(noise)
    assert ssim(*pair).tolist() == pytest.approx(likeness)


def test_only_hidden_pixels_count(pair):
    images, targets = pair
    hidden = torch.zeros(4, 1, 17, 23, dtype=torch.bool)
    hidden[:3, :, 4:9, 5:20] = True
    values = masked_psnr(images, targets, hidden)
    inside = slice(4, 9), slice(5, 20)
    for n in range(3):
        error = (images[n][:, *inside].double() - targets[n][:, *inside].double()).square().mean().item()
        assert values[n].item() == pytest.approx(-10 * math.log10(error))
    assert values[3].isnan()
    assert torch.equal(masked_psnr(images, targets, torch.ones_like(hidden)), psnr(images, targets))


def test_means_are_over_images_whatever_the_batches(pair):
    images, targets = pair
    hidden = torch.zeros(4, 1, 17, 23, dtype=torch.bool)
    hidden[1:, :, :3] = True
    metric = ReconstructionQuality()
    for chosen in ([0, 1, 2], [3], [2]):  # the last one again
        metric.update(images[chosen], targets[chosen], [str(n) for n in chosen], {}, hidden[chosen])
    figures = metric.compute()
    assert figures["psnr"] == pytest.approx(psnr(images, targets).mean().item())
    assert figures["ssim"] == pytest.approx(ssim(images, targets).mean().item())
    assert figures["psnr_hidden"] == pytest.approx(masked_psnr(images, targets, hidden)[1:].mean().item())
    assert len(metric.records) == 4


def test_empty_and_bad_input():
    none = torch.zeros(0, 3, 16, 16)
    assert psnr(none, none).shape == ssim(none, none).shape == (0,)
    image = torch.zeros(1, 1, 8, 16)
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(image, image)
    with pytest.raises(ValueError, match="one shape"):
        psnr(image, image[0])
    with pytest.raises(ValueError, match="hidden must be bool"):
        masked_psnr(image, image, torch.zeros(1, 1, 8, 16))
