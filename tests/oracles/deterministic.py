"""An autoencoder without variance, and its checkpoint made of a variational one's."""

from pathlib import Path

import torch
from torch import Tensor

from lightning_cv.contracts import Posterior
from lightning_cv.models import ConvVAE


class Deterministic(ConvVAE):
    """The layers of a VAE of which the variance is not used."""

    def encode(self, images: Tensor, /) -> Posterior:
        return Posterior(super().encode(images).mean, None)


def deterministic_checkpoint(variational: Path, target: Path) -> Path:
    """The same weights under `Deterministic`."""
    content = torch.load(variational, weights_only=True)
    content["lightning_cv"]["settings"]["model"]["init_args"]["net"]["class_path"] = f"{__name__}.Deterministic"
    torch.save(content, target)
    return target
