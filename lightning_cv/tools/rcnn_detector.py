"""R-CNN's detector: a fine-tuned net, linear SVMs and ridge regressions; as `tools.rcnn` trains them, and as one net.

Letters: R regions of a picture; K classes; P pooled values and F features of a region.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_cv.contracts import Detections, DetectionTarget
from lightning_cv.models.detection.rcnn import BoxRegression, Floats, RegionNet, region_boxes
from lightning_cv.ops.nms import class_wise_nms
from lightning_cv.transforms import image_tensor
from lightning_cv.transforms.rcnn import warp_region

Picture = NDArray[np.uint8]


class SVMDetector(NamedTuple):
    """The SVMs and box regressions of all classes, and how their detections are thinned."""

    weight: NDArray[np.float64]  # (F, K)
    bias: NDArray[np.float64]  # (K,), -inf for a class without an SVM
    scale: float
    regressions: Sequence[BoxRegression]
    pooled_scale: float
    score_threshold: float
    nms_threshold: float
    top_per_class: int

    def __call__(
        self, size: tuple[int, int], boxes: Floats, pooled: Floats, features: Floats
    ) -> tuple[Detections, Detections]:
        """Detections of a picture (H, W) at its proposals' boxes, and at boxes that the regressions moved.

        Scores are the SVMs' through a sigmoid, which keeps their order.
        """
        scores = features * np.float32(self.scale) @ self.weight + self.bias  # (R, K)
        inputs = pooled * np.float32(self.pooled_scale)
        moved = [region_boxes(boxes, regression(inputs), size) for regression in self.regressions]
        found = [
            self._thinned(torch.from_numpy(one), torch.from_numpy(scores))
            for one in (boxes, np.stack(moved, axis=1))  # (R, 4) and (R, K, 4)
        ]
        return found[0], found[1]

    def _thinned(self, boxes: Tensor, scores: Tensor) -> Detections:
        found = class_wise_nms(
            boxes,
            scores,
            score_threshold=self.score_threshold,
            iou_threshold=self.nms_threshold,
            top_before=len(scores),
            top_after=scores.numel(),
        )
        classes = torch.arange(1, scores.shape[1] + 1)
        rank = (found["labels"][:, None] == classes).cumsum(dim=0)  # (D, K), from the best score down
        kept = rank.gather(1, found["labels"][:, None] - 1)[:, 0] <= self.top_per_class
        return {
            "boxes": found["boxes"][kept],
            "scores": found["scores"][kept].sigmoid(),
            "labels": found["labels"][kept],
        }


def warped(image: Picture, boxes: Floats, net: RegionNet) -> Tensor:
    """Crops (R, 3, size, size) of boxes (R, 4)."""
    crops = [warp_region(image, tuple(box), net.size, net.context) for box in boxes.tolist()]
    return torch.stack([image_tensor(crop) for crop in crops])


def described(net: RegionNet, image: Picture, boxes: Floats, batch: int) -> tuple[Floats, Floats]:
    """Pooled values (R, P) and features (R, F) of regions, `batch` of which go through the net together."""
    device = next(net.parameters()).device
    net.eval()
    pooled, features = [], []
    with torch.inference_mode():
        for start in range(0, len(boxes), batch):
            pooled.append(net.pooled(warped(image, boxes[start : start + batch], net).to(device)))
            features.append(net.features(pooled[-1]))
    if not pooled:
        return np.zeros((0, net.pooled_size), np.float32), np.zeros((0, net.feature_size), np.float32)
    return torch.cat(pooled).float().cpu().numpy(), torch.cat(features).float().cpu().numpy()


class RCNN(nn.Module):
    """R-CNN as one net, a `ProposalDetector` with the weights of all stages (Girshick et al. 2014).

    `lightning-cv rcnn` trains it and writes it as a checkpoint; it has no losses. Images are whole pictures at the
    files' own size, one at a time: regions are cut from the pixels.

    Args:
        net: the fine-tuned net.
        score_threshold, nms_threshold, top_per_class, batch, proposals: see `Recipe`.
    """

    svm_weight: Tensor  # (F, K)
    svm_bias: Tensor  # (K,)
    box_weight: Tensor  # (K, P + 1, 4)
    box_mean: Tensor  # (K, 4)
    box_unwhiten: Tensor  # (K, 4, 4)
    scales: Tensor  # (2,), of features and of pooled values

    def __init__(
        self,
        net: RegionNet,
        score_threshold: float = -1.1,
        nms_threshold: float = 0.3,
        top_per_class: int = 100,
        batch: int = 256,
        proposals: int = 2000,
    ) -> None:
        super().__init__()
        self.net, self.num_classes, self.batch, self.proposals = net, net.num_classes, batch, proposals
        self.score_threshold, self.nms_threshold, self.top_per_class = score_threshold, nms_threshold, top_per_class
        shapes = {
            "svm_weight": (net.feature_size, net.num_classes),
            "svm_bias": (net.num_classes,),
            "box_weight": (net.num_classes, net.pooled_size + 1, 4),
            "box_mean": (net.num_classes, 4),
            "box_unwhiten": (net.num_classes, 4, 4),
            "scales": (2,),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def take(self, detector: SVMDetector) -> None:
        """Fill in what the stages found."""
        values = {
            "svm_weight": detector.weight,
            "svm_bias": detector.bias,
            "box_weight": np.stack([one.weight for one in detector.regressions]),
            "box_mean": np.stack([one.mean for one in detector.regressions]),
            "box_unwhiten": np.stack([one.unwhiten for one in detector.regressions]),
            "scales": np.array([detector.scale, detector.pooled_scale]),
        }
        for name, value in values.items():
            getattr(self, name).copy_(torch.from_numpy(value))

    def losses(self, images: Tensor, targets: list[DetectionTarget]) -> dict[str, Tensor]:
        """None in evaluation; training is refused."""
        if self.training:
            raise ValueError("RCNN is trained in stages, by `lightning-cv rcnn`, not by `lightning-cv fit`")
        return {}

    def detect(self, images: Tensor) -> list[Detections]:
        """Refused: regions come from elsewhere."""
        raise ValueError("RCNN has no proposals of its own: use `detect_among`")

    def detect_among(
        self, images: Tensor, proposals: list[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """Detections in the upper left (H, W) of images (N, 3, H', W'), 0 to 1, among the proposals (P, 4) of each."""
        detector = self._detector()
        found = []
        for image, boxes, (height, width) in zip(images, proposals, sizes, strict=True):
            shown = image[:, :height, :width].permute(1, 2, 0)
            pixels = (shown * 255).round().to(torch.uint8).contiguous().cpu().numpy()
            regions = boxes[: self.proposals or None].float().cpu().numpy()
            regions = regions[((regions[:, 2:] - regions[:, :2]) >= 1).all(axis=1)]
            _, moved = detector(pixels.shape[:2], regions, *described(self.net, pixels, regions, self.batch))
            kept: Detections = {
                "boxes": moved["boxes"].to(images.device),
                "scores": moved["scores"].to(images.device),
                "labels": moved["labels"].to(images.device),
            }
            found.append(kept)
        return found

    def _detector(self) -> SVMDetector:
        parts = [getattr(self, f"box_{name}").cpu().numpy() for name in BoxRegression._fields]
        return SVMDetector(
            self.svm_weight.cpu().numpy(),
            self.svm_bias.cpu().numpy(),
            float(self.scales[0]),
            [BoxRegression(*(part[label] for part in parts)) for label in range(self.num_classes)],
            float(self.scales[1]),
            self.score_threshold,
            self.nms_threshold,
            self.top_per_class,
        )
