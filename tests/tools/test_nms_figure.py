from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lightning_cv.datasets.drawn import draw_scene
from lightning_cv.tools.nms_figure import main, near_boxes

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_object_has_its_own_box_and_weaker_ones_near_it() -> None:
    scene = draw_scene(5)
    found = near_boxes(scene, 3, 2.0, torch.Generator().manual_seed(0))
    assert len(found["scores"]) == 3 * len(scene.labels)
    assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
    best = {tuple(box) for box in found["boxes"][: len(scene.labels)].tolist()}
    assert best == {tuple(box) for box in scene.boxes.tolist()}


def test_the_documentations_figure_is_the_one_that_is_drawn(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path / "nms.png")]) == 0
    drawn, kept = (np.asarray(Image.open(file)) for file in (tmp_path / "nms.png", DOCS / "nms.png"))
    assert drawn.shape == kept.shape
    assert (drawn != kept).any(axis=-1).mean() < 0.02  # another Pillow sets its letters a little differently
