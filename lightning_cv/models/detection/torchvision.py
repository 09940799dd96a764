"""torchvision's detectors behind the two verbs: baselines, and a source of trained nets."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from lightning_cv.contracts import Backbone, Candidates, Detections, DetectionTarget
from lightning_cv.ops.boxes import clip_boxes


class TorchvisionDetector(nn.Module):
    """A detector of torchvision (`FCOS`, `RetinaNet`, `SSD`, `FasterRCNN`) as a `Detector`.

    The net normalises and resizes its images itself (its `image_mean`, `image_std`, `min_size`). Its labels start at 1
    where it has a background output and at 0 in `FCOS` and `RetinaNet`, which then need no output for background: build
    those with `num_classes` K, the others with K + 1. Differs from the bare nets: losses are given in evaluation, too,
    and everything is computed in float32, for torchvision does not keep its losses and boxes out of half precision.

    Args:
        net: the torchvision net.
        num_classes: K, background not counted.
        train_on_difficult: take VOC's difficult objects for objects; otherwise they are background.
    """

    def __init__(self, net: nn.Module, num_classes: int, train_on_difficult: bool = True) -> None:
        super().__init__()
        self.net, self.num_classes, self.train_on_difficult = net, num_classes, train_on_difficult
        self.first_label = 0 if isinstance(net, FCOS | RetinaNet) else 1
        outputs, wanted = _class_outputs(net), num_classes + self.first_label
        if outputs != wanted:
            raise ValueError(
                f"TorchvisionDetector: {type(net).__name__} of {num_classes} classes is built with "
                f"num_classes={wanted}, got {outputs}"
            )

    def losses(self, images: Tensor, targets: list[DetectionTarget]) -> dict[str, Tensor]:
        """torchvision's terms by their names without "loss_"."""
        shown = [self._target(target) for target in targets]
        with _in_mode(self.net, training=True), torch.autocast(images.device.type, enabled=False):
            terms: dict[str, Tensor] = self.net(list(images.float()), shown)
        return {name.removeprefix("loss_"): value for name, value in terms.items()}

    def _target(self, target: DetectionTarget) -> dict[str, Tensor]:
        wanted = torch.ones_like(target["difficult"]) if self.train_on_difficult else ~target["difficult"]
        if "crowd" in target:
            wanted = wanted & ~target["crowd"]  # a region of many objects is none
        labels = target["labels"][wanted] - 1 + self.first_label
        return {"boxes": target["boxes"][wanted], "labels": labels}

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """Detections of each image, best score first."""
        with _in_mode(self.net, training=False), torch.autocast(images.device.type, enabled=False):
            found = self.net(list(images.float()))
        return [self._detections(one["boxes"], one["scores"], one["labels"]) for one in found]

    def _detections(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Detections:
        order = scores.argsort(descending=True, stable=True)
        return {"boxes": boxes[order], "scores": scores[order], "labels": labels[order] + 1 - self.first_label}


class TorchvisionDenseDetector(TorchvisionDetector):
    """As `TorchvisionDetector`, for a net of `fcos_on` or `retinanet_on`, whose candidates can be told: a
    `CandidateDetector`, so that it can be exported and its NMS looked at.
    """

    def __init__(self, net: FCOS | RetinaNet, num_classes: int, train_on_difficult: bool = True) -> None:
        super().__init__(net, num_classes, train_on_difficult)
        if not isinstance(net, FCOS | RetinaNet) or not isinstance(net.transform, _AsTheyAre):
            raise ValueError(
                f"TorchvisionDenseDetector: {type(net).__name__} is no net of fcos_on or retinanet_on, which keep the "
                "size of images"
            )

    @torch.no_grad()
    def candidates(self, images: Tensor) -> Candidates:
        """The box of every cell (FCOS) or anchor (RetinaNet), cut to the image, and its score of each class."""
        net: Any = self.net  # torchvision states no types
        height, width = images.shape[-2:]
        step = net.transform.size_divisible
        with torch.autocast(images.device.type, enabled=False):
            padded = F.pad(images.float(), (0, -width % step, 0, -height % step))
            maps = list(net.backbone(padded).values())
            heads = net.head(maps)
            anchors = net.anchor_generator(ImageList(padded, [(height, width)]), maps)[0]  # (A, 4)
            deltas, scores = heads["bbox_regression"], heads["cls_logits"].sigmoid()  # (N, A, 4), (N, A, K)
            if isinstance(net, FCOS):
                boxes = net.box_coder.decode(deltas, anchors.expand_as(deltas))
                scores = (scores * heads["bbox_ctrness"].sigmoid()).sqrt()
            else:
                rows = anchors.expand_as(deltas).reshape(-1, 4)
                boxes = net.box_coder.decode_single(deltas.reshape(-1, 4), rows).view_as(deltas)
        return Candidates(clip_boxes(boxes, height, width), scores)


def fcos_on(features: Backbone, num_classes: int, score_threshold: float = 0.01, nms_threshold: float = 0.6) -> FCOS:
    """torchvision's FCOS (Tian et al. 2019) on any maps of one number of channels, a multiple of 32.

    Images keep their size, and the backbone normalises them. Objects of 4 to 8 strides belong to a map, smaller ones
    to the finest and larger ones to the coarsest.
    """
    anchors = AnchorGenerator(tuple((stride,) for stride in features.strides), ((1.0,),) * len(features.strides))
    net = FCOS(
        _Features(features), num_classes, anchor_generator=anchors, score_thresh=score_threshold,
        nms_thresh=nms_threshold,
    )  # fmt: skip
    net.transform = _AsTheyAre(features.strides[-1])
    return net


def retinanet_on(
    features: Backbone,
    num_classes: int,
    scales: Sequence[float] = (4.0, 5.04, 6.35),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    score_threshold: float = 0.01,
    nms_threshold: float = 0.5,
) -> RetinaNet:
    """torchvision's RetinaNet (Lin et al. 2017b) on any maps of one number of channels.

    Images keep their size, and the backbone normalises them. Anchors have `scales` strides of their map; the default is
    the paper's, 4 strides times 2 ** (0, 1/3, 2/3). Differs from the paper: the heads' inner convolutions start as He
    et al. 2015 say, for with a spread of 0.01 nothing comes through four layers of fewer than 256 channels.
    """
    sizes = tuple(tuple(scale * stride for scale in scales) for stride in features.strides)
    anchors = AnchorGenerator(sizes, (tuple(ratios),) * len(sizes))
    net = RetinaNet(
        _Features(features), num_classes, anchor_generator=anchors, score_thresh=score_threshold,
        nms_thresh=nms_threshold,
    )  # fmt: skip
    net.transform = _AsTheyAre(features.strides[-1])
    for head in (net.head.classification_head, net.head.regression_head):
        for layer in head.conv.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return net


class _AsTheyAre(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision states no types
    """Hands images to the net as they are, but for padding to whole cells of the coarsest map."""

    def __init__(self, coarsest_stride: int) -> None:
        super().__init__(1, 1, image_mean=[0.0] * 3, image_std=[1.0] * 3, size_divisible=coarsest_stride)

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Both as given."""
        return image, target


class _Features(nn.Module):
    """A backbone in the form that torchvision's detectors want: named maps of one number of channels."""

    def __init__(self, features: Backbone) -> None:
        super().__init__()
        if len(set(features.out_channels)) != 1:
            raise ValueError(
                f"torchvision: all maps need the same channels, got {list(features.out_channels)}; put an FPN "
                "on the backbone"
            )
        self.features = cast(nn.Module, features)
        self.out_channels = features.out_channels[0]

    def forward(self, images: Tensor, /) -> dict[str, Tensor]:
        """Maps by their number, finest first."""
        return OrderedDict((str(i), x) for i, x in enumerate(self.features(images)))


@contextmanager
def _in_mode(net: nn.Module, training: bool) -> Iterator[None]:
    """The net gives losses or detections; its normalisation and dropout stay as they are."""
    keep = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    switched = [part for part in net.modules() if not isinstance(part, keep) and part.training != training]
    for part in switched:
        part.training = training
    try:
        yield
    finally:
        for part in switched:
            part.training = not training


def _class_outputs(net: nn.Module) -> int:
    """The `num_classes` that a torchvision detector was built with."""
    if isinstance(net, FasterRCNN):
        return int(net.roi_heads.box_predictor.cls_score.out_features)
    if isinstance(net, FCOS | RetinaNet):
        return int(net.head.classification_head.num_classes)
    if isinstance(net, SSD):
        return int(net.head.classification_head.num_columns)
    raise ValueError(f"TorchvisionDetector: {type(net).__name__} is none of FCOS, RetinaNet, SSD, FasterRCNN")
