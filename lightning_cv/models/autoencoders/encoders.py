"""From images to the parameters of their codes. Letters: N images; C, H, W channels and sides; L latent size."""

from torch import Tensor, nn

SMALLEST = 4
"""Side in px of the map between the convolutions and the linear layers."""


def halvings(image_size: int) -> int:
    """How often an image side halves until it is 4: 1 for 8, 2 for 16, 3 for 32, 4 for 64."""
    count = (image_size // SMALLEST).bit_length() - 1
    if count < 1 or SMALLEST << count != image_size:
        raise ValueError(
            f"image_size must be 4 times a power of two (8, 16, 32, 64, 128 ...), got {image_size}: "
            "resize or pad the images in the data module"
        )
    return count


class ConvEncoder(nn.Module):
    """Features (N, hidden) of images (N, C, H, H), H = `image_size`.

    Burgess et al. 2018, "Understanding disentangling in beta-VAE", appendix A.1: 4x4 convolutions of stride 2 down to
    4x4, two linear layers, ReLU after each. Differs from the paper: any number of halvings, so that 8 to 128 px fit.
    """

    def __init__(self, image_size: int, image_channels: int, width: int, hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = image_channels
        for _ in range(halvings(image_size)):
            layers += [nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1), nn.ReLU()]
            channels = width
        self.convolutions = nn.Sequential(*layers)
        self.linear = nn.Sequential(
            nn.Linear(width * SMALLEST**2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features of the images."""
        maps = self.convolutions(images)  # (N, width, 4, 4)
        features: Tensor = self.linear(maps.flatten(1))  # (N, hidden)
        return features
