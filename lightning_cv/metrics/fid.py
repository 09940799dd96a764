"""How far two sets of images are apart as a net sees them. Letters: N images; C, H, W; F features; K classes."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.image.fid import FrechetInceptionDistance

BATCH = 250


class FeatureNet(nn.Module):
    """A small classifier whose last hidden layer gives features (N, 64) of images (N, C, H, W), 0 to 1.

    Heusel et al. 2017 use an Inception net trained on ImageNet, which says little about digits and has to be fetched.
    Its figures compare only with figures of the same net on the same data: its `name` belongs to each of them.
    """

    num_features = 64

    def __init__(self, channels: int, num_classes: int, name: str) -> None:
        super().__init__()
        self.name = name
        self.features = nn.Sequential(
            nn.Conv2d(channels, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(32 * 16, self.num_features),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(self.num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 64)."""
        found: Tensor = self.features(images)
        return found

    @torch.inference_mode()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of images (N, C, H, W) whose class (N,) it names: whether its features are worth anything."""
        guesses = torch.cat([self.classifier(self(batch)).argmax(1) for batch in torch.split(images, BATCH)])
        return float((guesses == labels).double().mean())


def fit_feature_net(
    images: Tensor, labels: Tensor, name: str, seed: int = 0, steps: int = 800, batch_size: int = 128
) -> FeatureNet:
    """A classifier of training images (N, C, H, W) with classes (N,), the same for the same seed.

    Adam with a learning rate that falls from 0.003 to 0 by a cosine.
    """
    if len(images) != len(labels) or len(set(labels.tolist())) < 2:
        raise ValueError(f"need a class for each of {len(images)} images and two classes at least, got {len(labels)}")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # first weights come from the global generator, which is put back
        net = FeatureNet(images.shape[1], int(labels.max()) + 1, name)
    optimizer = torch.optim.Adam(net.parameters())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.003 * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = torch.randint(len(images), (min(batch_size, len(images)),), generator=generator)
        optimizer.zero_grad()
        loss = functional.cross_entropy(net.classifier(net(images[rows])), labels[rows])
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        optimizer.step()
    return net.eval()


def frechet_distance(real: Tensor, other: Tensor, net: nn.Module) -> float:
    """Fréchet distance of two sets of images (N, C, H, W) as Gaussians of the net's features; 0 is best.

    Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6, with torchmetrics' computation.
    It shrinks as N grows: compare only figures of as many images.

    Args:
        real: images 0 to 1.
        other: images to compare, as many channels and pixels.
        net: maps images to features (N, F), without gradient or noise; its `num_features`, where it has one, is F.
    """
    if real.shape[1:] != other.shape[1:] or min(len(real), len(other)) < 2:
        raise ValueError(f"need two sets of images of one size, got {tuple(real.shape)} and {tuple(other.shape)}")
    channels, height, width = real.shape[1:]
    metric = FrechetInceptionDistance(feature=net, normalize=True, input_img_size=(channels, height, width))
    with torch.inference_mode():
        for images, is_real in ((real, True), (other, False)):
            for batch in torch.split(images, BATCH):
                metric.update(batch, real=is_real)
    return float(metric.compute())
