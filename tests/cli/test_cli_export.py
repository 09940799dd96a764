"""A checkpoint's net as a file that runs without the package."""

import json
from pathlib import Path

import pytest
import torch

from lightning_cv.cli import main
from lightning_cv.cli.fit import launch
from lightning_cv.cli.predictor import load_model
from lightning_cv.datasets.drawn import DRAWN_CLASSES

SHORT = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
SCENES = ["--data.train=4", "--data.val=2", "--data.test=2", "--data.size=64", "--data.batch_size=4"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNING_CV_DATA", str(root / "data"))
        for name, options in (
            ("detection/ssd_drawn", SCENES),
            ("vae/beta_vae_digits", ["--trainer.limit_train_batches=1"]),
        ):
            run = launch("fit", ["--config", name, "--runs", str(root), *SHORT, *options]).run_dir
            found[name.split("/")[0]] = run / "checkpoints" / "last.ckpt"
    return found


def test_a_detector_becomes_a_file_of_the_size_that_it_is_evaluated_at(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, ckpt = tmp_path / "new" / "net.pt", checkpoints["detection"]
    assert main(["export", "--ckpt", str(ckpt), "--format", "torchscript", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "images (N, C, H, W) of (3, 64, 64), N = 1" in shown
    assert "before non-maximum suppression: differs from the net by at most 0.0e+00" in shown
    extra = {"class_names": ""}
    loaded = torch.jit.load(out, _extra_files=extra)
    assert json.loads(extra["class_names"]) == list(DRAWN_CLASSES)
    image = torch.rand(1, 3, 64, 64)
    expected = load_model(ckpt).task.net.candidates(image)
    for got, want in zip(loaded(image), expected, strict=True):
        torch.testing.assert_close(got, want)


def test_the_size_is_the_callers_where_the_net_takes_any(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["export", "--ckpt", str(checkpoints["detection"]), "--format", "torchscript"]
    assert main([*arguments, "--out", str(tmp_path / "net.pt"), "--size", "96", "128", "--dynamic-batch"]) == 0
    boxes, scores = torch.jit.load(tmp_path / "net.pt")(torch.rand(2, 3, 96, 128))
    cells = 12 * 16 + 6 * 8
    assert (boxes.shape, scores.shape) == ((2, 3 * cells, 4), (2, 3 * cells, 10))


def test_an_autoencoder_becomes_onnx(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    out, ckpt = tmp_path / "net.onnx", checkpoints["vae"]
    assert main(["export", "--ckpt", str(ckpt), "--out", str(out)]) == 0
    net = load_model(ckpt).task.net
    images = torch.rand(1, *net.image_shape)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    mean, _, logits = session.run(["mean", "log_var", "logits"], {"images": images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(mean), net.encode(images).mean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(torch.from_numpy(logits), net.decode(torch.from_numpy(mean)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "."], "is a folder, not a file"),
        (["--out", "net.pt", "--size", "0", "9"], "height and width are at least 1, got 0 and 9"),
        (["--out", "net.pt", "--size", "9", "9"], "this net takes images of"),
        (["--out", "file/net.pt", "--format", "torchscript"], "cannot write --out"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(
    arguments: list[str], message: str, checkpoints: dict[str, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("no folder")
    assert main(["export", "--ckpt", str(checkpoints["vae"]), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_says_something_else_is_told_of(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lightning_cv.tools.export.TOLERANCE", -1.0)
    out = tmp_path / "net.pt"
    assert main(["export", "--ckpt", str(checkpoints["vae"]), "--format", "torchscript", "--out", str(out)]) == 1
    assert "mean, log_var, logits: that is more than rounding" in capsys.readouterr().err
