"""Weights of darknet as checkpoints: a file of random weights in the published layout, there and back."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

import itertools

from drawn_root import make_data_root
from forked import run

from lightning_cv.checkpoints import load_checkpoint
from lightning_cv.cli import main
from lightning_cv.cli.predictor import load_model
from lightning_cv.datasets.voc import VOC_CLASSES
from lightning_cv.models import TinyDarknetBackbone, TinyYOLOv2
from lightning_cv.models.backbones.darknet_file import write_darknet
from lightning_cv.tools.import_darknet import KNOWN, settings_of, size_of


def test_the_nets_have_the_sizes_of_the_released_files():
    """yolov2-tiny-voc.weights and yolov1.weights have headers of 16 bytes; what they hold follows from their cfg."""
    sizes = {known.name: size_of(known) for known in KNOWN}
    assert len(set(sizes.values())) == len(KNOWN)
    channels = [3, 16, 32, 64, 128, 256, 512, 1024, 1024]
    tiny = sum(9 * a * b + 4 * b for a, b in itertools.pairwise(channels)) + 1025 * 125
    assert sizes["tiny YOLOv2"] == tiny == 15_867_885
    assert 16 + 4 * sizes["YOLO v1 as released"] == 789_312_988  # "753 MB"


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    torch.manual_seed(0)
    net = TinyYOLOv2(TinyDarknetBackbone(), len(VOC_CLASSES))
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("darknet") / "yolov2-tiny-voc.weights"
    write_darknet(net, path, seen=2_572_800)
    return net, path


def test_the_imported_net_computes_what_the_exported_does(tiny_file, tmp_path, capsys):
    net, path = tiny_file
    assert main(["import", "darknet", str(path), "--out", str(tmp_path / "tiny.ckpt")]) == 0
    assert "tiny YOLOv2 of 15,861,773 parameters, 2,572,800 images seen, 20 classes" in capsys.readouterr().out
    ours = load_model(tmp_path / "tiny.ckpt", "cpu").task.net
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert ours(images).equal(net.eval()(images))
    assert ours.seen.item() == 2_572_800
    record = load_checkpoint(tmp_path / "tiny.ckpt")["lightning_cv"]
    assert tuple(record["label_map"]["names"]) == VOC_CLASSES


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_a_net_is_tested_as_darknet_tests_it(known):
    """VOC 2007's mean of eleven points; for v1 `yolo valid`, which stretches pictures, as `detector valid` does not."""
    settings = settings_of(known)
    assert settings["trainer"]["callbacks"][0] == {
        "class_path": "lightning_cv.callbacks.DetectionMetrics", "init_args": {"kind": "11point"}
    }  # fmt: skip
    shown = settings["data"]["init_args"]["eval_transform"]
    stretched = {"class_path": "lightning_cv.transforms.DetectionEval", "init_args": {"size": 448}}
    letterbox = {"class_path": "lightning_cv.transforms.LetterboxEval", "init_args": {"size": 416}}
    assert shown == (stretched if "v1" in known.name else letterbox)


@pytest.mark.slow
def test_the_checkpoint_is_tested_and_used(tiny_file, tmp_path):
    ckpt = tmp_path / "tiny.ckpt"
    assert main(["import", "darknet", str(tiny_file[1]), "--out", str(ckpt)]) == 0
    root = make_data_root(tmp_path / "root")
    told = tmp_path / "output.txt"
    assert run(["test", "--ckpt", str(ckpt)], tmp_path, LIGHTNING_CV_DATA=str(root)) == 0, told.read_text()
    (results,) = tmp_path.glob("runs/detection/*/*/results.json")
    assert "test/map_50" in json.loads(results.read_text())
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(tmp_path / "image.png")
    used = ["predict", "--ckpt", str(ckpt), "--images", str(tmp_path / "image.png"), "--out", str(tmp_path / "out")]
    assert run(used, tmp_path, LIGHTNING_CV_DATA=str(root)) == 0, told.read_text()
    assert (tmp_path / "out" / "image.png").exists()


def test_files_that_are_not_theirs_are_named(tmp_path, capsys):
    def refused(content, *words):
        (tmp_path / "odd.weights").write_bytes(content)
        assert main(["import", "darknet", str(tmp_path / "odd.weights"), "--out", str(tmp_path / "x.ckpt")]) == 2
        told = capsys.readouterr().err
        assert all(word in told for word in words), told
        assert not (tmp_path / "x.ckpt").exists()

    header = struct.pack("<4i", 0, 1, 0, 0)
    refused(b"", "odd.weights is no file of darknet's weights")
    refused(header + bytes(10), "odd.weights is cut off: 10 bytes after its header")
    cut = header + bytes(4 * 15_867_884)
    refused(cut, "odd.weights holds 15,867,884 numbers", "tiny YOLOv2 15,867,885", "YOLO v1 as released 197,328,243")
