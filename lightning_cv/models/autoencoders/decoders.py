"""From codes to images. Letters: N images; C, H, W channels and sides; L latent size."""

from torch import Tensor, nn

from lightning_cv.models.autoencoders.encoders import halvings, smallest_side


class ConvDecoder(nn.Module):
    """Logits (N, C, H, H) of codes (N, L), H = `image_size`: the mirror image of `ConvEncoder` (Burgess 2018)."""

    def __init__(self, image_size: int, image_channels: int, latent_size: int, width: int, hidden: int) -> None:
        super().__init__()
        self.width, self.side = width, smallest_side(image_size)
        self.from_code = nn.Linear(latent_size, hidden)
        self.linear = nn.Sequential(
            nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, width * self.side**2)
        )
        layers: list[nn.Module] = []
        count = halvings(image_size)
        for i in range(count):
            channels = image_channels if i == count - 1 else width
            layers += [nn.ReLU(), nn.ConvTranspose2d(width, channels, kernel_size=4, stride=2, padding=1)]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, latent: Tensor) -> Tensor:
        """Logits of the images."""
        maps = self.linear(self.from_code(latent)).reshape(-1, self.width, self.side, self.side)
        logits: Tensor = self.convolutions(maps)  # (N, C, H, H)
        return logits
