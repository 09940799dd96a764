"""Negative log likelihoods of images, summed over an image and never averaged over its pixels. Letters: N images."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bernoulli_nll(logits: Tensor, targets: Tensor, *, check: bool = True) -> Tensor:
    """-log p(image | logits) in nats an image (N,), pixels independent Bernoulli; grey targets count by their share.

    Kingma and Welling 2014, appendix C.1. From logits: sigmoid first would saturate. `check` looks that targets are
    within 0 and 1, which a normalising transform breaks without any other sign; on an accelerator it waits for it.
    """
    same_shape(logits, targets)
    if check:
        in_unit_range(targets)
    logits = _at_least_float32(logits)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="none").flatten(1).sum(1)


def in_unit_range(targets: Tensor) -> None:
    """Raise where images leave 0 to 1, outside of which the Bernoulli likelihood has no meaning."""
    if not targets.numel():
        return
    low, high = (value.item() for value in targets.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"the Bernoulli likelihood needs images within 0 and 1, got {low:.3g} to {high:.3g}: "
            "is there a normalising transform?"
        )


def same_shape(prediction: Tensor, targets: Tensor) -> None:
    """Raise where prediction and images do not have one shape (N, ...): broadcasting would hide it."""
    if prediction.shape != targets.shape or targets.ndim < 2:
        raise ValueError(
            f"images must have one shape (N, ...), got {tuple(prediction.shape)} and {tuple(targets.shape)}"
        )


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
