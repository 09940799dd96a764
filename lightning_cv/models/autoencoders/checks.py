"""What every autoencoder checks at the door."""

from torch import Tensor


def refuse_below_one(net: str, **sizes: int) -> None:
    """Raise ValueError for a size that is not at least 1."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{net}: {name} must be at least 1, got {value}")


def refuse_other_images(net: str, images: Tensor, shape: tuple[int, int, int]) -> None:
    """Raise ValueError for a batch of images of another shape than (C, H, W) = `shape`."""
    if tuple(images.shape[1:]) != shape:
        raise ValueError(f"{net} was built for images {shape}, got {tuple(images.shape[1:])}")
