"""Each small net for pictures goes the whole way from its YAML: fit, kill -9, resume, test, predict, export."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "cli"))

from experiment_nets import CONTINUES, build, net_block, small_experiments, weights_before
from forked import KILL_AT, run
from test_cli_resume import assert_same_bits

from lightning_cv.checkpoints import load_checkpoint
from lightning_cv.cli.experiments import experiment_name, read_yaml, shipped_experiments, with_bases
from lightning_cv.contracts import CandidateDetector, Detector
from lightning_cv.models import CornerNet

BASES = shipped_experiments() / "_base"
STEPS = 4
VOC = {"year": "2007", "train": "train", "val": "val", "test": "test"}
TO_128 = {"size": 128}


class Real(NamedTuple):
    """Real pictures for the small nets of a kind."""

    module: str
    arguments: dict[str, Any]
    train: tuple[str, dict[str, Any]]
    evaluation: tuple[str, dict[str, Any]]
    classes: int
    base: str
    """Of `_base`: what such experiments report."""
    root: str = ""
    """The folder of real samples."""
    stuff: int = 0
    """Classes of stuff beside the others."""


REAL = {
    "detection": Real("VOCDetectionDataModule", VOC, ("SSDTrain", TO_128), ("DetectionEval", TO_128), 20, "detection"),
    "localization": Real(
        "VOCDetectionDataModule",
        {**VOC, "single_object": True},
        ("SSDTrain", {**TO_128, "max_zoom": 1.0}),
        ("DetectionEval", TO_128),
        20,
        "localization",
    ),
    "segmentation": Real(
        "VOCSegmentationDataModule",
        VOC,
        ("SegmentationTrain", {"crop": 128}),
        ("SegmentationEval", {"multiple": 32}),
        21,
        "segmentation",
    ),
    "instance": Real(
        "CocoDetectionDataModule",
        {"train": "train", "val": "val", "test": "val", "with_masks": True},
        ("SSDTrain", TO_128),
        ("DetectionEval", TO_128),
        80,
        "detection",
        "coco_tiny",
    ),
    "panoptic": Real(
        "CocoPanopticDataModule",
        {"train": "train", "val": "val", "test": "val"},
        ("panoptic.PanopticTrain", TO_128),
        ("panoptic.PanopticEval", {"shorter": 128, "longer": 192}),
        80,
        "panoptic",
        "coco",
        53,
    ),
}
SEGMENTATION = REAL["segmentation"]


def windows(kind: str) -> Real:
    """As DeconvNet's stages see pictures: those of which there are object masks."""
    block = {"class_path": f"lightning_cv.datasets.windows.{kind}"}
    to_64 = ("WindowTrain", {"size": 64, "larger": 72})
    return SEGMENTATION._replace(
        arguments={**VOC, "train": "derived_object - val - test", "windows": block}, train=to_64
    )


