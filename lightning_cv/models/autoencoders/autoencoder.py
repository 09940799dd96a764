"""Convolutional autoencoders without a variance. Letters: N images; C, H, W channels and sides; L latent size."""

from torch import Tensor, nn

from lightning_cv.contracts import Posterior
from lightning_cv.models.autoencoders.checks import refuse_below_one, refuse_other_images
from lightning_cv.models.autoencoders.decoders import ConvDecoder
from lightning_cv.models.autoencoders.encoders import ConvEncoder
from lightning_cv.models.autoencoders.initial import he_normal


class ConvAutoencoder(nn.Module):
    """`ConvVAE` without the variance: a code is what the encoder says, and a code's place carries all that is kept.

    Hinton and Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks". Differs from the paper:
    convolutions as in `ConvVAE`, trained as a whole from `initial` weights rather than layer by layer.

    Args:
        image_size, image_channels, latent_size, width, hidden: as for `ConvVAE`.
    """

    def __init__(
        self, image_size: int, image_channels: int = 1, latent_size: int = 10, width: int = 32, hidden: int = 256
    ) -> None:
        super().__init__()
        refuse_below_one(
            "ConvAutoencoder", image_channels=image_channels, latent_size=latent_size, width=width, hidden=hidden
        )
        self.image_shape = (image_channels, image_size, image_size)
        self.latent_size = latent_size
        self.encoder = ConvEncoder(image_size, image_channels, width, hidden)
        self.code = nn.Linear(hidden, latent_size)
        self.decoder = ConvDecoder(image_size, image_channels, latent_size, width, hidden)
        he_normal(self)

    def encode(self, images: Tensor, /) -> Posterior:
        """Codes (N, L) of images (N, C, H, W), as a mean without a variance."""
        refuse_other_images("ConvAutoencoder", images, self.image_shape)
        return Posterior(self.code(self.encoder(images)), None)

    def decode(self, latent: Tensor, /) -> Tensor:
        """Logits (N, C, H, W) of codes (N, L)."""
        logits: Tensor = self.decoder(latent)
        return logits
