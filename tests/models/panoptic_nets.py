"""Small panoptic nets, and images with every kind of truth."""

import torch
from torch import Tensor
from two_stage_nets import mask_rcnn

from lightning_cv.contracts import PanopticTarget
from lightning_cv.datasets.drawn import DRAWN_CLASSES, draw_scene
from lightning_cv.models import PanopticFPN, PanopticSegFormer, SmallBackbone
from lightning_cv.models.panoptic.base import DividingNet
from lightning_cv.models.panoptic.semantic_branch import SemanticBranch

IS_THING = [False, True, True, False, True]
"""Three classes of things among stuff, in no order: two of stuff."""


def panoptic_fpn() -> PanopticFPN:
    def branch(channels: list[int], strides: list[int], classes: int) -> SemanticBranch:
        return SemanticBranch(channels, strides, classes, maps=2, width=8, groups=4)

    return PanopticFPN(mask_rcnn(64), 2, branch)


def panoptic_segformer() -> PanopticSegFormer:
    return PanopticSegFormer(
        SmallBackbone(width=8, blocks=(0, 0, 0, 0), strides=[8, 16]), 3, 2, channels=16, queries=12, encoder_layers=1,
        location_layers=2, thing_layers=2, stuff_layers=1, heads=2, points=2, groups=4,
    )  # fmt: skip


NETS = {"panoptic_fpn": panoptic_fpn, "panoptic_segformer": panoptic_segformer}


def net_of(name: str) -> DividingNet:
    torch.manual_seed(0)
    net = NETS[name]()
    net.tell_classes(IS_THING)
    return net


def target_of(segments: Tensor, labels: list[int], crowd: list[bool] | None = None) -> PanopticTarget:
    return {
        "image_id": "a",
        "segments": segments,
        "labels": torch.tensor(labels, dtype=torch.int64),
        "is_thing": torch.tensor([IS_THING[label] for label in labels], dtype=torch.bool),
        "crowd": torch.tensor(crowd or [False] * len(labels), dtype=torch.bool),
        "original_size": (segments.shape[0], segments.shape[1]),
    }


def truths(height: int = 64, width: int = 96) -> dict[str, PanopticTarget]:
    """One picture of each kind."""
    void = torch.zeros(height, width, dtype=torch.int64)
    halves = void + 1
    halves[:, width // 2 :] = 2
    usual = halves.clone()
    usual[10:40, 8:40], usual[20:60, 50:80] = 3, 4
    tiny = halves.clone()
    tiny[3, 5], tiny[30:32, 60:62], tiny[-1, -1] = 3, 4, 5
    many = void + 1
    rows, columns = torch.arange(height) // 8, torch.arange(width) // 8
    many = 1 + rows[:, None] * (width // 8) + columns  # 96 things of 8 x 8 pixels
    return {
        "usual": target_of(usual, [0, 3, 1, 4]),
        "stuff only": target_of(halves, [0, 3]),
        "things only": target_of(halves, [1, 2]),
        "all void": target_of(void, []),
        "crowd": target_of(usual, [0, 3, 1, 1], [False, False, True, False]),
        "crowd only": target_of(halves, [1, 2], [True, True]),
        "a few pixels": target_of(tiny, [0, 3, 1, 2, 4]),
        "more objects than queries": target_of(many, [(1, 2, 4)[n % 3] for n in range(int(many.max()))]),
    }


def scenes(count: int = 4) -> tuple[Tensor, list[PanopticTarget]]:
    """Drawn scenes of 1 to 4 objects; the ground, the one class of stuff, comes last."""
    images, targets = [], []
    for number in range(count):
        scene = draw_scene(number, size=128, max_objects=4)
        images.append(torch.from_numpy(scene.image).permute(2, 0, 1) / 255)
        segments = torch.full((128, 128), len(scene.labels) + 1)
        for position, mask in enumerate(scene.instance_masks, start=1):
            segments[torch.from_numpy(mask)] = position
        labels = torch.tensor([*(scene.labels - 1).tolist(), len(DRAWN_CLASSES)])
        targets.append(
            PanopticTarget(
                image_id=str(number),
                segments=segments,
                labels=labels,
                is_thing=labels < len(DRAWN_CLASSES),
                crowd=torch.zeros(len(labels), dtype=torch.bool),
                original_size=(128, 128),
            )
        )
    return torch.stack(images), targets
