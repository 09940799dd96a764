"""Prediction by a net that judges proposals: pictures of one's own are searched as those of training were."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from lightning_cv.cli import main
from lightning_cv.cli.fit import launch
from lightning_cv.cli.predictor import load_model
from lightning_cv.cli.search import search_of
from lightning_cv.contracts import Draw
from lightning_cv.datamodules import DrawnDetectionDataModule
from lightning_cv.datasets.selective_search import SelectiveSearch, search_of_settings
from lightning_cv.errors import UserError
from lightning_cv.tasks import SingleStageDetector
from lightning_cv.transforms import restore_boxes

SIZE = 64
SCENES = {"train": 4, "val": 2, "test": 3, "size": SIZE}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a barely trained Fast R-CNN whose proposals lie in the folder `boxes`, images enlarged."""
    root = tmp_path_factory.mktemp("runs")
    drawn = DrawnDetectionDataModule(str(root), **SCENES)
    drawn.prepare_data()
    for split in ("train", "val", "test"):
        found = ["--width", "100", "--min-side", "8", "--most", "40", "--seed", "3", "--quiet", "--no-recall"]
        assert (
            main(["proposals", "build", str(drawn.root), "--split", split, *found, "--out", str(root / "boxes")]) == 0
        )
    bare = {"model": {"init_args": {"net": {"init_args": {"proposer": None}}}}}
    (root / "bare.yaml").write_text(json.dumps(bare))
    larger = {"class_path": "lightning_cv.transforms.DetectionEval", "init_args": {"size": SIZE * 3 // 2}}
    options = [
        *("--config", "detection/fast_rcnn_drawn", "--runs", str(root), f"--data.root={root}"),
        *(f"--data.{name}={value}" for name, value in SCENES.items()),
        *(f"--data.eval_transform={json.dumps(larger)}", "--data.batch_size=2", f"--data.proposals={root / 'boxes'}"),
        *("--config", str(root / "bare.yaml"), "--trainer.max_epochs=1", "--trainer.accelerator=cpu"),
        "--trainer.enable_progress_bar=false",
    ]
    return launch("fit", options).run_dir / "checkpoints" / "last.ckpt"


def predicted(trained: Path, out: Path, *options: str) -> list[dict[str, object]]:
    common = ["--out", str(out / "out"), "--min-score", "0", "--device", "cpu", "--quiet"]
    assert main(["predict", "--ckpt", str(trained), "--images", str(out / "photos"), *common, *options]) == 0
    rows: list[dict[str, object]] = json.loads((out / "out/predictions.json").read_text())
    return rows


def boxes_of_the_test(trained: Path, photos: Path) -> list[list[float]]:
    """What a test finds in each picture of the data set, in pixels of its file; the pictures are written as PNG."""
    model = load_model(trained, "cpu")
    source, pictures = model.datamodule.source("test"), model.datamodule.test_set()
    photos.mkdir()
    expected = []
    for row in range(len(source)):
        Image.fromarray(source[row]["image"]).save(photos / f"{row}.png")
        batch = pictures[[Draw(0, row, row)]]
        with torch.inference_mode():
            (found,) = model.task.detections(batch)
        boxes = restore_boxes(found["boxes"], batch["targets"][0]["placement"])
        expected += [
            [row + 1, label, score, *box]
            for label, score, box in zip(
                found["labels"].tolist(), found["scores"].tolist(), boxes.tolist(), strict=True
            )
        ]
    return expected


def test_a_picture_of_ones_own_is_judged_as_the_test_judges_it(trained: Path, tmp_path: Path) -> None:
    expected = boxes_of_the_test(trained, tmp_path / "photos")
    rows = predicted(trained, tmp_path)
    found = []
    for row in rows:
        x, y, width, height = row["bbox"]
        found.append([row["image_id"], row["category_id"], row["score"], x, y, x + width, y + height])
    assert {row[0] for row in expected} == {1, 2, 3}
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))


def test_without_the_folder_the_way_out_is_told(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes_of_the_test(trained, tmp_path / "photos")
    there = predicted(trained, tmp_path)
    boxes = trained.parents[4] / "boxes"
    moved = boxes.rename(tmp_path / "moved")
    command = ["predict", "--ckpt", str(trained), "--images", str(tmp_path / "photos"), "--out", str(tmp_path / "new")]
    try:
        assert main(command) == 2
        said = capsys.readouterr().err
        assert f"data.proposals of the checkpoint, {boxes}: there is no proposals.json" in said
        assert "name another of `lightning-cv proposals build` by --proposals DIR" in said
        assert said.count("\n") == 1
        assert not (tmp_path / "new").exists()
        assert predicted(trained, tmp_path, "--proposals", str(moved)) == there
    finally:
        moved.rename(boxes)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "edge boxes"}, "found by 'edge boxes', not by selective search"),
        ({"version": 0}, "found by version 0 of selective search, this is version"),
        ({"wide": 3}, "no settings of selective search"),
        ({"mode": "slow"}, "mode is fast or quality, got 'slow'"),
    ],
)
def test_proposals_that_were_found_otherwise_are_refused(
    settings: dict[str, object], words: str, trained: Path, tmp_path: Path
) -> None:
    model = load_model(trained, "cpu")
    content = {"format": 1, "settings": SelectiveSearch().settings | settings}
    (tmp_path / "proposals.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        search_of(model.task, model.datamodule, tmp_path)
    (tmp_path / "mine.npz").touch()
    model.datamodule.proposals = str(tmp_path / "mine.npz")
    with pytest.raises(UserError, match=r"data\.proposals .*mine\.npz: a single file does not say how"):
        search_of(model.task, model.datamodule)


def test_a_net_that_finds_its_regions_itself_needs_no_search(trained: Path, tmp_path: Path) -> None:
    model = load_model(trained, "cpu")
    task = SingleStageDetector(nn.Flatten(), torch.optim.SGD)
    assert search_of(task, model.datamodule) is None
    with pytest.raises(UserError, match="--proposals: the checkpoint's Flatten is shown no proposals"):
        search_of(task, model.datamodule, tmp_path)
    model.datamodule.proposals = None  # the net has a proposer then
    assert search_of(model.task, model.datamodule) is None


def test_settings_give_the_search_they_are_of() -> None:
    search = SelectiveSearch("quality", width=0, min_side=5, sigma=0.5, most=7, seed=9)
    assert search_of_settings(json.loads(json.dumps(search.settings))) == search
