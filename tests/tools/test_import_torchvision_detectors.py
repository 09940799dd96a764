"""torchvision's published detectors: the same tensors, so the same detections."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops import FrozenBatchNorm2d

from lightning_cv.cli import main
from lightning_cv.cli.predictor import load_model
from lightning_cv.errors import UserError
from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD
from lightning_cv.models.detection.torchvision import _AsTheyAre
from lightning_cv.tools.import_torchvision_detectors import COCO_LABELS, MARK, read, with_shrunk_scales

close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-4)


def published(with_masks: bool) -> nn.Module:
    """As torchvision builds those that it publishes: batch norms are frozen, and nothing is added to variances."""
    backbone = _resnet_fpn_extractor(resnet50(norm_layer=FrozenBatchNorm2d), 3)
    net = (MaskRCNN if with_masks else FasterRCNN)(backbone, 91, box_score_thresh=0.0)
    overwrite_eps(net, 0.0)
    return net.eval()


def older_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names in the published files, which were made before torchvision 0.13."""
    renamed = {}
    for name, value in state.items():
        name = re.sub(r"(inner|layer)_blocks\.(\d)\.0\.", r"\1_blocks.\2.", name)
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        name = re.sub(r"mask_head\.(\d)\.0\.", lambda found: f"mask_head.mask_fcn{int(found[1]) + 1}.", name)
        renamed[name] = value
    return renamed


def test_the_classes_are_cocos_80_with_the_ids_of_its_files() -> None:
    assert COCO_LABELS.num_classes == 80
    assert (COCO_LABELS.name(1), COCO_LABELS.name(12), COCO_LABELS.name(80)) == ("person", "stop sign", "toothbrush")
    assert (COCO_LABELS.dataset_ids[11], COCO_LABELS.dataset_ids[79]) == (13, 90)


@pytest.mark.parametrize(("with_masks", "older"), [(False, False), (True, True)])
def test_every_tensor_finds_its_place(tmp_path, with_masks, older) -> None:
    with torch.device("meta"):
        state = published(with_masks).state_dict()
    found = read(tmp_path / "file.pth", older_names(state) if older else state)
    assert found.task == ("instance" if with_masks else "detection")
    assert found.state_dict["net.boxes.classifier.weight"].shape == (81, 1024)
    assert found.state_dict["net.boxes.deltas.weight"].shape == (320, 1024)
    assert len(found.label_map["names"]) == 80
    assert "44,396,336" in found.summary if with_masks else "41,753,056" in found.summary


def test_other_detectors_are_refused_with_the_file_and_a_tensor(tmp_path) -> None:
    with torch.device("meta"):
        state = published(with_masks=False).state_dict()
    with pytest.raises(UserError, match=r"f\.pth tells 4 classes apart"):
        read(tmp_path / "f.pth", {MARK: torch.zeros(5, 1024)})
    del state["rpn.head.cls_logits.bias"]
    with pytest.raises(UserError, match=r"f\.pth is no Faster or Mask R-CNN .* first rpn\.objectness\.bias"):
        read(tmp_path / "f.pth", state)


def test_a_norm_that_adds_nothing_to_variances_becomes_one_that_does() -> None:
    torch.manual_seed(0)
    theirs, ours, x = FrozenBatchNorm2d(3, eps=0.0), nn.BatchNorm2d(3).eval(), torch.rand(1, 3, 2, 2)
    theirs.load_state_dict({name: value.uniform_(1e-6, 1e-4) for name, value in theirs.state_dict().items()})
    state = with_shrunk_scales({f"bn.{name}": value for name, value in theirs.state_dict().items()})
    ours.load_state_dict({name.removeprefix("bn."): value for name, value in state.items()}, strict=False)
    torch.testing.assert_close(ours(x), theirs(x))


def varied(with_masks: bool) -> nn.Module:
    """One of theirs that says something, and that takes images as they are but for the padding."""
    torch.manual_seed(0)
    theirs = published(with_masks)
    for name, buffer in theirs.named_buffers():
        if name.endswith(("running_var", "weight")):
            buffer.uniform_(0.3, 0.6)
    unused = [number for number in range(1, 91) if number not in COCO_LABELS.dataset_ids]
    with torch.no_grad():  # training never shows them such a class, and they never say one
        theirs.roi_heads.box_predictor.cls_score.bias[unused] = -1e4
    theirs.transform = _AsTheyAre(32)
    theirs.transform.image_mean, theirs.transform.image_std = IMAGENET_MEAN, IMAGENET_STD
    return theirs


@pytest.mark.slow
def test_an_imported_net_finds_what_torchvisions_finds(tmp_path, capsys) -> None:
    theirs = varied(with_masks=True)
    state = theirs.eval().state_dict()
    torch.save(older_names(state), tmp_path / "mask.pth")
    torch.save({name: value for name, value in state.items() if "mask" not in name}, tmp_path / "faster.pth")
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = theirs(list(images))
    for kind in ("mask", "faster"):
        arguments = ["import", "torchvision", str(tmp_path / f"{kind}.pth"), "--out", str(tmp_path / f"{kind}.ckpt")]
        assert main(arguments) == 0
        assert "parameters, 80 classes" in capsys.readouterr().out
        net = load_model(tmp_path / f"{kind}.ckpt", "cpu").task.net.eval()
        net.boxes.score_threshold = 0.0
        for one, wanted in zip(net.detect(images), expected, strict=True):
            ids = torch.tensor([0, *COCO_LABELS.dataset_ids])[one["labels"]]
            assert len(ids) > 50
            close(one["boxes"], wanted["boxes"])
            close(one["scores"], wanted["scores"])
            assert torch.equal(ids, wanted["labels"])
            if kind == "mask":
                sure = (wanted["masks"][:, 0] - 0.5).abs() > 1e-4
                assert torch.equal(one["masks"] & sure, (wanted["masks"][:, 0] >= 0.5) & sure)


@pytest.mark.slow
def test_a_picture_of_odd_size_is_seen_as_torchvision_sees_it(tmp_path) -> None:
    """150 x 200 becomes 800 x 1067, which torchvision pads to 800 x 1088."""
    theirs = varied(with_masks=False)
    torch.save(theirs.state_dict(), tmp_path / "faster.pth")
    assert main(["import", "torchvision", str(tmp_path / "faster.pth"), "--out", str(tmp_path / "faster.ckpt")]) == 0
    model = load_model(tmp_path / "faster.ckpt", "cpu")
    net = model.task.net.eval()
    net.boxes.score_threshold = 0.0
    picture = np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    image = model.datamodule.prepare_image(picture)
    assert image.shape == (3, 800, 1067)
    with torch.no_grad():
        shown, _ = theirs.transform([image])
        assert shown.tensors.shape[2:] == (800, 1088)
        (proposals,), _ = theirs.rpn(shown, theirs.backbone(shown.tensors))
        (expected,) = theirs([image])
    (found,) = model.task.predict_step(image[None])
    (regions,) = net.propose(image[None])
    same_rows(regions, proposals)
    ids = torch.tensor([0, *COCO_LABELS.dataset_ids])[found["labels"]]
    same_rows(
        rows(found["boxes"], found["scores"], ids), rows(expected["boxes"], expected["scores"], expected["labels"])
    )


def rows(boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.cat([boxes, scores[:, None], labels[:, None].float()], dim=1)


def same_rows(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Each has its like among the others, in any order: scores of an untrained net differ by less than rounding."""
    assert len(found) == len(expected) > 50
    distance = torch.cdist(found, expected, p=float("inf"))
    assert distance.amin(dim=0).max() < 1e-3
    assert distance.amin(dim=1).max() < 1e-3
