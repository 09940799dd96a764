"""What panoptic nets share: which classes are things, and the two results that one pass gives."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_cv.contracts import Detections, FoundSegments, PanopticParts, PanopticTarget
from lightning_cv.ops.panoptic import PanopticMerge, instances_of


class DividingNet(nn.Module):
    """A net that proposes masks of things and stuff, and divides images by merging them.

    Args:
        num_things: thing classes.
        num_stuff: stuff classes. Until `tell_classes` says otherwise the things come first.
        merge: how pixels are shared out.
    """

    is_thing: Tensor

    def __init__(self, num_things: int, num_stuff: int, merge: PanopticMerge) -> None:
        super().__init__()
        if num_things < 0 or num_stuff < 0 or num_things + num_stuff == 0:
            raise ValueError(f"{type(self).__name__}: no classes: {num_things} of things and {num_stuff} of stuff")
        self.num_things, self.num_stuff, self.merge = num_things, num_stuff, merge
        self.num_classes = num_things + num_stuff
        self.register_buffer("is_thing", torch.arange(self.num_classes) < num_things)

    def tell_classes(self, is_thing: Sequence[bool], /) -> None:
        """Which of the K classes are things."""
        stuff = len(is_thing) - sum(is_thing)
        if (sum(is_thing), stuff) != (self.num_things, self.num_stuff):
            raise ValueError(
                f"model.net has {self.num_things} classes of things and {self.num_stuff} of stuff, but the data has "
                f"{sum(is_thing)} and {stuff}"
            )
        self.is_thing.copy_(torch.tensor(is_thing))

    @abstractmethod
    def losses(self, images: Tensor, targets: list[PanopticTarget]) -> dict[str, Tensor]:
        """Scalar loss terms by name."""

    @abstractmethod
    def parts(self, images: Tensor) -> list[PanopticParts]:
        """What is proposed for each image of (N, 3, H, W)."""

    @torch.no_grad()
    def segments(self, images: Tensor) -> list[FoundSegments]:
        """The division of each image of (N, 3, H, W)."""
        return [self.merge(parts) for parts in self.parts(images)]

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """The things of each image with masks, best first; a label is the class plus 1."""
        return [instances_of(parts) for parts in self.parts(images)]
