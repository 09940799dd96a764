"""Nets of published size are built without memory and have the parameters that the papers or releases say.

Those of segmentation also stand whole: every other part of the experiment is built, and (slow) one step is trained, as
it is of the two-stage detectors.
"""

import math
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
import yaml
from experiment_nets import EXPERIMENTS, LARGE, LIBRARIES, is_installed, net_block, parameter_counts
from jsonargparse import ArgumentParser

from lightning_cv.cli.experiments import experiment_name, read_yaml, with_bases
from lightning_cv.cli.fit import launch
from lightning_cv.contracts import DetectionTarget
from lightning_cv.datamodules.voc import VOCSegmentationDataModule
from lightning_cv.datasets.drawn import draw_scene, scene_seed
from lightning_cv.models import FasterRCNN, FastRCNN
from lightning_cv.models.detection.proposers import WindowProposals
from lightning_cv.ops.anchors import RegionAnchors
from lightning_cv.ops.segmentation_losses import SummedCrossEntropyLoss
from lightning_cv.schedules import Polynomial
from lightning_cv.tasks import InstanceSegModule, SegModule, TwoStageDetector
from lightning_cv.tasks.base import Task

COUNTS = {
    # VGG-16's 14,714,688 convolutions, fc6 and fc7 as convolutions, scores, and a filter for each pair of classes
    "segmentation/fcn8s_voc": 134_489_759,
    "segmentation/fcn8s_at_once_voc": 134_489_759,
    "segmentation/fcn16s_voc": 134_815_994,
    "segmentation/fcn32s_voc": 136_152_917,
    # Noh et al. 2015 say "about 252M"
    "segmentation/deconvnet_stage1_voc": 251_805_653,
    "segmentation/deconvnet_stage2_voc": 251_805_653,
    # torchvision's ssd300_vgg16 of 21 classes has as many
    "detection/ssd300_voc": 26_285_486,
    # SSD300 with four stages of stride 2 and a kernel of 4: worked out layer by layer in models/test_ssd_vgg.py
    "detection/ssd512_voc": 27_188_676,
    # 24 convolutions with batch norm, 50,176 x 4096 and 4096 x 1470 connections with biases
    "detection/yolo_v1_voc": 271_716_734,
    # the numbers of the released 789,312,988 bytes without header and running statistics
    "detection/yolo_v1_released_voc": 197_301_875,
    # Redmon's yolov2-tiny-voc.cfg, likewise: 63,471,556 bytes
    "detection/yolo_v2_tiny_voc": 15_861_773,
    # two hourglasses of 92,134,400 each; the released code prints this number as it starts
    "detection/cornernet_coco": 201_035_212,
    # VGG-16's 14,714,688, fc6 and fc7 102,764,544 + 16,781,312, and 4097 weights for each of 21 classes and 80 deltas
    "detection/fast_rcnn_vgg16_voc": 134_674_341,
    "detection/fast_rcnn_vgg16_voc0712": 134_674_341,
    # that, a 3x3 convolution of 512 channels, and 513 weights for each of 9 scores and 36 deltas of a cell
    "detection/faster_rcnn_vgg16_voc": 137_057_234,
    "detection/faster_rcnn_vgg16_voc0712": 137_057_234,
    "detection/faster_rcnn_step1_vgg16_voc": 137_057_234,
    "detection/faster_rcnn_step3_vgg16_voc": 137_057_234,
    "detection/faster_rcnn_step4_vgg16_voc": 137_057_234,
    # Fast R-CNN, and what proposes: VGG-16 and RPN as above, with a second stage of 1024 that is never asked
    "detection/faster_rcnn_step2_vgg16_voc": 134_674_341 + 14_714_688 + 2_382_893 + 26_844_261,
    # torchvision's 41,755,286 and 44,401,393 with 91 outputs, less 10 of 5 x 1025 weights (and of 257 for masks), less
    # 4 x 1025 for the background's box (and 257 for its mask); with 53,120 of batch norms, which torchvision calls no
    # parameters
    "detection/faster_rcnn_r50_fpn_coco": 41_755_286 - 10 * 5 * 1025 - 4 * 1025 + 53_120,
    "instance/mask_rcnn_r50_fpn_coco": 44_401_393 - 10 * (5 * 1025 + 257) - 4 * 1025 - 257 + 53_120,
    # that Mask R-CNN; four maps to 128 channels by 3x3 without bias, three convolutions of 128 to 128 more, a group
    # norm each; 54 outputs
    "panoptic/panoptic_fpn_r50_coco_1x": 44_396_336 + 4 * 9 * 256 * 128 + 3 * 9 * 128 * 128 + 7 * 2 * 128 + 54 * 129,
    "panoptic/panoptic_fpn_r50_coco_3x": 44_396_336 + 4 * 9 * 256 * 128 + 3 * 9 * 128 * 128 + 7 * 2 * 128 + 54 * 129,
    # see models/test_segformer.py, where it is compared with the paper's 51.0 million
    "panoptic/panoptic_segformer_r50_coco_12e": 50_659_212,
    "panoptic/panoptic_segformer_r50_coco_24e": 50_659_212,
}


