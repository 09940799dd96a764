"""Regions for nets that find none themselves. Letters: N images, P regions of an image."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_cv.models.begun import note_begun
from lightning_cv.models.detection.faster_rcnn import FasterRCNN
from lightning_cv.models.detection.objects import whole_sizes
from lightning_cv.models.detection.parts import load_parts
from lightning_cv.ops.anchors import AnchorSet
from lightning_cv.ops.boxes import clip_boxes


class Proposer(nn.Module):
    """Finds the regions of images that a net then judges. Nothing of it is trained."""

    @abstractmethod
    def forward(
        self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None, training: bool = False, /
    ) -> list[Tensor]:
        """Boxes (P, 4) of each image, best first, in its pixels.

        Args:
            images: the batch (N, 3, H, W).
            sizes: height and width of the picture in each image, the rest being padding; None for all of it.
            training: whether a net is to learn from them, for which there may be more.
        """

    def check_begun(self) -> None:
        """A `ValueError` where it would propose by weights that it was never given; most have none."""


class WindowProposals(Proposer):
    """Windows of all positions, sizes and shapes, the same for all images: sliding windows, cut to the image.

    Sermanet et al. 2014 ("OverFeat") look at windows like these; Girshick 2015, section 5.5, compares them with
    selective search.

    Args:
        anchors: the windows around each position.
        strides: pixels from one position to the next, of each of the grids that `anchors` states.
        min_share: a window of which less lies within the image is left out.
    """

    def __init__(self, anchors: AnchorSet, strides: Sequence[int], min_share: float = 0.7) -> None:
        super().__init__()
        if not 0 < min_share <= 1:
            raise ValueError(f"WindowProposals: min_share must be above 0 and at most 1, got {min_share}")
        anchors.shapes(strides)  # refuses what does not fit
        self.anchors, self.strides, self.min_share = anchors, list(strides), min_share

    def forward(
        self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None, training: bool = False, /
    ) -> list[Tensor]:
        """The windows of each picture, grid by grid."""
        sizes = whole_sizes(images) if sizes is None else sizes
        of_size = {size: self.windows(*size).to(images.device) for size in set(sizes)}
        return [of_size[size] for size in sizes]

    def windows(self, height: int, width: int) -> Tensor:
        """Those of a picture of that size in pixels, (P, 4)."""
        cells = [(-(-height // stride), -(-width // stride)) for stride in self.strides]
        windows = self.anchors(cells, self.strides)
        cut = clip_boxes(windows, height, width)
        return cut[_areas(cut) >= self.min_share * _areas(windows)]


class StoredProposer(Proposer):
    """A region proposal network that was trained before: step 2 of the 4-step training of Ren et al. 2015, 3.2.

    Args:
        net: as that which was trained.
        weights: its checkpoint. They are kept in this net's checkpoints, too, so that it is needed only once. Training
            without is refused.
    """

    def __init__(self, net: FasterRCNN, weights: str | None = None) -> None:
        super().__init__()
        self.net, self.begun = net, weights is not None
        self.register_load_state_dict_post_hook(note_begun)  # type: ignore[no-untyped-call]  # torch states none
        if weights is not None:
            load_parts(net, weights, ("features", "rpn"))
        self.net.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "StoredProposer":
        """The mode of use, whatever is asked for."""
        return super().train(False)

    def check_begun(self) -> None:
        """A `ValueError` where no weights were given."""
        if not self.begun:
            raise ValueError(
                "StoredProposer: without weights its proposals are those of an untrained net: "
                "--model.net.proposer.weights CKPT of the net that was trained before"
            )

    @torch.no_grad()
    def forward(
        self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None, training: bool = False, /
    ) -> list[Tensor]:
        """The net's proposals, while a net learns from them as many as its own second stage would."""
        return self.net.propose(images, sizes, training)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
