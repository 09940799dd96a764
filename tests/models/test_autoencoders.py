import pytest
import torch
from torch import nn

from lightning_cv.contracts import Autoencoder
from lightning_cv.models import MLPVAE, ConvAutoencoder, LocatelloVAE, ResidualVAE
from lightning_cv.ops.latents import kl_to_standard_normal, reparameterise
from lightning_cv.ops.likelihoods import Bernoulli

SMALL = {
    "mlp": lambda: MLPVAE(9, 2, latent_size=3, hidden=(16, 8)),
    "residual": lambda: ResidualVAE(28, 3, latent_size=3, width=8),
    "locatello": lambda: LocatelloVAE(image_channels=3, latent_size=3),
    "locatello 32 px": lambda: LocatelloVAE(32, latent_size=3),
    "conv": lambda: ConvAutoencoder(28, 1, latent_size=3, width=4, hidden=16),
}


def shapes(net):
    return [tuple(p.shape) for name, p in net.named_parameters() if name.endswith("weight")]


@pytest.mark.parametrize("kind", SMALL)
def test_codes_and_images_have_the_promised_shapes(kind):
    net = SMALL[kind]()
    assert isinstance(net, Autoencoder)
    for count in (2, 1, 0):
        mean, log_var = net.encode(torch.rand(count, *net.image_shape))
        assert mean.shape == (count, 3)
        assert (log_var is None) == (kind == "conv")
        assert log_var is None or log_var.shape == (count, 3)
        assert net.decode(mean).shape == (count, *net.image_shape)
    with pytest.raises(ValueError, match=r"was built for images .*, got \(5, 8, 8\)"):
        net.encode(torch.rand(1, 5, 8, 8))


@pytest.mark.parametrize("kind", SMALL)
def test_two_images_are_learnt_by_heart_by_all_parameters(kind):
    torch.manual_seed(0)
    net = SMALL[kind]()
    images = torch.zeros(2, *net.image_shape)  # a white left and a white upper half
    images[0, :, :, : net.image_shape[2] // 2] = images[1, :, : net.image_shape[1] // 2] = 1
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        mean, log_var = net.encode(images)
        logits = net.decode(mean if log_var is None else reparameterise(mean, log_var))
        kl = 0.0 if log_var is None else kl_to_standard_normal(mean, log_var).mean()
        loss = Bernoulli()(logits, images).mean()
        (loss + 0.01 * kl).backward()
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < 0.6 * losses[0]:
            break
    assert losses[-1] < 0.6 * losses[0]
    for name, parameter in net.named_parameters():
        assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("kind", SMALL)
def test_an_images_code_does_not_depend_on_its_neighbours_nor_on_the_mode(kind):
    net = SMALL[kind]()
    images = torch.rand(3, *net.image_shape)
    alone, together = net.encode(images[:1]).mean, net.encode(images).mean[:1]
    assert torch.allclose(alone, together, atol=1e-5)
    assert torch.allclose(net.eval().encode(images[:1]).mean, alone, atol=1e-6)


def test_the_layers_of_the_large_study():
    # disentanglement_lib's conv_encoder and deconv_decoder; parameters counted from the layers by hand
    encoder = [(32, 1, 4, 4), (32, 32, 4, 4), (64, 32, 2, 2), (64, 64, 2, 2), (256, 1024)]
    decoder = [(256, 10), (1024, 256), (64, 64, 4, 4), (64, 32, 4, 4), (32, 32, 4, 4), (32, 1, 4, 4)]
    net = LocatelloVAE()
    assert shapes(net.encoder) == encoder
    assert shapes(net.decoder) == decoder
    weights = sum(torch.Size(shape).numel() for shape in [*encoder, *decoder, (20, 256)])
    biases = (32 + 32 + 64 + 64 + 256) + 20 + (256 + 1024 + 64 + 32 + 32 + 1)
    assert sum(p.numel() for p in net.parameters()) == weights + biases
    assert shapes(LocatelloVAE(64).decoder) == decoder


@pytest.mark.parametrize(("size", "side"), [(16, 1), (32, 2), (48, 3), (128, 8)])
def test_other_sides_change_the_linear_layers_alone(size, side):
    usual, net = LocatelloVAE(), LocatelloVAE(size)
    for ours, theirs in ((net.encoder, usual.encoder), (net.decoder, usual.decoder)):
        assert [shape for shape in shapes(ours) if len(shape) == 4] == [s for s in shapes(theirs) if len(s) == 4]
    assert (256, 64 * side**2) in shapes(net.encoder)
    assert (64 * side**2, 256) in shapes(net.decoder)
    assert net.decode(net.encode(torch.rand(1, 1, size, size)).mean).shape == (1, 1, size, size)


def test_the_mlps_of_the_papers():
    assert shapes(MLPVAE(28)) == [(400, 784), (20, 400), (20, 400), (400, 20), (784, 400)]
    higgins = MLPVAE(64, 1, 10, (1200, 1200), "relu", (1200, 1200, 1200), "tanh")
    assert shapes(higgins.encoder) == [(1200, 4096), (1200, 1200)]
    assert shapes(higgins.decoder) == [(1200, 10), (1200, 1200), (1200, 1200), (4096, 1200)]
    kinds = [[type(m) for m in part if not isinstance(m, nn.Linear)] for part in (higgins.encoder, higgins.decoder)]
    assert kinds == [[nn.ReLU] * 2, [nn.Tanh] * 3]
    assert [type(m) for m in MLPVAE(8, hidden=(5,), activation="tanh").decoder] == [nn.Linear, nn.Tanh, nn.Linear]


def test_an_mlps_pixels_stay_where_they_are():
    net = MLPVAE(2, 1, latent_size=4, hidden=(4,))
    last = net.decoder[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert net.decode(torch.zeros(1, 4)).tolist() == [[[[1.0, 2.0], [3.0, 4.0]]]]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLPVAE(28, latent_size=0), "MLPVAE: latent_size must be at least 1, got 0"),
        (lambda: MLPVAE(28, hidden=()), "MLPVAE: hidden and decoder_hidden name a layer at least"),
        (lambda: MLPVAE(28, hidden=(400, 0)), "MLPVAE: hidden must be at least 1, got 0"),
        (lambda: LocatelloVAE(latent_size=0), "LocatelloVAE: latent_size must be at least 1, got 0"),
        (lambda: LocatelloVAE(40), "LocatelloVAE: image_size must be a multiple of 16, got 40"),
        (lambda: LocatelloVAE(0), "LocatelloVAE: image_size must be a multiple of 16, got 0"),
        (lambda: ResidualVAE(latent_size=0), "ResidualVAE: latent_size must be at least 1, got 0"),
        (lambda: ResidualVAE(width=12), "ResidualVAE: width must be a multiple of 8, got 12"),
        (lambda: ResidualVAE(62), "got 62: resize or pad"),
        (lambda: ConvAutoencoder(32, latent_size=0), "ConvAutoencoder: latent_size must be at least 1, got 0"),
        (lambda: ConvAutoencoder(18), "got 18: resize or pad"),
    ],
)
def test_bad_sizes_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
