"""YOLO v1. Letters: N images; S cells a side; B boxes a cell; K classes; C channels; D filters."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.contracts import Backbone, Candidates, Detections, DetectionTarget
from lightning_cv.models.backbones.darknet import SLOPE
from lightning_cv.ops.boxes import clip_boxes
from lightning_cv.ops.nms import class_wise_nms_of_batch
from lightning_cv.ops.yolo import batch_objects
from lightning_cv.ops.yolo_v1 import GridOutputs, decode_grid, grid_losses, split_grid

MIN_SIDE = 0.005
"""Darknet takes no box for an object that is smaller than this share of the image (`fill_truth_region`)."""


class LocallyConnected(nn.Module):
    """A 3x3 convolution with filters of its own at each cell, (N, C, S, S) to (N, D, S, S).

    Redmon's darknet, `local_layer.c`, whose order of weights this is: (S*S, D, C*9), biases (D, S, S).
    """

    def __init__(self, in_channels: int, filters: int, side: int) -> None:
        super().__init__()
        bound = math.sqrt(2 / (9 * in_channels))
        self.weight = nn.Parameter(torch.empty(side * side, filters, in_channels * 9).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(filters, side, side))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, D, S, S)."""
        patches = F.unfold(x, 3, padding=1)  # (N, C*9, S*S)
        summed = torch.einsum("lfc,ncl->nfl", self.weight, patches)  # (N, D, S*S)
        return summed.reshape(-1, *self.bias.shape) + self.bias


class YOLOv1(nn.Module):
    """A detector that says of each of S x S cells which class is there, and B boxes: 7 x 7 x 30 on VOC at 448 pixels.

    Redmon et al. 2016, "You only look once", with `ExtractionBackbone`. The loss is `grid_losses`. Differs from the
    paper, where 24 convolutions have no batch norm; the released code has it, and with `local_filters` and 3 boxes a
    cell this is the released net. An output below 0 counts as a score of 0, one above 1 as 1.

    Args:
        backbone: gives the map, whose cells are the grid's; of several the coarsest is used.
        num_classes: K, background not counted.
        side: S. Images are squares of S strides of the map.
        boxes: B, 2 in the paper, 3 in the released net.
        hidden: units of the fully connected layer before the last.
        local_filters: where given, a locally connected layer of so many filters stands in place of the hidden one.
        dropout: share of the hidden units that is left out in training.
        train_on_difficult: take VOC's difficult objects for objects; darknet leaves them out.
        score_threshold: a detection's least score.
        nms_threshold: overlap above which the weaker of two detections of a class goes.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        side: int = 7,
        boxes: int = 2,
        hidden: int = 4096,
        local_filters: int | None = None,
        dropout: float = 0.5,
        train_on_difficult: bool = False,
        score_threshold: float = 0.001,
        nms_threshold: float = 0.5,
    ) -> None:
        super().__init__()
        if min(num_classes, side, boxes) < 1:
            raise ValueError(f"YOLOv1: num_classes, side, boxes must be at least 1, got {num_classes}, {side}, {boxes}")
        self.num_classes, self.side, self.boxes = num_classes, side, boxes
        self.train_on_difficult, self.score_threshold = train_on_difficult, score_threshold
        self.nms_threshold = nms_threshold
        self.image_size = (side * backbone.strides[-1], side * backbone.strides[-1])
        self.backbone = cast(nn.Module, backbone)
        channels, cells = backbone.out_channels[-1], side * side
        if local_filters is None:
            self.hidden = nn.Sequential(nn.Flatten(), _linear(channels * cells, hidden))
        else:
            self.hidden = nn.Sequential(LocallyConnected(channels, local_filters, side), nn.Flatten())
            hidden = local_filters * cells
        self.dropout = nn.Dropout(dropout)
        self.last = _linear(hidden, cells * (num_classes + 5 * boxes))

    def forward(self, images: Tensor, /) -> GridOutputs:
        """What is said of each cell of images (N, 3, *image_size), float32."""
        if images.shape[-2:] != self.image_size:
            raise ValueError(
                f"YOLOv1: a grid of {self.side} x {self.side} cells needs images of {self.image_size} pixels "
                f"(height, width), got {tuple(images.shape[-2:])}"
            )
        x = F.leaky_relu(self.hidden(self.backbone(images)[-1]), SLOPE)
        return split_grid(self.last(self.dropout(x)), self.side, self.boxes, self.num_classes)

    def losses(self, images: Tensor, targets: list[DetectionTarget]) -> dict[str, Tensor]:
        """Scalars `box`, `object`, `no_object` and `class` an image, see `grid_losses`."""
        objects = batch_objects(targets, *self.image_size, MIN_SIDE, self.train_on_difficult)
        return grid_losses(self(images), objects, self.image_size)

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """Detections of each image, cut to it, best score first: confidence times class score."""
        found = self.candidates(images)
        number = found.boxes.shape[1]
        return class_wise_nms_of_batch(
            found,
            score_threshold=self.score_threshold,
            iou_threshold=self.nms_threshold,
            top_before=number,
            top_after=number * self.num_classes,
        )

    @torch.no_grad()
    def candidates(self, images: Tensor) -> Candidates:
        """The B boxes of every cell, cut to the image, with confidence times class score, before NMS."""
        outputs = self(images)
        height, width = self.image_size
        sure, names = outputs.confidences.clamp(min=0), outputs.classes.clamp(min=0)
        scores = (sure[..., None] * names[:, :, None]).clamp(max=1)  # (N, S*S, B, K)
        boxes = decode_grid(outputs.boxes, self.side) * scores.new_tensor([width, height, width, height])
        boxes = clip_boxes(boxes, height, width)  # (N, S*S, B, 4)
        return Candidates(boxes.flatten(1, 2), scores.flatten(1, 2))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """With darknet's first weights (`connected_layer.c`): even within the root of 2 / inputs, biases 0."""
    layer = nn.Linear(inputs, outputs)
    bound = math.sqrt(2 / inputs)
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.zeros_(layer.bias)
    return layer
