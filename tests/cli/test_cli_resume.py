"""kill -9, then `lightning-cv resume`: the final weights are those of a run that was never stopped, bit for bit."""

import copy
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from forked import KILL_AT, run

from lightning_cv.checkpoints import load_checkpoint
from lightning_cv.cli.run_folder import RunLock
from lightning_cv.models import SmallBackbone

SHIPPED = Path(__file__).resolve().parents[2] / "experiments"
BATCHES = 6
EPOCHS = 3

DETECTOR = {
    "class_path": "lightning_cv.tasks.SingleStageDetector",
    "init_args": {
        "net": {
            "class_path": "lightning_cv.models.SSD",
            "init_args": {
                "features": {"class_path": "lightning_cv.models.SmallBackbone", "init_args": {"width": 8}},
                "num_classes": 10,
            },
        },
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.002, "weight_decay": 0.01}},
        "schedule": {"class_path": "lightning_cv.schedules.WarmupCosine"},
    },
}
VAE = {
    "class_path": "lightning_cv.tasks.VAEModule",
    "init_args": {
        "net": {
            "class_path": "lightning_cv.models.ConvVAE",
            "init_args": {"image_size": 8, "latent_size": 3, "width": 4},
        },
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}},
    },
}
DIGITS = {"class_path": "lightning_cv.datamodules.DigitsDataModule", "init_args": {"size": 8, "batch_size": 200}}


def drawn(workers: int) -> dict[str, Any]:
    counts = {"train": 4 * BATCHES, "val": 4, "test": 4}
    arguments = {"root": "scenes", **counts, "size": 64, "batch_size": 4, "num_workers": workers}
    jitter = {"class_path": "lightning_cv.transforms.FlipOnly", "init_args": {"jitter": 0.2}}
    return {
        "class_path": "lightning_cv.datamodules.DrawnDetectionDataModule",
        "init_args": {**arguments, "train_transform": jitter},
    }


EMA = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.8}}
MEAN = {"class_path": "lightning.pytorch.callbacks.WeightAveraging"}
SWA = {
    "class_path": "lightning.pytorch.callbacks.StochasticWeightAveraging",
    "init_args": {"swa_lrs": 0.01, "swa_epoch_start": 1},
}
STOP = {
    "class_path": "lightning.pytorch.callbacks.EarlyStopping",
    "init_args": {"monitor": "train/loss", "patience": 2, "min_delta": 1e9, "check_on_train_epoch_end": True},
}


