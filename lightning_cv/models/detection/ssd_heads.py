"""What reads a detector's predictions off its maps. Letters: N images, L maps."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn


class Head(nn.Module):
    """Maps (N, channels[i], H, W) become predictions (N, outputs[i], H, W)."""

    @abstractmethod
    def last_layers(self) -> list[nn.Conv2d]:
        """The convolutions whose outputs are the predictions."""

    def start_from(self, bias: float) -> None:
        """Let every prediction be about `bias` before training."""
        for conv in self.last_layers():
            nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]  # bias=True gives a tensor

    @abstractmethod
    def forward(self, maps: list[Tensor], /) -> list[Tensor]:
        """Predictions of each map."""


HeadMaker = Callable[[Sequence[int], Sequence[int]], Head]
"""Builds a head from the channels and the outputs of each map: a class, or a class path with its other arguments."""


class HeadPerMap(Head):
    """One 3x3 convolution a map. Liu et al. 2016, section 2.1; Xavier initialisation as in their code."""

    def __init__(self, channels: Sequence[int], outputs: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, o, 3, padding=1) for c, o in zip(channels, outputs, strict=True))
        for conv in self.last_layers():
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # bias=True gives a tensor

    def last_layers(self) -> list[nn.Conv2d]:
        """One a map."""
        return list(self.convs)  # type: ignore[arg-type]  # built above of nothing else

    def forward(self, maps: list[Tensor], /) -> list[Tensor]:
        """Predictions of each map."""
        return [conv(x) for conv, x in zip(self.convs, maps, strict=True)]


class SharedHead(Head):
    """The same 3x3 convolutions on all maps, so that a class is learned from objects of every size at once.

    Lin et al. 2017b (RetinaNet), section 4, who put four convolutions with ReLU before the last one.

    Args:
        channels, outputs: of each map, the same for all.
        convolutions: how many come before the last one.
    """

    def __init__(self, channels: Sequence[int], outputs: Sequence[int], convolutions: int = 0) -> None:
        super().__init__()
        if len(set(channels)) != 1 or len(set(outputs)) != 1:
            raise ValueError(
                f"SharedHead: maps that share a head have the same channels and outputs, got {list(channels)} and "
                f"{list(outputs)}"
            )
        inner = [nn.Conv2d(channels[0], channels[0], 3, padding=1) for _ in range(convolutions)]
        self.last = nn.Conv2d(channels[0], outputs[0], 3, padding=1)
        for conv in (*inner, self.last):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # bias=True gives a tensor
        self.tower = nn.Sequential(*(layer for conv in inner for layer in (conv, nn.ReLU(inplace=True))))

    def last_layers(self) -> list[nn.Conv2d]:
        """The one of all maps."""
        return [self.last]

    def forward(self, maps: list[Tensor], /) -> list[Tensor]:
        """Predictions of each map."""
        return [self.last(self.tower(x)) for x in maps]
