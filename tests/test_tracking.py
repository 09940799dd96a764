import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from oracles.toy_training import (
    SEGMENT_LABELS,
    SEGMENT_THINGS,
    ToyData,
    ToyTask,
    image_batch,
    panoptic_batch,
    segments_as_they_are,
    terms_of,
    toy_trainer,
)
from PIL import Image

from lightning_cv import tracking
from lightning_cv.callbacks import LikelihoodMetrics, NanGuard
from lightning_cv.contracts import LabelMap
from lightning_cv.errors import UserError
from lightning_cv.tracking import MetricsCSV, WandbRun, class_labels, resolve_mode

LABELS = LabelMap(("disc", "star"), 1, (1, 2))
MASK_LABELS = LabelMap(("background", "disc"), 0, (0, 1))


def lines(folder):
    return (Path(folder) / "metrics.csv").read_text().splitlines()


def test_rows_are_on_disk_at_once_and_new_columns_leave_old_rows_blank(tmp_path):
    logger = MetricsCSV(str(tmp_path / "run"))
    logger.log_metrics({"train/loss": 0.5, "epoch": 0}, step=0)
    assert lines(tmp_path / "run") == ["step,epoch,train/loss", "0,0,0.5"]
    logger.log_metrics({"val/miou": torch.tensor(0.25), "epoch": 0}, step=1)
    assert lines(tmp_path / "run") == ["step,epoch,train/loss,val/miou", "0,0,0.5,", "1,0,,0.25"]


def test_a_second_logger_goes_on_with_the_file(tmp_path):
    MetricsCSV(str(tmp_path)).log_metrics({"a": 1.0}, step=0)
    MetricsCSV(str(tmp_path)).log_metrics({"a": 2.0}, step=1)
    assert lines(tmp_path) == ["step,epoch,a", "0,,1.0", "1,,2.0"]


def test_resume_drops_what_will_be_logged_again(tmp_path):
    first = MetricsCSV(str(tmp_path))
    for step in range(6):
        first.log_metrics({"a": float(step)}, step=step)
    logger = MetricsCSV(str(tmp_path))
    logger.resume_from(4)  # steps 0 to 3 are in the checkpoint
    logger.log_metrics({"a": 40.0, "b": 1.0}, step=4)
    assert lines(tmp_path) == ["step,epoch,a,b", *(f"{n},,{n}.0," for n in range(4)), "4,,40.0,1.0"]


def test_resume_without_a_file_and_of_a_row_cut_off_by_a_kill(tmp_path):
    MetricsCSV(str(tmp_path)).resume_from(3)
    assert not (tmp_path / "metrics.csv").exists()
    (tmp_path / "metrics.csv").write_text("step,epoch,a\n0,0,1.0\n1,0,2.0\n2,0")
    logger = MetricsCSV(str(tmp_path))
    logger.resume_from(9)
    logger.log_metrics({"a": 3.0}, step=2)
    assert lines(tmp_path) == ["step,epoch,a", "0,0,1.0", "1,0,2.0", "2,,3.0"]


def test_going_on_after_a_torn_row_without_resume_does_not_glue_rows(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,epoch,a\n0,0,1.0\n1,0")
    MetricsCSV(str(tmp_path)).log_metrics({"a": 3.0}, step=1)
    assert lines(tmp_path) == ["step,epoch,a", "0,0,1.0", "1,,3.0"]


def test_names_with_commas_survive(tmp_path):
    logger = MetricsCSV(str(tmp_path))
    logger.log_metrics({"iou, mean": 1.0}, step=0)
    logger.log_metrics({"other": 2.0}, step=1)
    assert lines(tmp_path)[0] == 'step,epoch,"iou, mean",other'
    assert lines(tmp_path)[1] == "0,,1.0,"


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({"WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_MODE": "dryrun"}, "offline"),
        ({}, "offline"),
        ({"WANDB_API_KEY": "x" * 40}, "online"),
        ({"WANDB_API_KEY": "x" * 40, "WANDB_MODE": "offline"}, "offline"),
    ],
)
def test_auto_mode(monkeypatch, tmp_path, environment, mode):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "absent"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resolve_mode("auto") == mode
    assert resolve_mode("offline") == "offline"


