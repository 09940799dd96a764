"""Scores of every pixel from two nets. Letters: N images; K classes; H, W sides in pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from lightning_cv.ops.dense_inference import DenseInference, Look


class NetProduct(DenseInference):
    """The product of what two nets say, class by class: DeconvNet with an FCN, for example.

    After the release of Noh et al. 2015 ("EDeconvNet"), which multiplies scores, those of the FCN cut at zero, before
    its CRF. Differs: probabilities are multiplied and divided by their sum, so that the scale of no net's scores
    matters. For classes that exclude each other.

    Args:
        net: the second net, of the same classes.
        weights: a checkpoint of it.
        first, second: how each net looks at images; None is once.
    """

    of_logits: ClassVar[bool] = True

    def __init__(
        self,
        net: nn.Module,
        weights: str | None = None,
        first: DenseInference | None = None,
        second: DenseInference | None = None,
    ) -> None:
        self.net, self.first, self.second = net.eval().requires_grad_(False), first, second
        if weights is not None:
            _load(self.net, weights)

    def __call__(self, look: Look, images: Tensor, image_ids: Sequence[str] = ()) -> Tensor:
        """Logits (N, K, H, W) of images (N, 3, H, W): log probabilities but for a constant at each pixel."""
        one = _log_probabilities(look, self.first, images, image_ids)
        other = _log_probabilities(self.net.to(images.device), self.second, images, image_ids)
        if one.shape != other.shape or one.shape[1] < 2:
            raise ValueError(
                "NetProduct: both nets have a logit for each of the same classes, at least 2; theirs are "
                f"{one.shape[1]} and {other.shape[1]}"
            )
        return one + other


def _log_probabilities(look: Look, inference: DenseInference | None, images: Tensor, ids: Sequence[str]) -> Tensor:
    if inference is None or inference.of_logits:
        logits = look(images) if inference is None else inference(look, images, ids)
        return logits.float().log_softmax(dim=1)
    return inference(lambda seen: look(seen).float().softmax(dim=1), images, ids).clamp(min=1e-6).log()


def _load(net: nn.Module, path: str) -> None:
    if not Path(path).is_file():
        raise ValueError(f"NetProduct: no weights at {path}")
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = {name.removeprefix("net."): value for name, value in content.get("state_dict", content).items()}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"NetProduct: {path} is not a checkpoint of {type(net).__name__}: {error}") from None
