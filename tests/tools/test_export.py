from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_cv.errors import UserError
from lightning_cv.models import (
    FCN,
    FPN,
    SSD,
    ConvAutoencoder,
    ConvVAE,
    CornerNet,
    CropClassifier,
    ExtractionBackbone,
    Locator,
    SlidingWindowDetector,
    SmallBackbone,
    StackedHourglass,
    TinyDarknetBackbone,
    TinyYOLOv2,
    TorchvisionDenseDetector,
    YOLOv1,
)
from lightning_cv.models.detection.torchvision import fcos_on, retinanet_on
from lightning_cv.tools.export import Exportable, compare, export, exportable


def cornernet() -> nn.Module:
    backbone = StackedHourglass((8, 8), (1, 1), 1, stem=8, out_channels=8)
    return CornerNet(backbone, 3, hidden=8, top=20, pairs=50, tag_distance=100.0)


def pyramid() -> FPN:
    return FPN(SmallBackbone(width=4, strides=(8, 16)), channels=32)


NETS = {
    "ssd": (lambda: SSD(FPN(SmallBackbone(width=4), channels=8), 3), (3, 64, 96)),
    "cornernet": (cornernet, (3, 64, 96)),
    "yolo v1": (lambda: YOLOv1(ExtractionBackbone(width=4, halvings=4), 3, side=4, hidden=32), (3, 64, 64)),
    "yolo v2": (lambda: TinyYOLOv2(TinyDarknetBackbone(width=4, max_channels=32), 3, channels=32), (3, 64, 96)),
    "locator": (lambda: Locator(SmallBackbone(width=4, strides=(8,)), 3, grid=2), (3, 64, 96)),
    "sliding window": (lambda: SlidingWindowDetector(CropClassifier(3, width=4, hidden=8)), (3, 64, 96)),
    "fcos": (lambda: TorchvisionDenseDetector(fcos_on(pyramid(), 3), 3), (3, 60, 90)),
    "retinanet": (lambda: TorchvisionDenseDetector(retinanet_on(pyramid(), 3), 3), (3, 60, 90)),
    "fcn": (lambda: FCN(SmallBackbone(width=4), 4), (3, 64, 96)),
    "vae": (lambda: ConvVAE(16, width=4, hidden=8), (1, 16, 16)),
    "autoencoder": (lambda: ConvAutoencoder(16, width=4, hidden=8), (1, 16, 16)),
}
OUTPUTS = {
    "ssd": ["boxes", "scores"],
    "cornernet": ["boxes", "scores"],
    "yolo v1": ["boxes", "scores"],
    "yolo v2": ["boxes", "scores"],
    "locator": ["boxes", "scores"],
    "sliding window": ["boxes", "scores"],
    "fcos": ["boxes", "scores"],
    "retinanet": ["boxes", "scores"],
    "fcn": ["logits"],
    "vae": ["mean", "log_var", "logits"],
    "autoencoder": ["mean", "logits"],
}


def subject_of(name: str, batch: int) -> tuple[Exportable, torch.Tensor]:
    torch.manual_seed(0)
    make, shape = NETS[name]
    example = torch.rand(batch, *shape)
    return exportable(make().eval(), example), example


@pytest.mark.parametrize("name", NETS)
def test_a_traced_file_says_what_the_net_says_also_of_more_images(name: str, tmp_path: Path) -> None:
    subject, example = subject_of(name, 2)
    assert list(subject.outputs) == OUTPUTS[name]
    export(subject, example, tmp_path / "net.pt", "torchscript", {"net": name})
    differences = compare(subject, tmp_path / "net.pt", "torchscript", torch.rand(3, *example.shape[1:]))
    assert max(one.worst for one in differences) == 0
    extra = {"net": "", "outputs": ""}
    torch.jit.load(tmp_path / "net.pt", _extra_files=extra)
    assert extra["net"] == name.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name, (_, shape) in NETS.items() if shape[0] == 3), "vae"]
)
def test_an_onnx_file_says_what_the_net_says_of_any_number_of_images(name: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra `export`")
    subject, example = subject_of(name, 2)
    export(subject, example, tmp_path / "net.onnx", "onnx", {"net": name})
    differences = compare(subject, tmp_path / "net.onnx", "onnx", torch.rand(3, *example.shape[1:]))
    assert [one.output for one in differences] == OUTPUTS[name]
    assert all(one.worst < 1e-4 for one in differences)
    kept = onnx.load(tmp_path / "net.onnx")
    assert {entry.key: entry.value for entry in kept.metadata_props}["net"] == name
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_file_of_another_net_is_noticed(tmp_path: Path) -> None:
    subject, example = subject_of("vae", 1)
    export(subject, example, tmp_path / "net.pt", "torchscript", {})
    nn.init.constant_(subject.module.net.mean.bias, 1.0)
    mean, log_var, _ = compare(subject, tmp_path / "net.pt", "torchscript", example)
    assert not mean.is_rounding
    assert log_var.is_rounding


def test_candidates_of_equal_score_may_change_places() -> None:
    class Fixed(nn.Module):
        def __init__(self, order: list[int]) -> None:
            super().__init__()
            self.order = order

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            boxes = torch.tensor([[[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9, 9]]])
            return boxes[:, self.order], torch.tensor([[[0.5], [0.5], [0.0]]])[:, self.order]

    meaning = {"boxes": "", "scores": ""}
    file = Path("unused")
    with pytest.MonkeyPatch.context() as patch:
        runners = "lightning_cv.tools.export._RUNNERS"
        for order, same in (([1, 0, 2], True), ([0, 2, 1], True), ([0, 0, 2], False)):
            patch.setattr(runners, {"onnx": lambda _, images, order=order: Fixed(order)(images)})
            differences = compare(Exportable(Fixed([0, 1, 2]), meaning), file, "onnx", torch.rand(1))
            assert all(one.is_rounding for one in differences) == same


def test_scores_that_rounding_would_sort_otherwise_are_compared_in_place() -> None:
    class Fixed(nn.Module):
        def __init__(self, scores: list[float]) -> None:
            super().__init__()
            self.scores = torch.tensor(scores)[None, :, None]

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.tensor([[[1.0, 2, 3, 4], [50, 60, 70, 80]]]), self.scores

    subject = Exportable(Fixed([0.123454, 0.123456]), {"boxes": "", "scores": ""})
    with pytest.MonkeyPatch.context() as patch:
        other = Fixed([0.123456, 0.123454])
        patch.setattr("lightning_cv.tools.export._RUNNERS", {"onnx": lambda _, images: other(images)})
        assert all(one.worst < 1e-5 for one in compare(subject, Path("unused"), "onnx", torch.rand(1)))


@pytest.mark.parametrize("net", [nn.Flatten(), nn.AvgPool2d(2)])
def test_a_net_of_no_known_kind_is_refused(net: nn.Module) -> None:
    with pytest.raises(UserError, match=f"{type(net).__name__} cannot be exported"):
        exportable(net, torch.rand(1, 3, 8, 8))
