"""Small two-stage nets and torchvision's of the same configuration, and the way of the weights between them."""

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TheirFasterRCNN
from torchvision.models.detection import MaskRCNN as TheirMaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from lightning_cv.contracts import DetectionTarget
from lightning_cv.models import (
    FPN,
    RPN,
    BoxBranch,
    FasterRCNN,
    FastRCNN,
    MaskBranch,
    MaskRCNN,
    SmallBackbone,
    TwoLinearHead,
    WindowProposals,
)
from lightning_cv.models.detection.region_features import RoIAlign
from lightning_cv.models.detection.torchvision import _AsTheyAre
from lightning_cv.ops.anchors import RegionAnchors

CLASSES = 3
CHANNELS = 16
MAPS = 3  # of which the last is pooled, for proposals alone
ALL = 100_000
"""More samples than there are: chance has no part."""


def features() -> FPN:
    backbone = SmallBackbone(width=8, blocks=(0, 0, 0, 0), strides=[4, 8])
    return FPN(backbone, channels=CHANNELS, pooled_levels=1, relu=False)


class Named(nn.Module):
    """Maps in torchvision's form, the pooled one under its name there."""

    def __init__(self, maps: nn.Module) -> None:
        super().__init__()
        self.maps, self.out_channels = maps, CHANNELS

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return OrderedDict(zip(("0", "1", "pool"), self.maps(images), strict=True))


def our_parts(samples: int = ALL) -> dict[str, object]:
    anchors = RegionAnchors([[16], [32], [64]], [2.0, 1.0, 0.5], centre=0.0, whole=True)
    align = partial(RoIAlign, maps=2, canonical_size=56.0, aligned=False)
    return {
        "rpn": partial(
            RPN, anchors=anchors, inside_only=False, samples=samples, positive_share=1.0 if samples == ALL else 0.5,
            top_before=(200, 100), top_after=(100, 50), min_size=1e-3,
        ),
        "boxes": partial(
            BoxBranch, reader=align(7), head=partial(TwoLinearHead, hidden=24), samples=samples,
            positive_share=1.0 if samples == ALL else 0.25, background=(0.0, 0.5), beta=1 / 9, nms_threshold=0.5,
        ),
    }  # fmt: skip


def our_masks() -> partial[MaskBranch]:
    reader = RoIAlign(14, maps=2, canonical_size=56.0, aligned=False)
    return partial(MaskBranch, reader=reader, width=12, convolutions=2, whole_pixels=True)


def faster_rcnn(samples: int = ALL) -> FasterRCNN:
    return FasterRCNN(features(), CLASSES, **our_parts(samples))  # type: ignore[arg-type]


def mask_rcnn(samples: int = ALL) -> MaskRCNN:
    return MaskRCNN(features(), CLASSES, masks=our_masks(), **our_parts(samples))  # type: ignore[arg-type]


def fast_rcnn(**settings: object) -> FastRCNN:
    return FastRCNN(features(), CLASSES, our_parts(64)["boxes"], **settings)  # type: ignore[arg-type]


def windows() -> WindowProposals:
    return WindowProposals(RegionAnchors([[24, 48]], [1.0]), [16])


def their_settings() -> dict[str, object]:
    return {
        "rpn_anchor_generator": AnchorGenerator(((16,), (32,), (64,)), ((0.5, 1.0, 2.0),) * 3),
        "rpn_pre_nms_top_n_train": 200, "rpn_pre_nms_top_n_test": 100, "rpn_post_nms_top_n_train": 100,
        "rpn_post_nms_top_n_test": 50, "rpn_batch_size_per_image": ALL, "rpn_positive_fraction": 1.0,
        "box_batch_size_per_image": ALL, "box_positive_fraction": 1.0,
        "box_roi_pool": MultiScaleRoIAlign(["0", "1"], 7, 2, canonical_scale=56),
        "box_head": TwoMLPHead(CHANNELS * 49, 24), "box_predictor": FastRCNNPredictor(24, CLASSES + 1),
    }  # fmt: skip


def their_faster_rcnn() -> TheirFasterRCNN:
    net = TheirFasterRCNN(Named(features()), **their_settings())
    net.transform = _AsTheyAre(8)
    return net


def their_mask_rcnn() -> TheirMaskRCNN:
    net = TheirMaskRCNN(
        Named(features()), **their_settings(), mask_roi_pool=MultiScaleRoIAlign(["0", "1"], 14, 2, canonical_scale=56),
        mask_head=MaskRCNNHeads(CHANNELS, (12, 12), 1), mask_predictor=MaskRCNNPredictor(12, 12, CLASSES + 1),
    )  # fmt: skip
    net.transform = _AsTheyAre(8)
    return net


def spread(net: nn.Module) -> None:
    """Weights under which a small untrained net says something of every kind: many proposals, classes and scores."""
    torch.manual_seed(0)
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            scale = 0.3 if "bbox_pred" in name or "deltas" in name else 1.5
            nn.init.normal_(parameter, std=scale / parameter[0].numel() ** 0.5)
        elif "norm" not in name and not name.endswith("1.weight"):
            nn.init.normal_(parameter, std=0.1)


def batch(height: int = 96, width: int = 128, masks: bool = False) -> tuple[Tensor, list[DetectionTarget]]:
    numbers = torch.Generator().manual_seed(1)
    images = torch.rand(2, 3, height, width, generator=numbers)
    boxes = [[[8.0, 8, 60, 70], [70, 40, 120, 90], [5, 50, 30, 75]], [[30.0, 20, 100, 80]]]
    targets: list[DetectionTarget] = []
    for index, rows in enumerate(boxes):
        target: DetectionTarget = {
            "image_id": str(index),
            "boxes": torch.tensor(rows),
            "labels": torch.arange(len(rows)) % CLASSES + 1,
            "difficult": torch.zeros(len(rows), dtype=torch.bool),
            "original_size": (height, width),
        }
        if masks:
            target["masks"] = torch.zeros(len(rows), height, width, dtype=torch.bool)
            for mask, (x1, y1, x2, y2) in zip(target["masks"], torch.tensor(rows).int().tolist(), strict=True):
                mask[y1:y2, x1:x2] = torch.rand(y2 - y1, x2 - x1, generator=numbers) > 0.3
        targets.append(target)
    return images, targets


def empty(target: DetectionTarget) -> DetectionTarget:
    nothing: DetectionTarget = {**target, "boxes": target["boxes"][:0], "labels": target["labels"][:0]}
    nothing["difficult"] = target["difficult"][:0]
    if "masks" in target:
        nothing["masks"] = target["masks"][:0]
    return nothing


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def check_gradients(net: nn.Module) -> None:
    for name, parameter in net.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
