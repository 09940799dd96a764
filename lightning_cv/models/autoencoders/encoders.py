"""From images to features of which codes are made. Letters: N images; C, H, W channels and sides."""

from torch import Tensor, nn

SMALLEST = 4
"""Least side in px of the map between the convolutions and the linear layers."""


def halvings(image_size: int) -> int:
    """How often a side halves until 4 to 7 px are left: 1 for 8, 2 for 28, 3 for 32, 4 for 64, 5 for 128."""
    count = 0
    while image_size % 2 == 0 and image_size >> 1 >= SMALLEST:
        image_size, count = image_size >> 1, count + 1
    return count if count and image_size < 2 * SMALLEST else 0


def smallest_side(image_size: int) -> int:
    """Side in px of the last map: 4 for powers of two, 7 for 28.

    Raises:
        ValueError: the side does not halve down to 4 to 7 px.
    """
    if not (count := halvings(image_size)):
        raise ValueError(
            f"image_size must be 4, 5, 6 or 7 times a power of two (8, 28, 32, 64, 96, 128 ...), got {image_size}: "
            "resize or pad the images in the data module"
        )
    return image_size >> count


class ConvEncoder(nn.Module):
    """Features (N, hidden) of images (N, C, H, H), H = `image_size`.

    Burgess et al. 2018, "Understanding disentangling in beta-VAE", appendix A.1: 4x4 convolutions of stride 2 down to
    4x4, two linear layers, ReLU after each. Differs from the paper: any number of halvings, down to 4 to 7 px, so that
    28 px fit as well as 128.
    """

    def __init__(self, image_size: int, image_channels: int, width: int, hidden: int) -> None:
        super().__init__()
        side = smallest_side(image_size)
        layers: list[nn.Module] = []
        channels = image_channels
        for _ in range(halvings(image_size)):
            layers += [nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1), nn.ReLU()]
            channels = width
        self.convolutions = nn.Sequential(*layers)
        self.linear = nn.Sequential(nn.Linear(width * side**2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Features of the images."""
        maps = self.convolutions(images)  # (N, width, side, side)
        features: Tensor = self.linear(maps.flatten(1))  # (N, hidden)
        return features
