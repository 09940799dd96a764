"""Prediction goes on after a picture for which memory runs out."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from lightning_cv.cli import main, predictor
from lightning_cv.cli.fit import launch

SHORT = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
SCENES = ["--data.train=8", "--data.val=2", "--data.test=2", "--data.size=64", "--data.batch_size=4"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNING_CV_DATA", str(root / "data"))
        run = launch("fit", ["--config", "detection/ssd_drawn", "--runs", str(root), *SHORT, *SCENES]).run_dir
    return run / "checkpoints/last.ckpt"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), RuntimeError("can't allocate memory"), MemoryError()]
)
@pytest.mark.parametrize("where", ["_looked_at", "read_picture"])
def test_a_picture_that_does_not_fit_is_told_like_one_that_cannot_be_read(
    where: str,
    error: Exception,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a", "large", "z"):
        Image.new("RGB", (64, 64)).save(tmp_path / "photos" / f"{name}.png")
    work, calls = getattr(predictor, where), iter(range(3))

    def full(*arguments: object) -> object:
        if next(calls) == 1:
            raise error
        return work(*arguments)

    monkeypatch.setattr(predictor, where, full)
    out = tmp_path / "out"
    arguments = ["--images", str(tmp_path / "photos"), "--out", str(out), "--min-score", "0", "--quiet"]
    assert main(["predict", "--ckpt", str(checkpoint), *arguments]) == 1
    told = capsys.readouterr()
    assert told.err.splitlines()[-1] == f"skipped {tmp_path}/photos/large.png: out of memory"
    assert told.out.startswith("2 of 3 images")
    assert {path.name for path in out.glob("*.png")} == {"a.png", "z.png"}
    assert {row["image_id"] for row in json.loads((out / "predictions.json").read_text())} == {1, 3}
