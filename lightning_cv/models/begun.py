"""Whether a net that keeps weights was given any."""

from torch import nn


def note_begun(net: nn.Module, _: object) -> None:
    """A hook after a whole state dict was loaded: the net, which says so by `begun`, has weights now."""
    net.begun = True  # type: ignore[assignment]  # modules take it for a tensor
