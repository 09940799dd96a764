"""Two processes on drawn data: one W&B run, with everything in it, and the figures of one process."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_cv.sweeps import dashboard

SHORT = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.limit_train_batches=2",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--data.batch_size=2",
]
DRAWN = ["--data.train=8", "--data.val=5", "--data.test=4"]
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]
ALL_BOXES = ["--trainer.callbacks+=DetectionPreview", "--trainer.callbacks.score_threshold=0.0"]
CASES = {
    "detection/ssd_drawn": [*DRAWN, *ALL_BOXES],
    "segmentation/fcn_drawn": DRAWN,
    "panoptic/panoptic_fpn_drawn": DRAWN,
    "vae/beta_vae_digits": ["--model.beta=4"],
}


def lightning_cv(folder, *arguments):
    environment = os.environ | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    for name in [name for name in environment if name.startswith("WANDB") and "SERVICE" in name]:
        del environment[name]  # a service of its own, as from a shell: other tests may have started one here
    command = [sys.executable, "-m", "lightning_cv", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def inspected(log, *options):
    """What W&B's own reader says of an offline run."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", *options, "--json", str(log)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def settings_of(whole):
    """The configuration as W&B's columns name it: nested names joined with dots."""

    def joined(tree, prefix=""):
        flat = {}
        for name, value in tree.items():
            flat |= joined(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        return flat

    return joined(whole["config"])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("experiment", CASES)
def test_two_processes_log_one_run_with_everything_in_it(experiment, tmp_path):
    lightning_cv(tmp_path, "fit", "--config", experiment, *SHORT, *TWO, *CASES[experiment])
    (run,) = tmp_path.glob("runs/*/*/*")
    (log,) = tmp_path.rglob("*.wandb")
    assert log.is_relative_to(run / "wandb")
    text, whole = inspected(log), json.loads(inspected(log, "--summary"))
    config, summary = settings_of(whole), json.dumps(whole["summary"])
    for setting in (
        "model.net.class_path",
        "trainer.max_epochs",
        "data.batch_size",
        "checksum_train",
        "checksum_val",
        "classes",
        "code.version",
        "code.commit",
    ):
        assert config[setting], setting
    assert config["data.batch_size"] == 2
    for figure in ("train/loss", "train/images_per_s", "trainer/global_step"):
        assert figure in summary
    media = [path.name for path in run.glob("wandb/*/files/media/**/*") if path.is_file()]
    assert media
    if experiment == "detection/ssd_drawn":
        assert "previews/detection" in text
        boxes = [json.loads(path.read_text())["box_data"] for path in run.rglob("*.boxes2D.json")]
        assert all(box["box_caption"] for one in boxes for box in one)
        assert any("scores" in box for one in boxes for box in one)
        assert any("scores" not in box for one in boxes for box in one)
        assert "val/map_50" in summary
    elif experiment == "segmentation/fcn_drawn":
        assert "previews/segmentation" in text
        assert any(name.endswith(".mask.png") for name in media)
        assert "val/miou" in summary
    elif experiment == "panoptic/panoptic_fpn_drawn":
        assert "previews/panoptic" in text
        assert "val/pq" in summary
    else:
        assert "previews/traversal" in text
        assert "previews/reconstruction" in text
        assert config[dashboard.BETA] == 4
        assert config[dashboard.SEED] == 0
        assert all(name in summary for name in (*dashboard.TERMS, *dashboard.PICTURES, dashboard.LATENTS))
        assert "val/elbo" in summary


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("experiment", "target", "figure"),
    [
        ("detection/ssd_drawn", "0.72", "map"),
        pytest.param("panoptic/panoptic_fpn_drawn", "0.68", "q", marks=pytest.mark.slow),
        pytest.param("panoptic/panoptic_segformer_drawn", "0.58", "q", marks=pytest.mark.slow),
    ],
)
def test_two_processes_evaluate_as_one_does(experiment, target, figure, tmp_path):
    longer = ["--trainer.limit_train_batches=60", "--data.train=120"]  # a net that finds something
    lightning_cv(tmp_path, "fit", "--config", experiment, *SHORT, *DRAWN, *longer)
    (checkpoint,) = tmp_path.glob("runs/*/*/*/checkpoints/best.ckpt")
    found = []
    for options in ([], TWO):
        quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
        output = lightning_cv(tmp_path, "test", "--ckpt", str(checkpoint), *quiet, *options)
        assert f"target {target}" in output
        results = max(tmp_path.rglob("test-*/results.json"), key=lambda path: path.stat().st_mtime)
        found.append({name: value for name, value in json.loads(results.read_text()).items() if figure in name})
    assert found[0] == found[1]
    assert len(found[0]) > 3
    assert any(value > 0 for value in found[0].values())


@pytest.mark.timeout(600)
def test_two_processes_draw_the_pictures_of_one(tmp_path):
    chosen = "[digits_0002,digits_0006]"  # of two processes the second sees the first of them
    start = ["--trainer.callbacks+=LatentTraversal", f"--trainer.callbacks.image_ids={chosen}"]
    lightning_cv(tmp_path, "fit", "--config", "vae/beta_vae_digits", *SHORT, *start)
    (checkpoint,) = tmp_path.glob("runs/*/*/*/checkpoints/last.ckpt")
    drawn, figures = [], []
    for options in ([], TWO):
        quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
        lightning_cv(tmp_path, "validate", "--ckpt", str(checkpoint), *quiet, *options)
        results = max(tmp_path.rglob("validate-*/results.json"), key=lambda path: path.stat().st_mtime)
        figures.append({name: value for name, value in json.loads(results.read_text()).items() if "/" in name})
        drawn.append({path.name: path.read_bytes() for path in results.parent.glob("previews/*")})
    assert figures[1] == pytest.approx(figures[0], rel=1e-6)
    names = ["latents-epoch00{}.csv", "reconstruction-epoch00{}.png", "traversal-epoch00{}.png"]
    names += [f"traversal-digits_{number}-epoch00{{}}.gif" for number in ("0001", "0002", "0006")]
    assert sorted(drawn[0]) == sorted(name.format(0) for name in names)
    assert drawn[1] == drawn[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("experiment", ["detection/faster_rcnn_drawn", "instance/mask_rcnn_drawn"])
def test_a_process_whose_batches_have_no_object_trains_with_the_other(experiment, tmp_path, monkeypatch):
    """Every parameter has to take part: DDP would wait for the gradient of one that does not."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    small = ["--data.size=64", "--trainer.callbacks+=forked.NoObjects"]
    lightning_cv(tmp_path, "fit", "--config", experiment, *SHORT, *TWO, *DRAWN, *small)
    (run,) = tmp_path.glob("runs/*/*/*")
    results = json.loads((run / "results.json").read_text())
    assert {"train/loss_box", "train/loss_rpn_box"} <= results.keys()
    assert all(math.isfinite(value) for value in results.values())
    assert (run / "checkpoints/last.ckpt").is_file()
