"""A fully connected VAE. Letters: N images; C, H, W channels and sides; L latent size."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from lightning_cv.contracts import Posterior
from lightning_cv.models.autoencoders.checks import refuse_below_one, refuse_other_images
from lightning_cv.ops.latents import clamp_log_var

Activation = Literal["relu", "tanh"]


class MLPVAE(nn.Module):
    """A Gaussian encoder and a decoder of fully connected layers.

    Kingma and Welling 2014, "Auto-encoding variational Bayes", appendix C, is one hidden tanh layer on either side;
    Higgins et al. 2017, "beta-VAE", on dSprites two ReLU layers of 1200 in and three tanh layers of 1200 out:
    `hidden=(1200, 1200), decoder_hidden=(1200, 1200, 1200), decoder_activation="tanh"`. Differs from the papers: first
    weights after Glorot and Bengio 2010 with zero biases, where Kingma draws from N(0, 0.01); the log variance is
    clamped (`ops.latents`).

    Args:
        image_size: side of the square images in px, any.
        image_channels: 1 for grey, 3 for colour.
        latent_size: numbers in a code.
        hidden: units of the encoder's layers, from the image on.
        activation: after each of them.
        decoder_hidden: units of the decoder's layers, from the code on; None for the encoder's in reverse.
        decoder_activation: after each of them; None for the encoder's.
    """

    def __init__(
        self,
        image_size: int,
        image_channels: int = 1,
        latent_size: int = 20,
        hidden: tuple[int, ...] = (400,),
        activation: Activation = "relu",
        decoder_hidden: tuple[int, ...] | None = None,
        decoder_activation: Activation | None = None,
    ) -> None:
        super().__init__()
        outwards = tuple(reversed(hidden)) if decoder_hidden is None else decoder_hidden
        if not hidden or not outwards:
            raise ValueError(f"MLPVAE: hidden and decoder_hidden name a layer at least, got {hidden} and {outwards}")
        least = min(*hidden, *outwards)
        refuse_below_one(
            "MLPVAE", image_size=image_size, image_channels=image_channels, latent_size=latent_size, hidden=least
        )
        self.image_shape = (image_channels, image_size, image_size)
        self.latent_size = latent_size
        pixels = image_channels * image_size**2
        self.encoder = nn.Sequential(*_layers(pixels, hidden, activation))
        self.mean = nn.Linear(hidden[-1], latent_size)
        self.log_var = nn.Linear(hidden[-1], latent_size)
        self.decoder = nn.Sequential(
            *_layers(latent_size, outwards, decoder_activation or activation), nn.Linear(outwards[-1], pixels)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def encode(self, images: Tensor, /) -> Posterior:
        """q(z|x) of images (N, C, H, W)."""
        refuse_other_images("MLPVAE", images, self.image_shape)
        features = self.encoder(images.flatten(1))  # (N, hidden)
        return Posterior(self.mean(features), clamp_log_var(self.log_var(features)))

    def decode(self, latent: Tensor, /) -> Tensor:
        """Logits (N, C, H, W) of codes (N, L)."""
        logits: Tensor = self.decoder(latent).unflatten(1, self.image_shape)
        return logits


def _layers(inputs: int, units: Sequence[int], activation: Activation) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in zip((inputs, *units), units, strict=False):
        layers += [nn.Linear(before, after), nn.Tanh() if activation == "tanh" else nn.ReLU()]
    return layers
