import pytest
import torch

from lightning_cv.contracts import Autoencoder
from lightning_cv.models.autoencoders.encoders import halvings, smallest_side
from lightning_cv.models.autoencoders.vae import ConvVAE
from lightning_cv.ops.latents import kl_to_standard_normal, reparameterise
from lightning_cv.ops.likelihoods import Bernoulli


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 1), (28, 1), (32, 3), (64, 1), (128, 3), (48, 1)])
def test_codes_and_images_have_the_promised_shapes(size, channels):
    net = ConvVAE(size, channels, latent_size=5, width=4, hidden=16)
    assert net.image_shape == (channels, size, size)
    assert isinstance(net, Autoencoder)
    mean, log_var = net.encode(torch.rand(2, channels, size, size))
    assert mean.shape == log_var.shape == (2, 5)
    assert net.decode(mean).shape == (2, channels, size, size)
    assert net.encode(torch.rand(0, channels, size, size)).mean.shape == (0, 5)


def test_the_32_px_net_has_the_parameters_of_the_published_one():
    # YannDubs/disentangling-vae, trained MNIST models: 469,173 parameters
    assert sum(p.numel() for p in ConvVAE(32).parameters()) == 469_173


def test_every_parameter_gets_a_gradient():
    net = ConvVAE(16, width=4, hidden=8)
    mean, log_var = net.encode(torch.rand(3, 1, 16, 16))
    logits = net.decode(reparameterise(mean, log_var))
    (Bernoulli()(logits, torch.rand(3, 1, 16, 16)).mean() + kl_to_standard_normal(mean, log_var).sum()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_it_learns_two_images_by_heart():
    torch.manual_seed(0)
    net = ConvVAE(8, width=8, hidden=32, latent_size=2)
    images = (torch.rand(2, 1, 8, 8) > 0.5).float()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss = Bernoulli()(net.decode(net.encode(images).mean), images).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 3.0
    assert torch.equal((net.decode(net.encode(images).mean) > 0).float(), images)


@pytest.mark.parametrize("size", [0, 4, 7, 18, 30, 50, 100])
def test_sizes_that_do_not_halve_to_4_until_7_are_refused(size):
    with pytest.raises(ValueError, match=f"8, 28, 32, 64.*got {size}:"):
        ConvVAE(size)


def test_28_px_halve_twice_and_powers_of_two_down_to_4():
    assert [halvings(size) for size in (8, 12, 14, 16, 28, 32, 64, 128)] == [1, 1, 1, 2, 2, 3, 4, 5]
    assert [smallest_side(size) for size in (8, 12, 14, 16, 28, 32, 64, 128)] == [4, 6, 7, 4, 7, 4, 4, 4]
    assert ConvVAE(28).decoder.linear[3].weight.shape == (32 * 7 * 7, 256)


@pytest.mark.parametrize("name", ["latent_size", "width", "hidden", "image_channels"])
def test_nothing_may_be_zero(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        ConvVAE(16, **{name: 0})


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"built for images \(1, 16, 16\), got \(1, 32, 32\)"):
        ConvVAE(16).encode(torch.rand(1, 1, 32, 32))


def test_a_huge_log_variance_stays_finite():
    net = ConvVAE(8, width=2, hidden=4)
    torch.nn.init.constant_(net.log_var.bias, 1e6)
    mean, log_var = net.encode(torch.rand(1, 1, 8, 8))
    assert kl_to_standard_normal(mean, log_var).isfinite().all()


def test_the_first_weights_keep_the_signals_size():
    torch.manual_seed(0)
    net = ConvVAE(64, width=32)
    features = net.encoder(torch.randn(64, 1, 64, 64))
    assert 0.3 < features.square().mean().sqrt() < 3  # PyTorch's own first weights leave 0.03
    logits = net.decoder.convolutions(net.decoder.linear(torch.randn(64, 256)).reshape(-1, 32, 4, 4))
    assert 0.3 < logits.std() < 3
