"""Convolutional variational autoencoders. Letters: N images; C, H, W channels and sides; L latent size."""

from torch import Tensor, nn

from lightning_cv.contracts import Posterior
from lightning_cv.models.autoencoders.checks import refuse_below_one, refuse_other_images
from lightning_cv.models.autoencoders.decoders import ConvDecoder
from lightning_cv.models.autoencoders.encoders import ConvEncoder
from lightning_cv.models.autoencoders.initial import he_normal, small_normal
from lightning_cv.ops.latents import clamp_log_var


class ConvVAE(nn.Module):
    """A convolutional Gaussian encoder and its mirror image as decoder; beta and the likelihood are the task's.

    Kingma and Welling 2014, "Auto-encoding variational Bayes"; the layers of Burgess et al. 2018, "Understanding
    disentangling in beta-VAE", appendix A.1. Differs from the paper: image sizes from 8 px; the log variance is
    clamped (`ops.latents`); first weights as in `initial`.

    Args:
        image_size: side of the square images in px: 4, 5, 6 or 7 times a power of two.
        image_channels: 1 for grey, 3 for colour.
        latent_size: numbers in a code.
        width: channels of every convolution.
        hidden: units of the linear layers.
    """

    def __init__(
        self, image_size: int, image_channels: int = 1, latent_size: int = 10, width: int = 32, hidden: int = 256
    ) -> None:
        super().__init__()
        refuse_below_one("ConvVAE", image_channels=image_channels, latent_size=latent_size, width=width, hidden=hidden)
        self.image_shape = (image_channels, image_size, image_size)
        self.latent_size = latent_size
        self.encoder = ConvEncoder(image_size, image_channels, width, hidden)
        self.mean = nn.Linear(hidden, latent_size)
        self.log_var = nn.Linear(hidden, latent_size)
        self.decoder = ConvDecoder(image_size, image_channels, latent_size, width, hidden)
        he_normal(self)
        for layer in (self.mean, self.log_var, self.decoder.from_code):
            small_normal(layer)

    def encode(self, images: Tensor, /) -> Posterior:
        """q(z|x) of images (N, C, H, W)."""
        refuse_other_images("ConvVAE", images, self.image_shape)
        features = self.encoder(images)
        return Posterior(self.mean(features), clamp_log_var(self.log_var(features)))

    def decode(self, latent: Tensor, /) -> Tensor:
        """Logits (N, C, H, W) of codes (N, L)."""
        logits: Tensor = self.decoder(latent)
        return logits
