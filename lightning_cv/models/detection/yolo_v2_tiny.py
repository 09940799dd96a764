"""Tiny YOLOv2. Letters: N images; H, W cells of the map; A anchors a cell; K classes."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lightning_cv.contracts import Backbone, Candidates, Detections, DetectionTarget
from lightning_cv.models.backbones.darknet import DarknetConv
from lightning_cv.ops.boxes import clip_boxes
from lightning_cv.ops.nms import class_wise_nms_of_batch
from lightning_cv.ops.yolo import batch_objects, decode_region, region_losses

VOC_ANCHORS = ((1.08, 1.19), (3.42, 4.41), (6.63, 11.38), (9.42, 5.11), (16.62, 10.52))
"""Widths and heights in cells, k-means of VOC's boxes (released `yolov2-tiny-voc.cfg`)."""

MIN_SIDE = 0.001
"""Darknet takes no box for an object that is smaller than this share of the image (`data.c`)."""

PULL, PULLED_IMAGES = 0.01, 12_800
"""While it sees its first images, darknet also draws every predictor to its anchor, with this weight."""


class TinyYOLOv2(nn.Module):
    """A detector that scores A boxes in each cell of one map: 416 x 416 pixels to 13 x 13 x 125 on VOC, 845 boxes.

    Redmon and Farhadi 2017, "YOLO9000", section 2, in the released `yolov2-tiny-voc.cfg`: a map of stride 32, one more
    3x3 convolution and a linear 1x1. Images of any size. The loss is `region_losses`. Differs from the original: at
    most `top_before` candidates a class and `top_after` detections an image.

    Args:
        backbone: `TinyDarknetBackbone` in the original; of any other the coarsest map is used.
        num_classes: K, background not counted.
        anchors: widths and heights in cells, from k-means of the data's boxes: `lightning-cv data stats --anchors 5`.
        channels: of the last 3x3 convolution, 1024 in the original.
        norm_momentum: of that convolution, see `DarknetConv`.
        train_on_difficult: take VOC's difficult objects for objects; darknet leaves them out.
        ignore_above: see `region_losses`.
        score_threshold: a detection's least score. To show few, sure boxes is the business of who draws them.
        nms_threshold: overlap above which the weaker of two detections of a class goes.
        top_before, top_after: see `class_wise_nms`.
    """

    seen: Tensor
    anchors: Tensor

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        anchors: Sequence[tuple[float, float]] = VOC_ANCHORS,
        channels: int = 1024,
        norm_momentum: float = 0.01,
        train_on_difficult: bool = False,
        ignore_above: float = 0.6,
        score_threshold: float = 0.005,
        nms_threshold: float = 0.45,
        top_before: int = 400,
        top_after: int = 200,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"TinyYOLOv2: num_classes counts the classes, at least 1, got {num_classes}")
        if not anchors or any(len(anchor) != 2 or not min(anchor) > 0 for anchor in anchors):
            raise ValueError(f"TinyYOLOv2: anchors are widths and heights in cells, above 0, got {list(anchors)}")
        self.num_classes, self.train_on_difficult, self.ignore_above = num_classes, train_on_difficult, ignore_above
        self.score_threshold, self.nms_threshold = score_threshold, nms_threshold
        self.top_before, self.top_after = top_before, top_after
        self.stride = backbone.strides[-1]
        self.backbone = cast(nn.Module, backbone)
        self.conv = DarknetConv(backbone.out_channels[-1], channels, 3, momentum=norm_momentum)
        self.head = nn.Conv2d(channels, len(anchors) * (5 + num_classes), 1)
        nn.init.kaiming_normal_(self.head.weight, mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # bias=True gives a tensor
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32))  # (A, 2), as weights are for them
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # images trained on, right after a resume

    def forward(self, images: Tensor, /) -> Tensor:
        """Outputs (N, H, W, A, 5 + K) of images (N, 3, H * stride, W * stride), see `ops.yolo`."""
        out: Tensor = self.head(self.conv(self.backbone(images)[-1]))  # (N, A * (5 + K), H, W)
        count, _, height, width = out.shape
        return out.permute(0, 2, 3, 1).reshape(count, height, width, len(self.anchors), 5 + self.num_classes)

    def losses(self, images: Tensor, targets: list[DetectionTarget]) -> dict[str, Tensor]:
        """Scalars `box`, `object`, `no_object`, `class` and `prior` an image, see `region_losses`."""
        objects = batch_objects(targets, images.shape[-2], images.shape[-1], MIN_SIDE, self.train_on_difficult)
        pull = PULL * (self.seen < PULLED_IMAGES) if self.training else 0.0
        if self.training:
            self.seen += len(images) * _processes()
        return region_losses(
            self(images), objects, self.anchors, self.stride, pull=pull, ignore_above=self.ignore_above
        )

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """Detections of each image, cut to it, best score first: objectness times class probability."""
        return class_wise_nms_of_batch(
            self.candidates(images),
            score_threshold=self.score_threshold,
            iou_threshold=self.nms_threshold,
            top_before=self.top_before,
            top_after=self.top_after,
        )

    @torch.no_grad()
    def candidates(self, images: Tensor) -> Candidates:
        """The box of every predictor, cut to the image, with objectness times class probability, before NMS."""
        outputs = self(images).float()
        scores = outputs[..., 4:5].sigmoid() * outputs[..., 5:].softmax(dim=-1)  # (N, H, W, A, K)
        boxes = decode_region(outputs, self.anchors) * self.stride
        boxes = clip_boxes(boxes, images.shape[-2], images.shape[-1])  # (N, H, W, A, 4)
        return Candidates(boxes.flatten(1, 3), scores.flatten(1, 3))


def _processes() -> int:
    """Processes that train together, each on a batch of its own."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