def test_every_experiment_of_published_size_is_counted() -> None:
    found = {name for name, count in parameter_counts().items() if count > LARGE}
    theirs = {experiment_name(path) for path in EXPERIMENTS if net_block(path)["class_path"].startswith(LIBRARIES)}
    assert found - theirs == set(COUNTS)  # what another library builds is its own to count


@pytest.mark.parametrize("name", COUNTS)
def test_a_published_net_has_its_parameters(name: str) -> None:
    assert parameter_counts()[name] == COUNTS[name]


@pytest.mark.parametrize("name", [name for name in COUNTS if name.startswith("detection/") and "voc" in name])
def test_published_figures_of_voc_2007_are_means_of_eleven_points(name: str) -> None:
    """The area under the curve, the default, is another figure: on VOC 2007 the higher one by some points."""
    (path,) = (path for path in EXPERIMENTS if experiment_name(path) == name)
    files = [read_yaml(file) for file in with_bases(path)]
    callbacks = [block for file in files for block in file.get("trainer", {}).get("callbacks+", [])]
    metrics = [block for block in callbacks if block["class_path"].endswith(".DetectionMetrics")]
    assert [block.get("init_args") for block in metrics] == [{"kind": "11point"}]
    target = [file["target"] for file in files if "target" in file][
        -1
    ]  # None where a step of alternating training is of the first stage
    assert target is None or "11-point" in target["source"]


T = TypeVar("T", bound=Task)
SEGMENTATION = [path for path in EXPERIMENTS if path.match("segmentation/*_voc.yaml") and is_installed(path)]
LISTS = {
    "VOCdevkit/VOC2011/ImageSets/Segmentation/val": "a b c",
    "VOCdevkit/VOC2012/ImageSets/Segmentation/train": "d e",
    "VOCdevkit/VOC2012/ImageSets/Segmentation/val": "b f",
    "sbd/train": "b g",
    "sbd/val": "f h",
}
"""Lists in the places of VOC's and SBD's, which share images as the real ones do."""


