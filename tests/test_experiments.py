"""Every shipped experiment runs as it stands: a fit of two batches, its checkpoint tested. Found by glob."""

import json
import math
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "cli"))

from drawn_root import make_data_root
from experiment_nets import CONTINUES, EXPERIMENTS, net_block, small_experiments, weights_before
from forked import run

from lightning_cv.checkpoints import load_checkpoint
from lightning_cv.cli.experiments import experiment_name, read_yaml, with_bases

SHORT = [
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    *(f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test")),
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--data.batch_size=2",
]
DRAWN_SHORT = ["--data.train=8", "--data.val=4", "--data.test=4"]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data_root(tmp_path_factory.mktemp("root"))


def merged(path: Path) -> dict[str, object]:
    content: dict[str, object] = {}
    for file in with_bases(path):
        content |= read_yaml(file)
    return content


def test_there_are_experiments_of_every_kind_built_so_far() -> None:
    assert {path.parent.name for path in EXPERIMENTS} >= {"vae", "detection", "segmentation"}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=experiment_name)
def test_an_experiment_states_its_target_or_that_it_has_none(path: Path) -> None:
    target = merged(path)["target"]
    if target is None:  # a part of a net, whose detections mean nothing
        assert "boxes" not in net_block(path)["init_args"]["trained"]
        return
    assert isinstance(target, dict)
    assert target["metric"].startswith("test/")
    assert isinstance(target["value"], float)
    assert len(target["source"]) > 10


@pytest.mark.parametrize("path", small_experiments(), ids=experiment_name)
def test_an_experiment_fits_and_its_checkpoint_is_tested(path: Path, data_root: Path, tmp_path: Path) -> None:
    drawn = DRAWN_SHORT if any("datamodules.Drawn" in file.read_text() for file in with_bases(path)) else []
    arguments = ["fit", "--config", experiment_name(path), *SHORT, *drawn]
    if option := CONTINUES.get(path.stem):
        assert run(arguments, tmp_path, LIGHTNING_CV_DATA=str(data_root)) != 0, "it goes on from another run"
        assert f"{option} CKPT" in (tmp_path / "output.txt").read_text()
        arguments += [option, weights_before(net_block(path), tmp_path / "before.ckpt")]
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    assert run(arguments, tmp_path, LIGHTNING_CV_DATA=str(data_root)) == 0, (tmp_path / "output.txt").read_text()
    (folder,) = tmp_path.glob(f"runs/*/{path.stem}/*")
    best = folder / "checkpoints" / "best.ckpt"
    assert load_checkpoint(best)["global_step"] == 2
    assert load_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] == 2
    assert list((folder / "previews").glob("*.png")), "no preview was drawn"
    assert all(math.isfinite(value) for value in json.loads((folder / "results.json").read_text()).values())

    test = ["test", "--ckpt", str(best), "--trainer.enable_progress_bar=false"]
    assert run(test, tmp_path, LIGHTNING_CV_DATA=str(data_root)) == 0, (tmp_path / "output.txt").read_text()
    results = json.loads((folder / "test-1" / "results.json").read_text())
    assert any(name.startswith("test/") for name in results)
    assert all(math.isfinite(value) for value in results.values())


@pytest.mark.parametrize("path", EXPERIMENTS, ids=experiment_name)
def test_an_experiment_of_epochs_validates_its_last(path: Path) -> None:
    trainer = read_yaml(path).get("trainer", {})
    epochs, every = trainer.get("max_epochs") or 0, trainer.get("check_val_every_n_epoch", 1)
    if epochs > 0:
        assert epochs % every == 0, f"the last {epochs % every} epochs are never validated"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=experiment_name)
def test_an_experiment_says_what_it_is_in_its_first_line(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert "base" in read_yaml(path)
