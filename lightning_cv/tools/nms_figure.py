"""The figure of the documentation on overlap and non-maximum suppression: `python -m lightning_cv.tools.nms_figure`."""

import argparse
from pathlib import Path

import torch
from PIL import Image

from lightning_cv.contracts import Detections, LabelMap
from lightning_cv.datasets.drawn import DRAWN_CLASSES, DrawnScene, draw_scene
from lightning_cv.ops.nms import gaussian_decay
from lightning_cv.viz.canvas import Picture
from lightning_cv.viz.nms import overlap_and_nms_picture

SCENE = 5
"""Seed of a scene whose objects overlap."""


def near_boxes(scene: DrawnScene, count: int, shift: float, generator: torch.Generator) -> Detections:
    """What a detector might say of a scene: each object's box, then `count` - 1 moved ones of less score, best first.

    Args:
        scene: whose objects.
        count: boxes an object.
        shift: deviation of each edge of a moved box, in pixels.
        generator: of edges and scores.
    """
    size = scene.image.shape[0]
    rank = torch.arange(count).repeat(len(scene.labels))  # (A,)
    boxes = torch.from_numpy(scene.boxes).repeat_interleave(count, dim=0)  # (A, 4)
    boxes = boxes + shift * torch.randn(boxes.shape, generator=generator) * (rank > 0)[:, None]
    scores = 0.95 - 0.25 * rank - 0.1 * torch.rand(len(rank), generator=generator)
    labels = torch.from_numpy(scene.labels).repeat_interleave(count)
    order = scores.argsort(descending=True)
    return {"boxes": boxes[order].clamp(0, size), "scores": scores[order], "labels": labels[order]}


def figure() -> Picture:
    """Overlaps, candidates, and what both kinds of NMS make of them; always the same."""
    scene = draw_scene(SCENE)
    found = near_boxes(scene, 3, 5.0, torch.Generator().manual_seed(0))
    label_map = LabelMap(DRAWN_CLASSES, 1, tuple(range(1, len(DRAWN_CLASSES) + 1)))
    return overlap_and_nms_picture(scene.image, found, 0.45, gaussian_decay(), label_map)


def main(argv: list[str] | None = None) -> int:
    """Write the figure."""
    parser = argparse.ArgumentParser(prog="python -m lightning_cv.tools.nms_figure", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/nms.png"), help="default docs/nms.png")
    out: Path = parser.parse_args(argv).out
    Image.fromarray(figure()).save(out)
    print(out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