def settings_of(path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """All settings that a fit of an experiment would have, as the command line checks them."""
    with pytest.raises(SystemExit) as ended:
        launch("fit", ["--config", str(path), "--print_config"])
    assert ended.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def task_of(settings: Any, kind: type[T]) -> T:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(kind, "model")
    task = parser.instantiate(parser.parse_object({"model": settings["model"]})).model
    assert isinstance(task, kind)
    return task


def optimizer_of(task: Task) -> torch.optim.Optimizer:
    """The experiment's, its rates as they are where the schedule is 1."""
    task.schedule = None
    optimizer = task.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


@pytest.mark.parametrize("path", SEGMENTATION, ids=lambda path: path.stem)
def test_every_part_of_a_published_segmentation_is_built(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_CV_DATA", str(tmp_path))
    settings = settings_of(path, capsys)
    with torch.device("meta"):
        task = task_of(settings, SegModule)
    rates = {group["lr"] / task.optimizer([torch.zeros(1)]).defaults["lr"] for group in optimizer_of(task).param_groups}
    assert rates == ({1.0} if "deeplab" in path.stem else {1.0, 2.0})
    for file, ids in LISTS.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{file}.txt").write_text("\n".join(ids.split()))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(VOCSegmentationDataModule, "data")
    data = parser.instantiate(parser.parse_object({"data": settings["data"]})).data
    listed = {use: "".join(item.image_id for item in data.listed(use, "Segmentation")) for use in data.splits}
    fcn = {"train": "bg", "val": "ac", "test": "ac"}
    assert listed == (fcn if "fcn" in path.stem else {"train": "degh", "val": "bf", "test": "bf"})


@pytest.mark.parametrize(
    ("stem", "rate", "momentum", "steps", "batch", "images", "drops"),
    [  # Shelhamer's solvers; Noh's, whose iterations are of 8 batches; mmsegmentation's recipe of 16 images
        ("fcn32s_voc", 1e-10, 0.99, 100_000, 1, 1, []),
        ("fcn16s_voc", 1e-12, 0.99, 100_000, 1, 1, []),
        ("fcn8s_voc", 1e-14, 0.99, 100_000, 1, 1, []),
        ("fcn8s_at_once_voc", 1e-10, 0.99, 300_000, 1, 1, []),
        ("deconvnet_stage1_voc", 0.01, 0.9, 20_000, 8, 64, [9_000, 18_000]),
        ("deconvnet_stage2_voc", 0.01, 0.9, 40_000, 8, 64, [10_000, 20_000, 30_000]),
        ("deeplabv3plus_r50_voc", 0.01, 0.9, 40_000, 16, 16, None),
    ],
)
def test_published_segmentation_recipes_count_as_their_solvers_do(
    stem: str,
    rate: float,
    momentum: float,
    steps: int,
    batch: int,
    images: int,
    drops: list[int] | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if (path := experiment(f"segmentation/{stem}")) not in SEGMENTATION:
        pytest.skip("needs an extra that is not installed")
    settings = settings_of(path, capsys)
    trainer, data = settings["trainer"], settings["data"]["init_args"]
    assert (trainer["max_steps"], data["batch_size"]) == (steps, batch)
    assert data["batch_size"] * trainer["accumulate_grad_batches"] == images
    with torch.device("meta"):
        task = task_of(settings, SegModule)
    assert isinstance(task.loss, SummedCrossEntropyLoss) is stem.startswith("fcn")
    schedule = task.schedule
    if drops is None:
        assert isinstance(schedule, Polynomial)
    elif not drops:
        assert schedule is None, "the rate is fixed"
    else:
        assert schedule is not None
        factors = [schedule((drop + side) / steps) for drop in drops for side in (-1, 1)]
        assert factors == pytest.approx([0.1 ** (turn + late) for turn in range(len(drops)) for late in (0, 1)])
    for group in optimizer_of(task).param_groups:
        once = {(rate, 5e-4)} if "deeplab" in stem else {(rate, 5e-4), (2 * rate, 0.0)}
        assert (group["lr"], group["weight_decay"]) in once
        assert group["momentum"] == momentum
    if "fcn8s" in stem:
        assert task.net.skip_scales == ((0.01, 0.0001) if "at_once" in stem else (1.0, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["fcn8s_voc", "deconvnet_stage2_voc"])
def test_a_published_segmentation_trains_a_step(stem: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On one drawn image; for DeconvNet its mirror image, too: batch normalisation of a single cell needs two."""
    (path,) = (path for path in SEGMENTATION if path.stem == stem)
    torch.manual_seed(0)
    task = task_of(settings_of(path, capsys), SegModule)
    optimizer = optimizer_of(task)
    scene = draw_scene(scene_seed(0, "train", 0), 224)
    image = torch.from_numpy(scene.image).permute(2, 0, 1) / 255
    mask = torch.from_numpy(scene.class_mask).long()
    count = 1 if "fcn" in stem else 2
    images, masks = (torch.stack([part, part.flip(-1)])[:count] for part in (image, mask))
    logits = task.net.train()(images)
    loss = task.loss(logits, masks)
    loss.backward()
    # all classes are as likely, for scores begin at or near zero; FCN's loss is summed over an image
    per_pixel = loss.item() / (mask.numel() if "fcn" in stem else 1)
    assert per_pixel == pytest.approx(math.log(21), rel=0.05)
    parameters = {name: value for name, value in task.net.named_parameters() if value.requires_grad}
    assert all(value.grad is not None and value.grad.isfinite().all() for value in parameters.values())
    weights = {name: value.flatten()[:1000].clone() for name, value in parameters.items() if name.endswith(".weight")}
    if "fcn" in stem:  # scores of zero hand no gradient on
        weights = {name: value for name, value in weights.items() if "score" in name}
    optimizer.step()
    assert weights
    assert [name for name, value in weights.items() if torch.equal(value, parameters[name].flatten()[:1000])] == []


def experiment(name: str) -> Path:
    (path,) = (path for path in EXPERIMENTS if experiment_name(path) == name)
    return path


@pytest.mark.parametrize(
    ("stem", "steps", "tenth_from", "images", "difficult"),
    [  # Girshick 2015, sections 4.2 and 5.3; end-to-end solver of Ren et al. 2015 and the VOC reader of its code
        ("fast_rcnn_vgg16_voc", 40_000, 30_000, 2, True),
        ("fast_rcnn_vgg16_voc0712", 60_000, 30_000, 2, True),
        ("faster_rcnn_vgg16_voc", 70_000, 50_000, 2, False),
        ("faster_rcnn_vgg16_voc0712", 110_000, 80_000, 2, False),
        # solvers and settings of the same code's alternating training
        ("faster_rcnn_step1_vgg16_voc", 80_000, 60_000, 1, False),
        ("faster_rcnn_step2_vgg16_voc", 40_000, 30_000, 2, False),
        ("faster_rcnn_step3_vgg16_voc", 80_000, 60_000, 1, False),
        ("faster_rcnn_step4_vgg16_voc", 40_000, 30_000, 2, False),
    ],
)
def test_published_two_stage_recipes_count_as_their_solvers_do(
    stem: str, steps: int, tenth_from: int, images: int, difficult: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Caffe's iterations are ours: steps of the optimizer, each of all the images between two of them."""
    settings = settings_of(experiment(f"detection/{stem}"), capsys)
    trainer, data = settings["trainer"], settings["data"]["init_args"]
    assert trainer["max_steps"] == steps
    assert data["batch_size"] * trainer["accumulate_grad_batches"] == images
    assert data["keep_difficult"] is difficult
    with torch.device("meta"):
        task = task_of(settings, TwoStageDetector)
    if isinstance(task.net, FasterRCNN):
        assert task.net.rpn.min_size == 16 * 600 / 375  # 16 pixels of the file, whose 375 become 600
    assert task.schedule is not None
    factors = [task.schedule(step / steps) for step in (0, tenth_from - 1, tenth_from + 1, steps - 1)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1])


def test_alternating_training_at_published_size_hands_each_step_to_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    """The tensors that a step takes are in the checkpoint of the step before; the rest as in the released alt_opt."""
    nets: dict[int, Any] = {}
    for step in range(1, 5):
        settings = settings_of(experiment(f"detection/faster_rcnn_step{step}_vgg16_voc"), capsys)
        with torch.device("meta"):
            task = task_of(settings, TwoStageDetector)
        rates = {(group["lr"], group["weight_decay"]) for group in optimizer_of(task).param_groups}
        assert rates == {(1e-3, 5e-4), (2e-3, 5e-4)}
        nets[step] = task.net
    shapes = {step: {name: value.shape for name, value in net.state_dict().items()} for step, net in nets.items()}

    def part(step: int, *names: str, inside: str = "") -> dict[str, torch.Size]:
        starts = tuple(f"{inside}{name}." for name in names)
        return {name.removeprefix(inside): shape for name, shape in shapes[step].items() if name.startswith(starts)}

    assert part(1, "features", "rpn") == part(2, "features", "rpn", inside="proposer.net.")
    assert part(2, "features", "boxes") == part(3, "features", "boxes")
    assert shapes[3] == shapes[4]
    assert [nets[step].trained for step in nets] == [("features", "rpn"), ("features", "boxes"), ("rpn",), ("boxes",)]
    assert [nets[step]._weights_of for step in (3, 4)] == [("features", "boxes"), ("features", "rpn", "boxes.head")]
    for step in (2, 4):
        boxes, rpn = nets[step].boxes, nets[step].rpn if step == 4 else nets[step].proposer.net.rpn
        assert (boxes.samples, tuple(boxes.background), boxes.spread.measured) == (64, (0, 0.5), 500)
        assert (rpn.top_before[0], *rpn.top_after, rpn.min_size) == (30_000, 2_000, 300, 25.6)
    for step in (1, 2, 3):
        with pytest.raises(ValueError, match=r"--model\.net\.(features|proposer|)\.?weights (FILE|CKPT)"):
            nets[step].check_begun()


@pytest.mark.parametrize("name", ["detection/faster_rcnn_r50_fpn_coco", "instance/mask_rcnn_r50_fpn_coco"])
def test_published_pyramids_see_whole_cells(name: str) -> None:
    """Detectron2 and torchvision pad batches to multiples of 32."""
    assert net_block(experiment(name))["init_args"]["features"]["init_args"]["backbone"]["init_args"]["multiple"] == 32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("detection/fast_rcnn_vgg16_voc", TwoStageDetector),
        ("detection/faster_rcnn_vgg16_voc", TwoStageDetector),
        ("detection/faster_rcnn_step2_vgg16_voc", TwoStageDetector),
        ("instance/mask_rcnn_r50_fpn_coco", InstanceSegModule),
    ],
)
def test_a_published_two_stage_detector_trains_a_step(
    name: str, kind: type[TwoStageDetector], capsys: pytest.CaptureFixture[str]
) -> None:
    """On one drawn image of an odd size."""
    torch.manual_seed(0)
    task = task_of(settings_of(experiment(name), capsys), kind)
    optimizer = optimizer_of(task)
    assert isinstance(task.net, FasterRCNN | FastRCNN)
    scene = draw_scene(scene_seed(0, "train", 0), 224)
    image = torch.from_numpy(scene.image).permute(2, 0, 1)[None, :, :200] / 255
    kept = torch.from_numpy(scene.boxes[:, 3] <= 200)
    assert kept.any()
    target: DetectionTarget = {
        "image_id": "drawn",
        "boxes": torch.from_numpy(scene.boxes).float()[kept],
        "labels": torch.from_numpy(scene.labels)[kept],
        "difficult": torch.zeros(int(kept.sum()), dtype=torch.bool),
        "original_size": (200, 224),
        "masks": torch.from_numpy(scene.instance_masks)[kept, :200],
    }
    if isinstance(task.net, FastRCNN) and task.net.proposer is None:
        target["proposals"] = WindowProposals(RegionAnchors(sizes=[[64]]), [32])(image)[0]
    losses = task.net.train().losses(image, [target])
    # scores begin near zero: object or not is a coin's toss, and the classes are as likely as background
    assert isinstance(task.net, FastRCNN) or losses["rpn_objectness"].item() == pytest.approx(math.log(2), rel=0.1)
    assert losses["classifier"].item() == pytest.approx(math.log(task.net.num_classes + 1), rel=0.3)
    torch.stack(list(losses.values())).sum().backward()
    parameters = {name: value for name, value in task.net.named_parameters() if value.requires_grad}
    assert all(value.grad is not None and value.grad.isfinite().all() for value in parameters.values())
    weights = {name: value.flatten()[:1000].clone() for name, value in parameters.items() if name.endswith(".weight")}
    optimizer.step()
    assert [name for name, value in weights.items() if torch.equal(value, parameters[name].flatten()[:1000])] == []
    found = task.eval().detections({"images": image, "targets": [target]})
    assert all((one["boxes"] <= torch.tensor([224.0, 200, 224, 200])).all() for one in found)