def experiment(folder: Path, model: dict[str, Any], data: dict[str, Any], every: int, *more: dict[str, Any]) -> None:
    """An experiment file that checkpoints every few steps and can be told to die; `more` callbacks of Lightning's."""
    last = {
        "filename": "last",
        "every_n_train_steps": every,
        "every_n_epochs": None,
        "save_on_train_epoch_end": False,
        "enable_version_counter": False,
    }
    content = {
        "base": [str(SHIPPED / "_base" / "trainer.yaml")],
        "model": model,
        "data": data,
        "trainer": {
            "max_epochs": EPOCHS,
            "limit_train_batches": BATCHES,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "callbacks": [
                {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": last},
                {"class_path": "forked.KillAt"},
                *more,
            ],
        },
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(content))


def only_run(folder: Path) -> Path:
    (found,) = folder.glob("runs/*/small/*")
    return found


def final_state(folder: Path) -> dict[str, Any]:
    return load_checkpoint(only_run(folder) / "checkpoints" / "last.ckpt")


def assert_same_bits(first: Any, second: Any, where: str = "") -> None:
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same_bits(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_same_bits(*pair, f"{where}.{index}")
    else:
        assert first == second, where


def logged_losses(folder: Path) -> dict[int, str]:
    with (only_run(folder) / "metrics.csv").open() as file:
        rows = [(int(row["step"]), row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(dict(rows)) == len(rows), "a step was logged twice"
    return dict(rows)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of runs that nobody killed."""
    folders = {}
    for name, model, data in (("detector", DETECTOR, drawn(0)), ("vae", VAE, DIGITS)):
        folders[name] = tmp_path_factory.mktemp(name)
        experiment(folders[name], model, data, every=BATCHES)
        assert run(["fit", "--config", "small.yaml"], folders[name]) == 0, (folders[name] / "output.txt").read_text()
    return folders


@pytest.mark.parametrize(
    ("name", "model", "data", "every", "killed_at", "resumed_at"),
    [
        ("detector", DETECTOR, drawn(0), 9, 11, 9),  # in the middle of the second epoch
        ("detector", DETECTOR, drawn(2), 9, 11, 9),  # the same with two loader workers
        ("detector", DETECTOR, drawn(0), BATCHES, 9, 6),  # the checkpoint was taken on an epoch's last batch
        ("detector", DETECTOR, drawn(2), BATCHES, 14, 12),
        ("vae", VAE, DIGITS, 9, 11, 9),  # codes are sampled in each step
    ],
    ids=["middle", "middle-2-workers", "last-batch", "last-batch-2-workers", "sampled-codes"],
)
def test_a_killed_and_resumed_run_ends_in_the_same_bits(
    uninterrupted: dict[str, Path],
    tmp_path: Path,
    name: str,
    model: dict[str, Any],
    data: dict[str, Any],
    every: int,
    killed_at: int,
    resumed_at: int,
) -> None:
    experiment(tmp_path, model, data, every)
    assert run(["fit", "--config", "small.yaml"], tmp_path, **{KILL_AT: str(killed_at)}) == -9
    assert final_state(tmp_path)["global_step"] == resumed_at
    assert run(["resume", str(only_run(tmp_path))], tmp_path) == 0, (tmp_path / "output.txt").read_text()
    expected, state = final_state(uninterrupted[name]), final_state(tmp_path)
    assert state["global_step"] == BATCHES * EPOCHS
    assert_same_bits(expected["state_dict"], state["state_dict"])
    assert_same_bits(expected["optimizer_states"], state["optimizer_states"])
    assert logged_losses(tmp_path) == logged_losses(uninterrupted[name]), "each step is logged once, with the same loss"


@pytest.mark.parametrize("callback", [EMA, MEAN, STOP], ids=["ema", "mean", "early-stopping"])
def test_lightnings_own_callbacks_go_on_where_they_were(callback: dict[str, Any], tmp_path: Path) -> None:
    """Averaged weights and their count; the best figure so far and the patience left."""
    states = []
    for name, killed_at in (("whole", None), ("killed", 11)):
        folder = tmp_path / name
        folder.mkdir()
        experiment(folder, VAE, DIGITS, 9, callback)
        if killed_at:
            assert run(["fit", "--config", "small.yaml"], folder, **{KILL_AT: str(killed_at)}) == -9
            assert run(["resume", str(only_run(folder))], folder) == 0, (folder / "output.txt").read_text()
        else:
            assert run(["fit", "--config", "small.yaml"], folder) == 0, (folder / "output.txt").read_text()
        states.append(final_state(folder))
    whole, resumed = states
    assert resumed["global_step"] == BATCHES * EPOCHS
    for part in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        assert_same_bits(whole.get(part), resumed.get(part), part)
    (kept,) = [key for key in whole["callbacks"] if callback["class_path"].rpartition(".")[2] in key]
    assert_same_bits(whole["callbacks"][kept], resumed["callbacks"][kept])


def test_the_newest_and_the_best_few_are_kept_also_after_a_kill(tmp_path: Path) -> None:
    """The file that a run goes on from is one more, which Lightning never removes."""
    newest = {"class_path": "lightning_cv.callbacks.KeepLast", "init_args": {"count": 2}}
    arguments = {"monitor": "train/loss", "mode": "min", "count": 1}
    best = {"class_path": "lightning_cv.callbacks.KeepBest", "init_args": arguments}
    experiment(tmp_path, VAE, DIGITS, BATCHES, newest, best)
    fit = ["fit", "--config", "small.yaml", "--trainer.max_epochs=4"]
    assert run(fit, tmp_path, **{KILL_AT: str(3 * BATCHES + 1)}) == -9
    place = only_run(tmp_path) / "checkpoints"
    names = ["last", f"newest-step={2 * BATCHES}", f"newest-step={3 * BATCHES}", f"top-step={3 * BATCHES}"]
    assert [path.stem for path in sorted(place.glob("*.ckpt"))] == names, "the loss fell in every epoch"
    assert run(["resume", str(only_run(tmp_path))], tmp_path) == 0
    assert "resuming" in (tmp_path / "output.txt").read_text()
    kept = {path.stem for path in place.glob("*.ckpt")}
    assert {f"newest-step={epoch * BATCHES}" for epoch in (3, 4)} | {f"top-step={4 * BATCHES}"} <= kept
    assert f"newest-step={2 * BATCHES}" not in kept
    assert len(kept) <= 5


def test_the_average_that_lightning_does_not_restore_is_named(tmp_path: Path) -> None:
    experiment(tmp_path, VAE, DIGITS, 9, SWA)
    assert run(["fit", "--config", "small.yaml"], tmp_path, **{KILL_AT: "11"}) == -9
    assert run(["resume", str(only_run(tmp_path))], tmp_path) == 0, (tmp_path / "output.txt").read_text()
    assert "StochasticWeightAveraging begins its learning rate anew" in (tmp_path / "output.txt").read_text()


def test_the_uninterrupted_runs_do_train(uninterrupted: dict[str, Path]) -> None:
    """Equal bits would mean little for weights that never moved or steps that never differed."""
    for folder in uninterrupted.values():
        losses = logged_losses(folder)
        assert len(losses) == BATCHES * EPOCHS
        assert len(set(losses.values())) == len(losses)


def test_resume_keeps_the_wandb_id_and_notes_the_return(killed: Path) -> None:
    assert run(["resume", str(only_run(killed))], killed) == 0
    place = only_run(killed)
    logs = list((place / "wandb").glob("offline-run-*"))
    assert len(logs) == 2
    assert all(log.name.endswith(place.name) for log in logs)
    assert len(json.loads((place / "env.json").read_text())["resumed"]) == 1


def test_the_seconds_of_a_killed_process_stay(killed: Path) -> None:
    place = only_run(killed) / "seconds.json"
    kept = json.loads(place.read_text())["seconds"]
    assert kept > 0
    place.write_text(json.dumps({"seconds": kept + 1000}))
    assert run(["resume", str(only_run(killed))], killed) == 0
    assert json.loads((only_run(killed) / "results.json").read_text())["seconds"] > kept + 1000


def test_changed_settings_are_refused_by_name(killed: Path) -> None:
    config = only_run(killed) / "config.yaml"
    before = config.read_text()
    config.write_text(before.replace("lr: 0.001", "lr: 0.01"))
    assert run(["resume", str(only_run(killed))], killed) == 2
    output = (killed / "output.txt").read_text()
    assert "model.optimizer.lr: 0.001 -> 0.01" in output
    assert "Traceback" not in output
    config.write_text(before)


def test_settings_on_the_command_line_are_refused(killed: Path) -> None:
    assert run(["resume", str(only_run(killed)), "--model.beta", "4"], killed) == 2
    assert "not accepted: --model.beta 4" in (killed / "output.txt").read_text()


def test_a_broken_newest_checkpoint_falls_back_and_says_so(killed: Path) -> None:
    folder = only_run(killed) / "checkpoints"
    (folder / "newer.ckpt").write_bytes((folder / "last.ckpt").read_bytes()[:1000])
    assert run(["resume", str(only_run(killed))], killed) == 0
    assert "skipped newer.ckpt" in (killed / "output.txt").read_text()


def test_epochs_can_be_added_and_nothing_else(killed: Path) -> None:
    assert run(["resume", str(only_run(killed)), "--extend-epochs", "1"], killed) == 0
    assert final_state(killed)["global_step"] == BATCHES * EPOCHS  # of 24 steps, the last that 9 divides is 18
    assert final_state(killed)["lightning_cv"]["settings"]["trainer"]["max_epochs"] == EPOCHS + 1
    assert max(logged_losses(killed)) == BATCHES * (EPOCHS + 1) - 1
    results = only_run(killed) / "results.json"
    figures = json.loads(results.read_text())
    config = only_run(killed) / "config.yaml"
    extended = config.read_text()
    config.write_text(extended.replace(f"max_epochs: {EPOCHS + 1}", "max_epochs: 50"))
    assert run(["resume", str(only_run(killed))], killed) == 2, "no other plan than the recorded one"
    assert "trainer.max_epochs: 4 -> 50" in (killed / "output.txt").read_text()
    config.write_text(extended)
    assert run(["resume", str(only_run(killed))], killed) == 0, "the longer plan is the run's own now"
    later = json.loads(results.read_text())  # nothing was left to train: the figures stay
    assert {name: later[name] for name in figures if name != "seconds"} == {
        name: value for name, value in figures.items() if name != "seconds"
    }


def test_the_data_may_lie_elsewhere(tmp_path: Path) -> None:
    """As on another machine, for this start and the next; nothing else about the data may change."""
    experiment(tmp_path, DETECTOR, drawn(0), 9)
    assert run(["fit", "--config", "small.yaml"], tmp_path, **{KILL_AT: "11"}) == -9
    (tmp_path / "scenes").rename(tmp_path / "moved")
    resume = ["resume", str(only_run(tmp_path)), "--root", "moved"]
    assert run(resume, tmp_path, **{KILL_AT: "17"}) == -9, (tmp_path / "output.txt").read_text()
    assert run(resume, tmp_path) == 0, (tmp_path / "output.txt").read_text()
    assert not (tmp_path / "scenes").exists()
    assert logged_losses(tmp_path).keys() == set(range(BATCHES * EPOCHS))


def test_a_broken_record_is_named(killed: Path) -> None:
    (only_run(killed) / "env.json").write_text("{")
    assert run(["resume", str(only_run(killed))], killed) == 2
    assert "env.json is broken" in (killed / "output.txt").read_text()


def test_a_run_at_work_is_not_extended(killed: Path) -> None:
    folder = only_run(killed)
    config = (folder / "config.yaml").read_text()
    with RunLock(folder):
        assert run(["resume", str(folder), "--extend-epochs", "1"], killed) == 2
    assert "another process is at work" in (killed / "output.txt").read_text()
    assert (folder / "config.yaml").read_text() == config
    assert not (folder / "error.txt").exists()


def test_resuming_what_is_no_run_says_so(tmp_path: Path) -> None:
    assert run(["resume", str(tmp_path)], tmp_path) == 2
    assert "there is no config.yaml in it" in (tmp_path / "output.txt").read_text()


def test_another_beta_is_not_trained_from_a_checkpoint(killed: Path) -> None:
    """LightningCLI's own --ckpt_path would train on with the checkpoint's beta in a run labelled with the new one."""
    last = only_run(killed) / "checkpoints" / "last.ckpt"
    assert run(["fit", "--config", "small.yaml", "--model.beta", "8", "--ckpt_path", str(last)], killed) == 2
    assert "model.beta: 1.0 -> 8.0" in (killed / "output.txt").read_text()


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one killed run of the small VAE."""
    folder = tmp_path_factory.mktemp("killed")
    experiment(folder, VAE, DIGITS, 9)
    assert run(["fit", "--config", "small.yaml"], folder, **{KILL_AT: "11"}) == -9
    return folder


@pytest.fixture
def killed(killed_once: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to go on from."""
    return Path(shutil.copytree(killed_once, tmp_path / "killed", symlinks=True))


def test_a_run_goes_on_without_the_file_that_its_net_began_from(tmp_path: Path) -> None:
    """Its checkpoints hold all of the net; its settings keep the file's name."""
    torch.save(SmallBackbone(8).state_dict(), tmp_path / "begin.pt")
    model = copy.deepcopy(DETECTOR)
    model["init_args"]["net"]["init_args"]["features"]["init_args"]["weights"] = str(tmp_path / "begin.pt")
    experiment(tmp_path, model, drawn(0), 1)
    assert run(["fit", "--config", "small.yaml"], tmp_path, **{KILL_AT: "3"}) == -9
    (tmp_path / "begin.pt").unlink()
    assert run(["resume", str(only_run(tmp_path))], tmp_path) == 0, (tmp_path / "output.txt").read_text()
    settings = load_checkpoint(only_run(tmp_path) / "checkpoints" / "last.ckpt")["lightning_cv"]["settings"]
    assert settings["model"] == yaml.safe_load((only_run(tmp_path) / "config.yaml").read_text())["model"]
    assert "begin.pt" in str(settings["model"])
