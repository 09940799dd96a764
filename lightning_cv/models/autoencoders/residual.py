"""A VAE of residual blocks, for photographs. Letters: N images; C, H, W channels and sides; L latent size."""

from torch import Tensor, nn

from lightning_cv.contracts import Posterior
from lightning_cv.models.autoencoders.checks import refuse_below_one, refuse_other_images
from lightning_cv.models.autoencoders.encoders import halvings, smallest_side
from lightning_cv.ops.latents import clamp_log_var

_GROUPS = 8
"""Groups of channels that are normalised together, and what `width` is a multiple of."""


class ResidualVAE(nn.Module):
    """A Gaussian encoder and decoder in which every halving or doubling of the side is followed by a residual block.

    He et al. 2016, "Identity mappings in deep residual networks", for the block: normalise, ReLU, convolve, twice.
    Differs from the paper: groups are normalised (Wu and He 2018), not batches, so that an image's code does not depend
    on its neighbours; the side changes between blocks, by a strided convolution down and by repeated pixels up; the
    second convolution of a block starts at zero, so that the net starts as a shallow one (Goyal et al. 2017).

    Args:
        image_size: side of the square images in px: 4, 5, 6 or 7 times a power of two.
        image_channels: 1 for grey, 3 for colour.
        latent_size: numbers in a code.
        width: channels after the first halving, a multiple of 8; doubled by every further halving up to four times it.
    """

    def __init__(self, image_size: int = 64, image_channels: int = 3, latent_size: int = 64, width: int = 32) -> None:
        super().__init__()
        refuse_below_one("ResidualVAE", image_channels=image_channels, latent_size=latent_size, width=width)
        if width % _GROUPS:
            raise ValueError(f"ResidualVAE: width must be a multiple of {_GROUPS}, got {width}")
        self.image_shape = (image_channels, image_size, image_size)
        self.latent_size = latent_size
        side = smallest_side(image_size)
        channels = [width * min(2**level, 4) for level in range(halvings(image_size))]
        down: list[nn.Module] = []
        for before, after in zip([image_channels, *channels], channels, strict=False):
            down += [nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1), ResidualBlock(after)]
        self.encoder = nn.Sequential(*down, *_normalised(channels[-1]), nn.Flatten())
        features = channels[-1] * side**2
        self.mean = nn.Linear(features, latent_size)
        self.log_var = nn.Linear(features, latent_size)
        up: list[nn.Module] = [nn.Linear(latent_size, features), nn.Unflatten(1, (channels[-1], side, side))]
        upwards = channels[::-1]
        for before, after in zip(upwards, [*upwards[1:], width], strict=True):
            up += [ResidualBlock(before), nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]
        self.decoder = nn.Sequential(*up, *_normalised(width), nn.Conv2d(width, image_channels, 3, padding=1))

    def encode(self, images: Tensor, /) -> Posterior:
        """q(z|x) of images (N, C, H, W)."""
        refuse_other_images("ResidualVAE", images, self.image_shape)
        features = self.encoder(images)
        return Posterior(self.mean(features), clamp_log_var(self.log_var(features)))

    def decode(self, latent: Tensor, /) -> Tensor:
        """Logits (N, C, H, W) of codes (N, L)."""
        logits: Tensor = self.decoder(latent)
        return logits


class ResidualBlock(nn.Module):
    """Maps of the input's shape (N, channels, H, W): the input plus what two convolutions make of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.branch = nn.Sequential(
            *_normalised(channels), nn.Conv2d(channels, channels, 3, padding=1), *_normalised(channels), last
        )

    def forward(self, maps: Tensor) -> Tensor:
        """The maps and their correction."""
        corrected: Tensor = maps + self.branch(maps)
        return corrected


def _normalised(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.GroupNorm(_GROUPS, channels), nn.ReLU()
