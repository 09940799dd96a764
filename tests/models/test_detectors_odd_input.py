"""Single-stage detectors of experiments on odd pictures: nothing, specks, one box of all, two of a shape in a cell."""

from pathlib import Path

import pytest
import torch
from experiment_nets import build, net_block, small_experiments

from lightning_cv.cli.experiments import experiment_name
from lightning_cv.contracts import DetectionTarget, Detector

NAMES = {
    "ssd_drawn", "ssd300_drawn", "ssd300_fpn_drawn", "ssd_focal_drawn", "yolo_v1_drawn", "yolo_v2_tiny_drawn",
    "cornernet_drawn", "fcos_drawn", "retinanet_drawn",
}  # fmt: skip
DETECTORS = [path for path in small_experiments() if path.stem in NAMES]
SIDE = 128
BOXES = {
    "nothing": [],
    "specks": [[5.0, 5.0, 5.01, 5.01], [40.0, 10.0, 40.5, 90.0], [127.99, 127.99, 128.0, 128.0]],
    "the whole picture": [[0.0, 0.0, SIDE, SIDE]],
    "two of one shape in a cell": [[20.0, 20.0, 60.0, 60.0], [20.0, 20.0, 60.0, 60.0], [20.5, 20.0, 60.5, 60.0]],
    "only difficult": [[20.0, 20.0, 60.0, 60.0]],
    "only a crowd": [[20.0, 20.0, 60.0, 60.0]],
}


def target(case: str, boxes: list[list[float]]) -> DetectionTarget:
    count = len(boxes)
    return {
        "image_id": case,
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.arange(1, count + 1),
        "difficult": torch.full((count,), case == "only difficult"),
        "crowd": torch.full((count,), case == "only a crowd"),
        "original_size": (SIDE, SIDE),
    }


def test_all_are_there() -> None:
    assert {path.stem for path in DETECTORS} == NAMES


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("path", DETECTORS, ids=experiment_name)
def test_losses_and_gradients_are_finite(path: Path, bf16: bool) -> None:
    torch.manual_seed(0)
    net = build(net_block(path))
    assert isinstance(net, Detector)
    images = torch.rand(2, 3, SIDE, SIDE)
    for case, boxes in BOXES.items():
        net.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            losses = net.losses(images, [target("nothing", []), target(case, boxes)])
        torch.stack(list(losses.values())).sum().backward()
        assert all(value.isfinite() for value in losses.values()), (case, losses)
        for name, parameter in net.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, (case, name)
                assert parameter.grad.isfinite().all(), (case, name)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        for found in net.eval().detect(images):
            assert found["boxes"].isfinite().all()
            assert found["scores"].isfinite().all()
