"""What images and predictions must be before a likelihood is taken of them. Letters: N images."""

from torch import Tensor


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