MODES = {
    "binary_drawn": SEGMENTATION._replace(arguments={**VOC, "binary": True}, classes=1),
    "multilabel_drawn": SEGMENTATION._replace(
        arguments={**VOC, "multilabel": True}, classes=20, base="multilabel_segmentation"
    ),
    "deconvnet_stage1_drawn": windows("ObjectWindows"),
    "deconvnet_stage2_drawn": windows("ProposalWindows"),
}
"""Experiments that see real pictures in another way."""
SYSTEMS = [path for path in small_experiments() if path.parent.name in REAL and path.stem.endswith("_drawn")]
TRAINER = {
    "max_epochs": 1,
    "check_val_every_n_epoch": 1,
    "limit_train_batches": STEPS,
    "limit_val_batches": 2,
    "limit_test_batches": 2,
    "log_every_n_steps": 1,
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
LAST = {
    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
    "init_args": {
        "filename": "last",
        "every_n_train_steps": 1,
        "every_n_epochs": None,
        "save_on_train_epoch_end": False,
        "enable_version_counter": False,
    },
}


def real_pictures(path: Path) -> Real:
    return MODES.get(path.stem, REAL[path.parent.name])


def of_classes(block: Any, real: Real) -> Any:
    """Settings of a net, for the classes of real pictures."""
    if isinstance(block, dict):
        counts = {
            "num_classes": real.classes,
            "classes": real.classes,
            "num_things": real.classes,
            "num_stuff": real.stuff,
        }
        return {key: counts.get(key) or of_classes(value, real) for key, value in block.items()}
    return block


def files_of(path: Path) -> dict[str, Any]:
    """Top-level blocks of an experiment, its own and those of its bases."""
    blocks: dict[str, Any] = {}
    for file in with_bases(path):
        blocks = over(blocks, {key: value for key, value in read_yaml(file).items() if key in ("model", "data")})
    return blocks


def over(base: Any, own: Any) -> Any:
    """A block of settings over its base's; another class has none of the base's arguments."""
    if not (isinstance(base, dict) and isinstance(own, dict)):
        return own
    if own.get("class_path", base.get("class_path")) != base.get("class_path"):
        return own
    return base | {key: over(base.get(key), value) for key, value in own.items()}


def short(path: Path, folder: Path, data: dict[str, Any] | None) -> None:
    """An experiment of a few steps that checkpoints each; on other data where it is given."""
    blocks = files_of(path)
    trainer = {**TRAINER, "callbacks+": [LAST, {"class_path": "forked.KillAt"}]}
    content: dict[str, Any] = {"base": [str(path)], "trainer": trainer}
    if data is None:
        content["data"] = {"init_args": {"train": 2 * STEPS, "val": 4, "test": 4, "batch_size": 2}}
    else:
        real = real_pictures(path)
        content |= {"base": [str(BASES / "trainer.yaml"), str(BASES / f"{real.base}.yaml")], "data": data}
        content["model"] = of_classes(blocks["model"], real)
    (folder / "short.yaml").write_text(yaml.safe_dump(content))


def said(folder: Path) -> str:
    return (folder / "output.txt").read_text()


def go_the_whole_way(path: Path, folder: Path, root: Path, data: dict[str, Any] | None) -> None:
    runs = {}
    begun: list[str] = []
    if option := CONTINUES.get(path.stem):
        block = net_block(path) if data is None else of_classes(net_block(path), real_pictures(path))
        begun = [option, weights_before(block, folder / "before.ckpt")]
    for name, at in (("whole", "-1"), ("killed", str(STEPS - 1))):
        place = folder / name
        place.mkdir()
        short(path, place, data)
        ended = run(["fit", "--config", "short.yaml", *begun], place, **{KILL_AT: at, "LIGHTNING_CV_DATA": str(root)})
        assert ended == (0 if name == "whole" else -9), said(place)
        (runs[name],) = place.glob("runs/*/short/*")
    (folder / "before.ckpt").unlink(missing_ok=True)  # what the net began from is in its own checkpoints
    assert run(["resume", str(runs["killed"])], folder / "killed", LIGHTNING_CV_DATA=str(root)) == 0
    whole, resumed = (load_checkpoint(runs[name] / "checkpoints/last.ckpt") for name in ("whole", "killed"))
    assert_same_bits(whole["state_dict"], resumed["state_dict"])
    assert whole["global_step"] == STEPS
    assert list((runs["killed"] / "wandb").glob("offline-run-*")), "nothing was logged to W&B"
    assert list((runs["killed"] / "previews").glob("*.png"))

    ckpt, place = str(runs["killed"] / "checkpoints/last.ckpt"), folder / "killed"
    assert run(["test", "--ckpt", ckpt], place, LIGHTNING_CV_DATA=str(root)) == 0, said(place)
    assert json.loads((runs["killed"] / "test-1" / "results.json").read_text())
    Image.new("RGB", (150, 130), (90, 120, 30)).save(folder / "picture.png")
    predict = ["predict", "--ckpt", ckpt, "--images", str(folder / "picture.png"), "--out", "predicted"]
    assert run(predict, place) == 0, said(place)
    assert list((place / "predicted").glob("*.png"))
    net = build(net_block(path))
    if isinstance(net, Detector) and not isinstance(net, CandidateDetector):
        return
    files = {"torchscript": "net.pt", "onnx": "net.onnx"}
    if isinstance(net, CornerNet) and data is not None:
        del files["onnx"]  # after four steps on these pictures rounding decides which corners are among the best
    for kind, name in files.items():
        export = ["export", "--ckpt", ckpt, "--format", kind, "--out", name, "--size", "128", "128"]
        assert run(export, place) == 0, said(place)  # which compares the file's outputs with the net's
        assert (place / name).stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("path", SYSTEMS, ids=experiment_name)
def test_a_system_on_drawn_scenes(path: Path, tmp_path: Path) -> None:
    go_the_whole_way(path, tmp_path, tmp_path / "data", None)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("path", SYSTEMS, ids=experiment_name)
def test_a_system_on_real_pictures(path: Path, tmp_path: Path, shared_data: Path) -> None:
    real, transforms = real_pictures(path), {}
    for use, (name, options) in (("train", real.train), ("eval", real.evaluation)):
        transforms[f"{use}_transform"] = {"class_path": f"lightning_cv.transforms.{name}", "init_args": options}
    arguments = {
        **real.arguments,
        "root": str(shared_data / real.root),
        "batch_size": 2,
        "eval_batch_size": 1,
        **transforms,
    }
    data = {"class_path": f"lightning_cv.datamodules.{real.module}", "init_args": arguments}
    go_the_whole_way(path, tmp_path, shared_data, data)
