"""The VAE of the large disentanglement study. Letters: N images; C, H channels and side; L latent size."""

from torch import Tensor, nn

from lightning_cv.contracts import Posterior
from lightning_cv.models.autoencoders.checks import refuse_below_one, refuse_other_images
from lightning_cv.ops.latents import clamp_log_var


class LocatelloVAE(nn.Module):
    """A Gaussian encoder and decoder for images of 64 px, or of another multiple of 16.

    Locatello et al. 2019, "Challenging common assumptions in the unsupervised learning of disentangled
    representations", table 1 of the appendix, as their code has it: the last two of the four convolutions have 2x2
    kernels, where most ports take 4x4 throughout. First weights after Glorot and Bengio 2010, zero biases, the defaults
    of their framework. Differs from the paper: the log variance is clamped (`ops.latents`), and images may have
    other sides than 64 px: the same convolutions, and linear layers for a last map of a sixteenth of the side.

    Args:
        image_size: side of the square images in px, a multiple of 16.
        image_channels: 1 for grey, 3 for colour.
        latent_size: numbers in a code.
    """

    def __init__(self, image_size: int = 64, image_channels: int = 1, latent_size: int = 10) -> None:
        super().__init__()
        refuse_below_one("LocatelloVAE", image_channels=image_channels, latent_size=latent_size)
        if image_size < 16 or image_size % 16:
            raise ValueError(
                f"LocatelloVAE: image_size must be a multiple of 16, got {image_size}: "
                "resize or pad the images in the data module"
            )
        self.image_shape = (image_channels, image_size, image_size)
        side = image_size // 16
        self.latent_size = latent_size
        self.encoder = nn.Sequential(
            nn.Conv2d(image_channels, 32, kernel_size=4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, kernel_size=4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=2, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=2, stride=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(64 * side**2, 256), nn.ReLU(),
        )  # fmt: skip
        self.mean = nn.Linear(256, latent_size)
        self.log_var = nn.Linear(256, latent_size)
        self.decoder = nn.Sequential(
            nn.Linear(latent_size, 256), nn.ReLU(),
            nn.Linear(256, 64 * side**2), nn.ReLU(), nn.Unflatten(1, (64, side, side)),
            nn.ConvTranspose2d(64, 64, kernel_size=4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(64, 32, kernel_size=4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(32, 32, kernel_size=4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(32, image_channels, kernel_size=4, stride=2, padding=1),
        )  # fmt: skip
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def encode(self, images: Tensor, /) -> Posterior:
        """q(z|x) of images (N, C, H, H)."""
        refuse_other_images("LocatelloVAE", images, self.image_shape)
        features = self.encoder(images)  # (N, 256)
        return Posterior(self.mean(features), clamp_log_var(self.log_var(features)))

    def decode(self, latent: Tensor, /) -> Tensor:
        """Logits (N, C, H, H) of codes (N, L)."""
        logits: Tensor = self.decoder(latent)
        return logits
