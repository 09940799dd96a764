"""What the one object of an image is, and where. Letters: N images, K classes, B boxes (1 or K), G fields."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.contracts import Backbone, Candidates, Detections, DetectionTarget
from lightning_cv.ops.box_losses import BoxLoss, SmoothL1Loss
from lightning_cv.ops.boxes import clip_boxes, from_centre_form


class Locator(nn.Module):
    """A backbone with two heads: one names the object, one says its box.

    The lecture's classification with localization, as in Sermanet et al. 2014, "OverFeat", section 4, and Simonyan and
    Zisserman 2015, appendix A, who compare one box for all classes with a box for each. Differs: the box is the sigmoid
    of centre and size in shares of the image, so that it is one from the start, and it is not trained after the classes
    but together with them.

    Args:
        backbone: its last map is looked at; it normalises its input itself.
        num_classes: K; every image is taken to hold an object of one of them.
        per_class: a box for each class rather than one for all.
        grid: the box head sees the map averaged in G x G fields: of a single field it could not tell where.
        hidden: units of the box head.
        box_loss: between boxes in pixels, or corners in shares of the image's sides where it is `of_deltas`; None is
            `SmoothL1Loss(beta=0.1, weight=10)`.
        dropout: of the classes' features.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        per_class: bool = False,
        grid: int = 4,
        hidden: int = 256,
        box_loss: BoxLoss | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(num_classes, grid, hidden) < 1 or not 0 <= dropout < 1:
            raise ValueError(
                "Locator: num_classes, grid and hidden are at least 1 and dropout a share below 1, got "
                f"{num_classes}, {grid}, {hidden} and {dropout}"
            )
        self.num_classes, self.per_class, self.grid = num_classes, per_class, grid
        self.backbone = cast(nn.Module, backbone)
        self.box_loss = SmoothL1Loss(beta=0.1, weight=10.0) if box_loss is None else box_loss
        self.boxes = num_classes if per_class else 1
        channels = backbone.out_channels[-1]
        self.class_head = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_classes))
        self.box_head = nn.Sequential(
            nn.Linear(channels * grid**2, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, 4 * self.boxes),
        )

    def forward(self, images: Tensor, /) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and boxes (N, B, 4) in pixels."""
        last = self.backbone(images)[-1]  # (N, C, h, w)
        logits: Tensor = self.class_head(F.adaptive_avg_pool2d(last, 1).flatten(1))
        places: Tensor = self.box_head(F.adaptive_avg_pool2d(last, self.grid).flatten(1))
        shares = from_centre_form(places.float().sigmoid().view(-1, self.boxes, 4))  # (N, B, 4)
        height, width = images.shape[-2:]
        return logits, shares * shares.new_tensor([width, height] * 2)

    def losses(self, images: Tensor, targets: list[DetectionTarget]) -> dict[str, Tensor]:
        """Scalars `class` and `box`, means over the images with an object: of several, the largest counts.

        An image without an object that is neither difficult nor a crowd teaches nothing.
        """
        logits, boxes = self(images)
        chosen = [the_object(target) for target in targets]
        rows = torch.tensor([row for row, one in enumerate(chosen) if one is not None], device=logits.device)
        rows = rows.long()
        nothing = 0 * (logits.float().sum() + boxes.sum())  # no parameter is left without a gradient
        if len(rows) == 0:
            return {"class": nothing, "box": nothing.clone()}
        found = [(target, one) for target, one in zip(targets, chosen, strict=True) if one is not None]
        labels = torch.stack([target["labels"][one] for target, one in found]) - 1
        true = torch.stack([target["boxes"][one] for target, one in found])
        mine = boxes[rows, labels if self.per_class else 0]  # (P, 4)
        if self.box_loss.of_deltas:
            size = true.new_tensor([images.shape[-1], images.shape[-2]] * 2)
            mine, true = mine / size, true / size
        return {
            "class": F.cross_entropy(logits[rows].float(), labels) + nothing,
            "box": self.box_loss(mine, true) / len(rows) + nothing,
        }

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        """One detection an image: its likeliest class, and the box, cut to the image."""
        logits, boxes = self(images)
        scores, classes = logits.float().softmax(dim=1).max(dim=1)
        own = boxes[torch.arange(len(boxes), device=boxes.device), classes if self.per_class else 0]
        own = clip_boxes(own, images.shape[-2], images.shape[-1])
        return [
            {"boxes": own[row : row + 1], "scores": scores[row : row + 1], "labels": classes[row : row + 1] + 1}
            for row in range(len(images))
        ]

    @torch.no_grad()
    def candidates(self, images: Tensor) -> Candidates:
        """The boxes (N, B, 4), cut to the image, and their probabilities (N, B, K): of a class's box its own."""
        logits, boxes = self(images)
        scores = logits.float().softmax(dim=1)
        scores = scores.diag_embed() if self.per_class else scores[:, None]
        return Candidates(clip_boxes(boxes, images.shape[-2], images.shape[-1]), scores)


def the_object(target: DetectionTarget) -> int | None:
    """The position of the largest object of an image that is neither difficult nor a crowd; None without one."""
    counted = ~target["difficult"] & ~target.get("crowd", target["difficult"])
    if not counted.any():
        return None
    areas = (target["boxes"][:, 2:] - target["boxes"][:, :2]).prod(dim=1)
    return int(areas.masked_fill(~counted, -1.0).argmax())
