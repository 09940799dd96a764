"""Scores of every pixel from windows of the image, each stretched to the net's size: DeconvNet's way to look.

Letters: N images; K classes; M windows; H, W sides in pixels; S side of what the net sees. Boxes are x1, y1, x2, y2.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_cv.ops.dense_inference import DenseInference, Look, tile_starts
from lightning_cv.ops.proposal_file import read_proposals


class WindowSource(ABC):
    """Where the windows of an image come from."""

    @abstractmethod
    def __call__(self, height: int, width: int, image_id: str | None) -> Tensor:
        """Boxes (M, 4) of whole pixels inside an image of this size; its id is None where nobody knows it."""


class GridWindows(WindowSource):
    """Squares of several sizes side by side, overlapping, that need no detector.

    Args:
        shares: sides of the squares in the image's shorter side.
        step: from square to square, in a square's side.
        whole: the whole image, aspect not kept, is a window, too.
    """

    def __init__(self, shares: Sequence[float] = (0.4, 0.7), step: float = 0.5, whole: bool = True) -> None:
        if not all(0 < share <= 1 for share in shares) or not 0 < step <= 1 or not (shares or whole):
            raise ValueError(
                f"GridWindows: shares and step are above 0 and at most 1, got {list(shares)} and {step}, whole {whole}"
            )
        self.shares, self.step, self.whole = tuple(shares), step, whole

    def __call__(self, height: int, width: int, image_id: str | None) -> Tensor:
        """Boxes (M, 4), row by row."""
        boxes = [(0, 0, width, height)] if self.whole else []
        for share in self.shares:
            side = max(1, round(share * min(height, width)))
            step = max(1, round(self.step * side))
            for top in tile_starts(height, side, step):
                boxes += [(left, top, left + side, top + side) for left in tile_starts(width, side, step)]
        return torch.tensor(boxes)


class FileWindows(WindowSource):
    """The best proposals of a file, enlarged: of the lists that a data set names, not of pictures of one's own.

    Noh et al. 2015, section 4.2 and the release: the 50 best EdgeBoxes, enlarged 1.2 times, whose sides are then at
    least 112 pixels. Differs: the least side is an argument, since it depends on the pictures; what of a window lies
    outside of the image is cut, where the release pads the image with zeros.

    Args:
        file: see `ops.proposal_file`; in pixels of pictures that are evaluated at their own size.
        most: windows of an image.
        smallest: a window with a shorter side, in pixels and before it is cut, is passed over.
        context: sides of a window in those of its proposal; cut at the edge of the image.
    """

    def __init__(self, file: str, most: int = 50, smallest: float = 1.0, context: float = 1.2) -> None:
        if most < 1 or context < 1:
            raise ValueError(f"FileWindows: most and context are at least 1, got {most} and {context}")
        self.file, self.most, self.smallest, self.context = file, most, smallest, context
        self.proposals = read_proposals(file)

    def __call__(self, height: int, width: int, image_id: str | None) -> Tensor:
        """Boxes (M, 4), best first."""
        if image_id not in self.proposals:
            raise ValueError(f"{self.file} has no proposals for image {image_id}; GridWindows needs none")
        boxes = torch.from_numpy(self.proposals[image_id].boxes)
        large = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) * self.context >= self.smallest
        boxes = boxes[large][: self.most]
        middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * self.context
        grown = torch.cat([(middle - half).floor(), (middle + half).ceil()], dim=1)
        inside = torch.minimum(grown.clamp(min=0), grown.new_tensor([width, height] * 2)).long()
        return inside[(inside[:, 2:] > inside[:, :2]).all(dim=1)]


class WindowMax(DenseInference):
    """The largest score of each class among the windows that cover a pixel, and never less than zero.

    Noh et al. 2015, section 3.4: the net's score maps, zero outside of their window, are put back into the image and
    their pixelwise maximum is taken before the softmax. Differs: windows are stretched and scores brought back
    bilinearly; the paper's mean over windows and its CRF are not built.

    Args:
        size: S, the side of what the net sees: 224 in the paper.
        windows: where the windows come from; None is `GridWindows()`.
        at_once: windows that are looked at together.
    """

    of_logits: ClassVar[bool] = True

    def __init__(self, size: int = 224, windows: WindowSource | None = None, at_once: int = 16) -> None:
        if size < 1 or at_once < 1:
            raise ValueError(f"WindowMax: size and at_once are at least 1, got {size} and {at_once}")
        self.size, self.at_once = size, at_once
        self.windows = GridWindows() if windows is None else windows

    def __call__(self, look: Look, images: Tensor, image_ids: Sequence[str] = ()) -> Tensor:
        """Logits (N, K, H, W) of images (N, 3, H, W): the maxima, 0 where no window is."""
        ids: Sequence[str | None] = image_ids or [None] * len(images)
        return torch.cat(
            [self._of_one(look, image, name) for image, name in zip(torch.split(images, 1), ids, strict=True)]
        )

    def _of_one(self, look: Look, image: Tensor, image_id: str | None) -> Tensor:
        height, width = image.shape[-2:]
        total: Tensor | None = None
        windows = self.windows(height, width, image_id)
        for boxes in torch.split(windows, self.at_once) if len(windows) else ():
            places = [(..., slice(y1, y2), slice(x1, x2)) for x1, y1, x2, y2 in boxes.tolist()]
            seen = torch.cat([_resized(image[place], self.size, self.size) for place in places])  # (M, 3, S, S)
            scores = look(seen)  # (M, K, S, S)
            if total is None:
                total = scores.new_zeros(1, scores.shape[1], height, width)
            for place, score in zip(places, torch.split(scores, 1), strict=True):
                covered = total[place]
                total[place] = torch.maximum(covered, _resized(score, covered.shape[-2], covered.shape[-1]))
        if total is None:  # without a window only the net knows how many classes there are
            return torch.zeros_like(look(_resized(image, self.size, self.size))[..., :1, :1]).expand(
                -1, -1, height, width
            )
        return total


def _resized(maps: Tensor, height: int, width: int) -> Tensor:
    if maps.shape[-2:] == (height, width):
        return maps
    return F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)
