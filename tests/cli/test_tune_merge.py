"""`tune-merge`: what it prints is what `validate` finds with the file it writes."""

import json
from pathlib import Path

import pytest
import yaml

from lightning_cv.cli import main
from lightning_cv.cli.fit import launch

SCENES = ["--data.train=16", "--data.val=4", "--data.test=2", "--data.size=64", "--data.batch_size=4"]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]

NO_STUFF = ["--model.inference=lightning_cv.ops.panoptic.HeuristicMerge", "--model.inference.stuff_share=1.0"]
"""What a net that sees nothing but the ground cannot do worse than."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNING_CV_DATA", str(root / "data"))
        short = ["--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1"]
        start = ["--config", "panoptic/panoptic_fpn_drawn", "--runs", str(root), *SCENES, *QUIET, *short]
        run = launch("fit", [*start, *NO_STUFF]).run_dir
    return run / "checkpoints" / "last.ckpt"


def test_the_file_gives_the_quality_that_was_printed(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "settings" / "tuned.yaml"
    values = ["--values", "score=0.02,0.9", "stuff_share=0,1"]
    assert main(["tune-merge", "--ckpt", str(checkpoint), "--out", str(out), *values]) == 0
    printed = capsys.readouterr().out
    *_, change, command = printed.strip().splitlines()
    before, after = (float(number) for number in change.removeprefix("PQ ").split(" -> "))
    assert after > before
    assert command == f"lightning-cv test --ckpt {checkpoint} --config {out}"
    inference = yaml.safe_load(out.read_text())["model"]["init_args"]["inference"]
    assert inference["class_path"] == "lightning_cv.ops.panoptic.HeuristicMerge"
    assert inference["init_args"]["stuff_share"] == 0
    for folder, config, expected in (("old", [], before), ("new", ["--config", str(out)], after)):
        assert main(["validate", "--ckpt", str(checkpoint), "--run_dir", str(tmp_path / folder), *config]) == 0
        results = json.loads((tmp_path / folder / "results.json").read_text())
        assert results["val/pq"] == pytest.approx(expected, abs=1e-4)
        capsys.readouterr()


def test_the_first_images_alone(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tuned.yaml"
    few = ["--images", "1", "--values", "score=0.5", "overlap=0.5", "stuff_share=0,0.5"]
    assert main(["tune-merge", "--ckpt", str(checkpoint), "--out", str(out), *few]) == 0
    assert "on 1 validation images" in out.read_text().splitlines()[0]
    assert len(capsys.readouterr().out.splitlines()) == 6  # head, before, two combinations, the change, the command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--values", "score"], "--values score: a threshold and numbers are needed, as in score=0.3,0.5"),
        (["--values", "score=a"], "--values score=a: a threshold and numbers are needed"),
        (["--values", "scores=0.5"], "--values scores: HeuristicMerge has score, overlap, stuff_share"),
        (["--values", "score=2"], "HeuristicMerge: score must be from 0 to 1, got 2.0"),
        (["--images", "0"], "--images must be at least 1, got 0"),
        (["--out", "."], "--out . is a folder, not a file"),
    ],
)
def test_a_slip_is_told(
    options: list[str], message: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune-merge", "--ckpt", str(checkpoint), "--out", str(tmp_path / "a.yaml"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.yaml").exists()


def test_the_checkpoint_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"weights")
    assert main(["tune-merge", "--ckpt", str(tmp_path / "last.ckpt"), "--out", f"{tmp_path}/./last.ckpt"]) == 2
    assert "is the checkpoint" in capsys.readouterr().err
    assert (tmp_path / "last.ckpt").read_bytes() == b"weights"


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_tried(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lightning_cv.cli.tune_merge.try_all", lambda *_: pytest.fail("tried"))
    (tmp_path / "a").write_text("")
    assert main(["tune-merge", "--ckpt", str(checkpoint), "--out", str(tmp_path / "a" / "b.yaml")]) == 2
    assert "cannot make the folder of --out" in capsys.readouterr().err
