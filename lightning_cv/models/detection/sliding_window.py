"""The lecture's first detector: a classifier of crops, shown every place, size and shape that it can afford.

Letters: N images; H, W their sides; A windows of an image; K classes; w side of a crop; L levels.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lightning_cv.contracts import Candidates, Detections, DetectionTarget
from lightning_cv.models.backbones.normalise import Normalise
from lightning_cv.ops.boxes import iou
from lightning_cv.ops.detection_losses import MinedCrossEntropy
from lightning_cv.ops.matching import NO_MATCH, match_ssd
from lightning_cv.ops.nms import class_wise_nms_of_batch


class CropClassifier(nn.Module):
    """Class logits of crops of 32 x 32 pixels; of a larger picture, of every crop of it in steps of 4 pixels.

    Convolutions without padding, so that a crop's logits do not depend on what surrounds it (Sermanet et al. 2014,
    "OverFeat", section 3.5): 32 pixels become 30, 15, 12, 6, 4 and 1.

    Args:
        num_classes: K; there is one more logit, the first, for background.
        width: channels of the first map; 2 and 3 times as many of the next, `hidden` of the last.
        hidden: units before the logits.
        mean, std: of each channel, 0 to 1.
    """

    window = 32
    step = 4

    def __init__(
        self,
        num_classes: int,
        width: int = 12,
        hidden: int = 64,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.25, 0.25, 0.25),
    ) -> None:
        super().__init__()
        if min(num_classes, width, hidden) < 1:
            raise ValueError(
                f"CropClassifier: num_classes, width and hidden are at least 1, got {num_classes}, {width} and {hidden}"
            )
        self.num_classes = num_classes
        self.normalise = Normalise(mean, std)
        self.layers = nn.Sequential(
            *_conv(3, width, 3),
            nn.MaxPool2d(2),
            *_conv(width, 2 * width, 4),
            nn.MaxPool2d(2),
            *_conv(2 * width, 3 * width, 3),
            *_conv(3 * width, hidden, 4),
        )
        self.score = nn.Conv2d(hidden, num_classes + 1, 1)

    def forward(self, images: Tensor, /) -> Tensor:
        """Logits (N, K + 1, (H - 32) // 4 + 1, (W - 32) // 4 + 1) of images (N, 3, H, W)."""
        return cast(Tensor, self.score(self.layers(self.normalise(images))))


def _conv(channels: int, out_channels: int, side: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out_channels, side, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


class Level(NamedTuple):
    """The picture at the size at which windows of one size and shape are crops of 32 x 32."""

    height: int
    width: int
    down: int  # windows
    across: int


class SlidingWindowDetector(nn.Module):
    """Detections of a crop classifier that looks everywhere: no proposals, no box regression, then NMS.

    An image of H x W pixels holds H (H + 1) / 2 * W (W + 1) / 2 boxes (`ops.windows.number_of_boxes`): one of 800 x 600
    holds 57,768,120,000. The lecture's slides say "58 M", which is off by a thousand. So only some are looked at: every
    size and shape given here, up to the whole picture, in steps of an eighth of the window. `crops` counts them.
    Windows are cut to the picture. One with a side shorter than that of every window (13.2 pixels, as set here) has
    none: nothing is found in it, and its loss is 0.

    Without box regression a detection is only as good as its window. As set here, an object at most 3 times as long as
    wide with an area of 13 x 13 pixels or more, up to the whole picture, has a window that overlaps it by 0.5 at least;
    what is smaller or longer, such as the last sight of an object behind others, may have none and is then never found.

    The picture is resized once for each size and shape; there the classifier runs over it as a convolution.
    `crop_by_crop` gives the same logits the slow way, which cuts out each window: it computes what overlapping windows
    share again for each.

    Trained on all windows: of an object are those that overlap it by `match_threshold`; the rest are background, of
    which the hardest count, 3 to a positive (Felzenszwalb et al. 2010 and Liu et al. 2016). Differs from the latter: an
    object that no window overlaps enough has none, for no box regression would bring one closer.

    Args:
        net: classifies crops.
        sizes: of windows, the square root of the area in pixels.
        ratios: of windows, width by height.
        growth: the factor, above 1, by which sizes go on from the largest until windows are the whole picture; None
            stops at `sizes`.
        match_threshold: overlap, above 0 and up to 1, from which a window shows an object.
        score_threshold, nms_threshold, top_before, top_after: see `class_wise_nms`.
    """

    def __init__(
        self,
        net: CropClassifier,
        sizes: Sequence[float] = (17, 22, 29, 38, 50, 64),
        ratios: Sequence[float] = (0.6, 1.0, 1.67),
        growth: float | None = 1.3,
        match_threshold: float = 0.5,
        score_threshold: float = 0.01,
        nms_threshold: float = 0.3,
        top_before: int = 400,
        top_after: int = 100,
    ) -> None:
        super().__init__()
        if not sizes or not ratios or min(*sizes, *ratios) <= 0:
            raise ValueError(
                f"SlidingWindowDetector: sizes and ratios are above 0 and one of each at least, got {list(sizes)} and "
                f"{list(ratios)}"
            )
        if growth is not None and not growth > 1:
            raise ValueError(f"SlidingWindowDetector: growth is above 1 or None, got {growth}")
        self.net, self.num_classes = net, net.num_classes
        self.sizes, self.ratios, self.growth = list(sizes), list(ratios), growth
        self.class_loss = MinedCrossEntropy(min_negatives=16)
        self.match_threshold, self.score_threshold, self.nms_threshold = match_threshold, score_threshold, nms_threshold
        self.top_before, self.top_after = top_before, top_after

    def levels(self, height: int, width: int) -> list[Level]:
        """How a picture is looked at; not at all if a side is shorter than that of every window."""
        side, step, found = self.net.window, self.net.step, []
        for window_height, window_width in self._shapes(height, width):
            h, w = round(height * side / window_height), round(width * side / window_width)
            found.append(Level(h, w, (h - side) // step + 1, (w - side) // step + 1))
        return list(dict.fromkeys(found))

    def _shapes(self, height: int, width: int) -> list[tuple[float, float]]:
        """Height and width of the windows in pixels of the picture, cut to it."""
        tall, wide = [ratio**-0.5 for ratio in self.ratios], [ratio**0.5 for ratio in self.ratios]
        if min(height, width) < min(self.sizes) * min(*tall, *wide):
            return []
        sizes, largest = list(self.sizes), max(self.sizes)
        if self.growth is not None:
            while largest < max(height / min(tall), width / min(wide)):  # the size at which all windows are the picture
                largest *= self.growth
                sizes.append(largest)
        return [(min(s * h, height), min(s * w, width)) for s, (h, w) in product(sizes, zip(tall, wide, strict=True))]

    def crops(self, height: int, width: int) -> int:
        """How many windows of a picture are classified: at each level, ((h - 32) // 4 + 1) ((w - 32) // 4 + 1)."""
        return sum(level.down * level.across for level in self.levels(height, width))

    def windows(self, height: int, width: int) -> Tensor:
        """The windows (A, 4) in pixels of the picture: level by level, row by row."""
        found = [torch.zeros(0, 4)]
        for level in self.levels(height, width):
            ys, xs = torch.arange(level.down) * self.net.step, torch.arange(level.across) * self.net.step
            corners = torch.cartesian_prod(ys, xs).flip(-1)  # (h*v, 2)
            scale = torch.tensor([width / level.width, height / level.height] * 2)
            found.append(torch.cat([corners, corners + self.net.window], dim=1) * scale)
        return torch.cat(found)  # (A, 4)

    def forward(self, images: Tensor, /) -> Tensor:
        """Logits (N, A, K + 1) of the windows of images (N, 3, H, W)."""
        logits = [self.net(_resized(images, level)).flatten(2) for level in self.levels(*_size(images))]
        return torch.cat(logits, dim=2).transpose(1, 2) if logits else self._no_logits(images)

    def _no_logits(self, images: Tensor) -> Tensor:
        """Logits (N, 0, K + 1), through which every parameter of the net still gets a gradient, of zeros."""
        nothing = torch.stack([parameter.sum() for parameter in self.net.parameters()]).sum()
        return nothing.expand(len(images), 0, self.num_classes + 1)

    def crop_by_crop(self, images: Tensor, at_once: int = 1024) -> Tensor:
        """The same logits, each from its own crop, `at_once` of which are classified together."""
        side, step, logits = self.net.window, self.net.step, []
        for level in self.levels(*_size(images)):
            crops = _resized(images, level).unfold(2, side, step).unfold(3, side, step)  # (N, 3, h, v, w, w)
            crops = crops.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
            found = torch.cat([self.net(some).flatten(1) for some in torch.split(crops, at_once)])
            logits.append(found.view(len(images), -1, self.num_classes + 1))
        return torch.cat(logits, dim=1) if logits else self._no_logits(images)

    def losses(self, images: Tensor, targets: list[DetectionTarget]) -> dict[str, Tensor]:
        """The scalar `class`: cross entropy of the windows that count, by the number of those that show an object."""
        logits = self(images).float()
        labels = self.assign(self.windows(*_size(images)).to(logits.device), targets)
        return {"class": self.class_loss(logits, labels) / (labels > 0).sum().clamp(min=1)}

    @torch.no_grad()
    def assign(self, windows: Tensor, targets: list[DetectionTarget]) -> Tensor:
        """The class (N, A) that each window (A, 4) shows in each image, 0 for background. A crowd is no object."""
        kept = [~target["crowd"] if "crowd" in target else slice(None) for target in targets]
        boxes = pad_sequence([t["boxes"][rows] for t, rows in zip(targets, kept, strict=True)], batch_first=True)
        names = pad_sequence([t["labels"][rows] for t, rows in zip(targets, kept, strict=True)], batch_first=True)
        overlaps = iou(boxes.flatten(0, 1), windows).view(*names.shape, len(windows))  # (N, G, A)
        near = overlaps.masked_fill(overlaps < self.match_threshold, 0.0)  # farther pairs are no match, even the best
        match = match_ssd(near, self.match_threshold)  # (N, A)
        return F.pad(names, (1, 0)).gather(1, match - NO_MATCH)

    @torch.no_grad()
    def candidates(self, images: Tensor) -> Candidates:
        """All windows and their probabilities of each class, before NMS."""
        scores = self(images).float().softmax(dim=2)[..., 1:]
        windows = self.windows(*_size(images)).to(scores.device)
        return Candidates(windows.expand(scores.shape[0], -1, -1), scores)

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """Detections of each image, best score first."""
        return class_wise_nms_of_batch(
            self.candidates(images),
            score_threshold=self.score_threshold,
            iou_threshold=self.nms_threshold,
            top_before=self.top_before,
            top_after=self.top_after,
        )


def _size(images: Tensor) -> tuple[int, int]:
    """Height and width, as numbers also where a net is traced for export."""
    return int(images.shape[-2]), int(images.shape[-1])


def _resized(images: Tensor, level: Level) -> Tensor:
    """Without anti-aliasing, which ONNX does otherwise than torch."""
    return F.interpolate(images, (level.height, level.width), mode="bilinear", align_corners=False)
