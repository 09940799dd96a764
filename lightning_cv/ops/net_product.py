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
    exclusive: ClassVar[bool] = True
    of_scores: ClassVar[bool] = False
    """Whether scores are multiplied, so that no look may average probabilities."""

    def __init__(
        self,
        net: nn.Module,
        weights: str | None = None,
        first: DenseInference | None = None,
        second: DenseInference | None = None,
    ) -> None:
        for look in (first, second):
            if self.of_scores and look is not None and not look.of_logits:
                raise ValueError(
                    f"{type(self).__name__} multiplies scores, {type(look).__name__} averages probabilities"
                )
        self.net, self.first, self.second = net.eval().requires_grad_(False), first, second
        if weights is not None:
            _load(self.net, weights)

    def __call__(self, look: Look, images: Tensor, image_ids: Sequence[str] = ()) -> Tensor:
        """Logits (N, K, H, W) of images (N, 3, H, W): log probabilities but for a constant at each pixel."""
        one = self._said(look, self.first, images, image_ids)
        other = self._said(self.net.to(images.device), self.second, images, image_ids)
        if one.shape != other.shape or one.shape[1] < 2:
            raise ValueError(
                f"{type(self).__name__}: both nets have a score for each of the same classes, at least 2; theirs are "
                f"{one.shape[1]} and {other.shape[1]}"
            )
        return self._product(one, other)

    def _said(self, look: Look, inference: DenseInference | None, images: Tensor, ids: Sequence[str]) -> Tensor:
        """What a net says, (N, K, H, W): log probabilities."""
        return _log_probabilities(look, inference, images, ids)

    def _product(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other


class ScoreProduct(NetProduct):
    """The product of what two nets score, class by class, each cut at zero.

    The release of Noh et al. 2015 ("EDeconvNet"): windows' largest scores, which are never below zero, times the FCN's
    scores cut at zero. Scores, not probabilities as in `NetProduct`, so that a net counts more where its scores are
    larger; a class that either net scores below zero is out, and where all are, the pixel is background. Differs: no
    CRF follows. Arguments as for `NetProduct`; neither look may average probabilities.
    """

    exclusive: ClassVar[bool] = False
    of_scores: ClassVar[bool] = True

    def _said(self, look: Look, inference: DenseInference | None, images: Tensor, ids: Sequence[str]) -> Tensor:
        """What a net scores, (N, K, H, W), not below zero."""
        return (look(images) if inference is None else inference(look, images, ids)).float().clamp(min=0)

    def _product(self, one: Tensor, other: Tensor) -> Tensor:
        return one * other


def _log_probabilities(look: Look, inference: DenseInference | None, images: Tensor, ids: Sequence[str]) -> Tensor:
    if inference is None or inference.of_logits:
        logits = look(images) if inference is None else inference(look, images, ids)
        return logits.float().log_softmax(dim=1)
    return inference(lambda seen: look(seen).float().softmax(dim=1), images, ids).clamp(min=1e-6).log()


def _load(net: nn.Module, path: str) -> None:
    if not Path(path).is_file():
        raise ValueError(f"NetProduct: no weights at {path}")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if "state_dict" in state:  # of a task, whose net may have trained with an auxiliary head
        kept = state["state_dict"].items()
        state = {name.removeprefix("net."): value for name, value in kept if name.startswith("net.")}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"NetProduct: {path} is not a checkpoint of {type(net).__name__}: {error}") from None