def test_auto_mode_sees_a_login_in_netrc(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    (tmp_path / "netrc").write_text("machine other.example.org login user password x\n")
    assert resolve_mode("auto") == "offline"
    (tmp_path / "netrc").write_text("machine wandb.example.org login user password x\n")
    assert resolve_mode("auto") == "online"


def test_an_unknown_mode_is_named(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(ValueError, match="'sometimes'"):
        resolve_mode("auto")


def test_class_labels():
    assert class_labels(LABELS) == {1: "disc", 2: "star"}
    assert class_labels(MASK_LABELS, void=True) == {0: "background", 1: "disc", 255: "not counted"}


def trainer(tmp_path, *loggers):
    return Trainer(default_root_dir=tmp_path, logger=list(loggers) or False, accelerator="cpu",
                   enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip


def target(image_id):
    return {"image_id": image_id, "boxes": torch.tensor([[1.2, 2.0, 10.0, 20.0]]), "labels": torch.tensor([2]),
            "difficult": torch.tensor([True]), "original_size": (32, 32)}  # fmt: skip


FOUND = {"boxes": torch.tensor([[1.0, 2.6, 11.0, 19.0], [0.0, 0.0, 5.0, 5.0]]), "scores": torch.tensor([0.87, 0.2]),
         "labels": torch.tensor([2, 1])}  # fmt: skip
PICTURE = np.zeros((32, 32, 3), np.uint8)


def test_without_a_wandb_logger_nothing_happens(tmp_path):
    plain = trainer(tmp_path, MetricsCSV(str(tmp_path)))
    tracking.log_images(plain, "a", [PICTURE])
    tracking.log_boxes(plain, "a", [PICTURE], [FOUND], [target("x")], LABELS)
    tracking.log_table(plain, "a", ["x"], [[1]])
    tracking.log_animation(plain, "a", tmp_path / "missing.gif")
    tracking.finish(plain)
    assert wandb.run is None
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_logs_the_steps_of_an_uninterrupted_one(tmp_path):
    data = ToyData([image_batch(2 * n) for n in range(3)])

    def fit(folder, checkpoint=None, losses=()):
        logger = MetricsCSV(str(folder))
        saver = ModelCheckpoint(folder, filename="last", every_n_train_steps=2, enable_version_counter=False)
        one = toy_trainer(folder, logger=logger, callbacks=[saver, LikelihoodMetrics(), NanGuard()], max_epochs=2,
                          log_every_n_steps=1, enable_checkpointing=True)  # fmt: skip
        if checkpoint:
            tracking.rewind(one, torch.load(checkpoint, weights_only=True)["global_step"])
        one.fit(ToyTask(terms_of, losses), datamodule=data, ckpt_path=checkpoint, weights_only=True)

    def logged(folder):  # what was logged in which step, without the values
        rows = list(csv.DictReader(lines(folder)))
        return [(row["step"], row["epoch"], [name for name, value in row.items() if value]) for row in rows]

    fit(tmp_path / "whole")
    with pytest.raises(UserError, match="in step 5"):
        fit(tmp_path / "stopped", losses=[1.0] * 5 + [float("nan")])
    assert len(logged(tmp_path / "stopped")) < len(logged(tmp_path / "whole"))
    fit(tmp_path / "stopped", checkpoint=tmp_path / "stopped/last.ckpt")  # written after 4 steps
    assert logged(tmp_path / "stopped") == logged(tmp_path / "whole")


def records(folder):
    """All records of an offline run, by W&B's own reader."""
    (log,) = Path(folder).glob("wandb/offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_two_offline_runs_in_one_process_read_back(tmp_path):
    for number in (1, 2):
        folder = tmp_path / f"run{number}"
        run = WandbRun(str(folder), project="tests", id=f"id{number}", name=f"name {number}", group="g", tags=["t"],
                       mode="offline")  # fmt: skip
        one = trainer(tmp_path, run)
        run.log_hyperparams({"model.beta": number})
        run.log_metrics({"val/elbo": -1.5 * number}, step=3)
        assert run.experiment.id == f"id{number}"
        tracking.log_boxes(one, "previews/detection", [PICTURE], [FOUND], [target("img7")], LABELS, 0.3)
        mask = torch.ones(32, 32, dtype=torch.int64)
        masks = {"predictions": mask, "true_disc": mask * 255}
        tracking.log_masks(one, "previews/segmentation", [PICTURE], [masks], ["img8"], MASK_LABELS)
        tracking.log_images(one, "previews/reconstruction", [PICTURE], ["caption"])
        tracking.log_table(one, "latents", ["latent", "picture"], [[0, PICTURE]])
        frames = [Image.fromarray(PICTURE), Image.fromarray(255 - PICTURE)]
        frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
        tracking.log_animation(one, "traversal/img9", tmp_path / "two.gif")
        tracking.finish(one)
        assert wandb.run is None
    for number in (1, 2):
        found = records(tmp_path / f"run{number}")
        text = json.dumps(found)
        assert f"id{number}" in text
        assert f"id{3 - number}" not in text
        for expected in (
            "img7",
            "disc",
            "trainer/global_step",
            "previews/segmentation",
            "latents",
            "caption",
        ):
            assert expected in text, expected
        assert "_step" in text
        media = tmp_path / f"run{number}"
        boxes = [json.loads(file.read_text()) for file in media.rglob("*.boxes2D.json")]
        (predicted,) = [entry for entry in boxes if entry["box_data"][0].get("scores")]
        (true,) = [entry for entry in boxes if not entry["box_data"][0].get("scores")]
        (box,) = predicted["box_data"]  # the one with 0.2 is below the threshold
        assert box["position"] == {"minX": 1, "maxX": 11, "minY": 3, "maxY": 19}
        assert box["scores"]["score"] == pytest.approx(0.87, abs=1e-4)
        assert (box["class_id"], box["domain"], box["box_caption"]) == (2, "pixel", "star 0.87")
        assert (true["box_data"][0]["class_id"], true["box_data"][0]["box_caption"]) == (2, "star (difficult)")
        assert len(list(media.rglob("*.mask.png"))) == 2
        (animation,) = media.rglob("videos/traversal/img9*.gif")
        assert animation.read_bytes() == (tmp_path / "two.gif").read_bytes()


@pytest.mark.slow
def test_a_run_left_open_is_not_written_into(tmp_path):
    first, second = (WandbRun(str(tmp_path / name), id=name, mode="offline") for name in ("one", "two"))
    assert first.experiment.id == "one"
    with pytest.warns(UserWarning, match="W&B run one was still open"):
        assert second.experiment.id == "two"
    second.finish()
    assert (os.environ.get("WANDB_MODE"), wandb.run) == ("offline", None)


@pytest.mark.slow
def test_a_disabled_run_writes_nothing(tmp_path):
    run = WandbRun(str(tmp_path / "run"), id="off", mode="disabled")
    tracking.log_images(trainer(tmp_path, run), "a", [PICTURE])
    run.log_metrics({"a": 1.0}, step=0)
    run.finish()
    assert list((tmp_path / "run").rglob("*.wandb")) == []


def test_segments_are_logged_as_class_masks_and_boxes_of_things(tmp_path):
    run = WandbRun(str(tmp_path), id="segments", mode="offline")
    one = trainer(tmp_path, run)
    truth = panoptic_batch(0, images=1)["targets"][0]  # half ground, half a disc
    found = segments_as_they_are({"targets": [truth]})["preds"]
    tracking.log_segments(one, "previews/panoptic", [PICTURE], found, [truth], SEGMENT_LABELS, SEGMENT_THINGS)
    tracking.finish(one)
    boxes = [json.loads(file.read_text())["box_data"] for file in tmp_path.rglob("*.boxes2D.json")]
    predicted, true = sorted(boxes, key=lambda entry: "scores" not in entry[0])
    assert [len(predicted), len(true)] == [1, 1]  # the ground has none
    assert predicted[0]["position"] == {"minX": 8, "maxX": 16, "minY": 0, "maxY": 16}
    assert (predicted[0]["class_id"], predicted[0]["box_caption"]) == (1, "disc 0.75")
    assert true[0]["box_caption"] == "disc"
    (mask,) = [np.asarray(Image.open(file)) for file in tmp_path.rglob("*.mask.png")]  # equal ones share a file
    assert (np.unique(mask[:, :8]).tolist(), np.unique(mask[:, 8:]).tolist()) == ([0], [1])


def square(left, right, top=0, bottom=32):
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def test_instance_masks_are_logged_as_class_masks_beside_the_boxes(tmp_path):
    run = WandbRun(str(tmp_path), id="masks", mode="offline")
    one = trainer(tmp_path, run)
    found = {
        "boxes": torch.tensor([[0.0, 0.0, 20.0, 32.0], [10.0, 0.0, 32.0, 32.0], [0.0, 0.0, 32.0, 32.0]]),
        "scores": torch.tensor([0.5, 0.9, 0.1]),  # the last is not shown
        "labels": torch.tensor([1, 2, 1]),
        "masks": torch.stack([square(0, 20), square(10, 24), square(0, 32)]),
    }
    truth = target("img7") | {"masks": square(3, 8, bottom=16)[None]}
    tracking.log_boxes(one, "previews/detection", [PICTURE], [found], [truth], LABELS, 0.3)
    tracking.finish(one)
    (logged,) = [record["history"]["item"] for record in records(tmp_path) if "history" in record]
    (masks,), (boxes,) = (logged[f"previews/detection.all_{kind}"] for kind in ("masks", "boxes"))
    (files,) = tmp_path.glob("wandb/offline-run-*/files")
    predicted, true = (np.asarray(Image.open(files / masks[who]["path"])) for who in ("predictions", "ground_truth"))
    expected = np.zeros((32, 32), np.uint8)
    expected[:, :10], expected[:, 10:24] = 1, 2  # where they overlap, the better score
    assert np.array_equal(predicted, expected)
    assert np.array_equal(true, 2 * square(3, 8, bottom=16).numpy())
    assert set(boxes) == {"predictions", "ground_truth"}
    assert len(json.loads((files / boxes["predictions"]["path"]).read_text())["box_data"]) == 2


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), -float("inf")])
def test_boxes_that_are_not_finite_are_left_out(tmp_path, strange):
    run = WandbRun(str(tmp_path), id="strange", mode="offline")
    one = trainer(tmp_path, run)
    found = FOUND | {"boxes": torch.tensor([[1.0, 2.0, strange, 9.0], [0.0, 0.0, 5.0, 5.0]])}
    tracking.log_boxes(one, "previews/detection", [PICTURE], [found], [target("img7")], LABELS, 0.1)
    tracking.finish(one)
    boxes = [json.loads(file.read_text())["box_data"] for file in tmp_path.rglob("*.boxes2D.json")]
    assert [box["box_caption"] for box, *others in boxes if box.get("scores") and not others] == ["disc 0.20"]
    assert list(tmp_path.rglob("*.mask.png")) == [], "without masks there are none"


def test_a_run_outlives_the_service_of_wandb(tmp_path, monkeypatch):
    """SLURM ends that with all else of a job when it asks the job to end."""

    class Gone:
        id = "b"

        def log(self, *_):
            raise ConnectionResetError("Connection lost")

        def finish(self):
            raise AssertionError("asked of a service that is gone")

    monkeypatch.setattr(wandb, "teardown", lambda: (_ for _ in ()).throw(ConnectionResetError()))
    run = WandbRun(save_dir=str(tmp_path), mode="offline", id="b")
    run._experiment = Gone()
    with pytest.warns(UserWarning, match="service is gone"):
        run.log_metrics({"train/loss": 1.0}, 0)
    run.log_metrics({"train/loss": 2.0}, 1)
    run.log_hyperparams({"beta": 1})
    run.finish()
    assert run._experiment is None
