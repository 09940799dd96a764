"""torchvision's Faster and Mask R-CNN with ResNet-50-FPN, trained on COCO, as nets of ours that say the same.

Read are files of `fasterrcnn_resnet50_fpn` and `maskrcnn_resnet50_fpn`, whose layers had other names before
torchvision 0.13; both are understood.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torchvision.models._meta import _COCO_CATEGORIES

from lightning_cv.contracts import LabelMap
from lightning_cv.errors import UserError
from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD
from lightning_cv.tools.imports import Imported, evaluation_settings

MARK = "roi_heads.box_predictor.cls_score.weight"
"""A tensor that every such file has."""

COCO_LABELS = LabelMap(
    tuple(name for name in _COCO_CATEGORIES[1:] if name != "N/A"),
    1,
    tuple(number for number, name in enumerate(_COCO_CATEGORIES) if number > 0 and name != "N/A"),
)
"""COCO's 80 classes; the nets have an output for each of its ids up to 90."""

SHRUNK = 1e-5
"""What batch normalisation adds to a variance. In the published nets, and only there, torchvision adds nothing."""

_RULES = (
    (r"backbone\.body\.(.*)", r"features.backbone.features.\1"),
    (r"backbone\.fpn\.(inner|layer)_blocks\.(\d)(?:\.0)?\.(weight|bias)", r"features.merge.\1_blocks.\2.0.\3"),
    (r"rpn\.head\.conv(?:\.0\.0)?\.(weight|bias)", r"rpn.conv.\1"),
    (r"rpn\.head\.cls_logits\.(.*)", r"rpn.objectness.\1"),
    (r"rpn\.head\.bbox_pred\.(.*)", r"rpn.deltas.\1"),
    (r"roi_heads\.box_head\.(fc.*)", r"boxes.head.\1"),
    (r"roi_heads\.box_predictor\.cls_score\.(.*)", r"boxes.classifier.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.*)", r"boxes.deltas.\1"),
    (r"roi_heads\.mask_head\.(?:mask_fcn)?(\d)(?:\.0)?\.(weight|bias)", r"masks.convs.\1.\2"),
    (r"roi_heads\.mask_predictor\.conv5_mask\.(.*)", r"masks.upsample.\1"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(.*)", r"masks.logits.\1"),
)


def our_names(state: Mapping[str, Tensor], classes: Sequence[int]) -> dict[str, Tensor]:
    """A state dict of torchvision under our names, without the outputs of what is no class.

    What little probability those of unused ids took is shared by the others.

    Args:
        state: of torchvision's net.
        classes: which of its outputs are our labels 1, 2 ...; output 0 is the background.
    """
    renamed = {}
    for name, value in state.items():
        new = next((re.sub(rule, into, name) for rule, into in _RULES if re.fullmatch(rule, name)), name)
        if "mask_fcn" in name and "logits" not in name:  # they counted from 1
            new = re.sub(r"convs\.(\d)", lambda found: f"convs.{int(found[1]) - 1}", new)
        if new.startswith("boxes.classifier"):
            value = value[[0, *classes]]
        elif new.startswith("boxes.deltas"):
            value = value.view(-1, 4, *value.shape[1:])[list(classes)].flatten(0, 1)
        elif new.startswith("masks.logits"):
            value = value[list(classes)]
        renamed[new] = value
    return renamed


def with_shrunk_scales(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same function of a net whose batch normalisation adds nothing to variances, with layers that do."""
    changed = dict(state)
    for name, variance in state.items():
        weight = name.removesuffix("running_var") + "weight"
        if name.endswith(".running_var") and weight in state:
            exact = variance.double().clamp(min=1e-30)
            changed[weight] = (state[weight].double() * ((exact + SHRUNK) / exact).sqrt()).float()
    return changed


def read(file: Path, state: Mapping[str, Tensor]) -> Imported:
    """The net for COCO's classes.

    Raises:
        UserError: the file holds another detector.
    """
    outputs = state[MARK].shape[0]
    if outputs != len(_COCO_CATEGORIES):
        raise UserError(
            f"{file} tells {outputs - 1} classes apart; read are nets of COCO's ids 1 to {len(_COCO_CATEGORIES) - 1}"
        )
    with_masks = "roi_heads.mask_predictor.mask_fcn_logits.weight" in state
    with torch.device("meta"):
        net = build(net_block(with_masks))
    wanted = net.state_dict()
    given = with_shrunk_scales(our_names(state, COCO_LABELS.dataset_ids))
    given["features.backbone.normalise.mean"] = torch.tensor(IMAGENET_MEAN).view(-1, 1, 1)
    given["features.backbone.normalise.std"] = torch.tensor(IMAGENET_STD).view(-1, 1, 1)
    counters = {name: torch.tensor(0) for name in wanted if name.endswith("num_batches_tracked")}
    given = counters | given
    bad = [name for name in wanted if name not in given or given[name].shape != wanted[name].shape]
    bad += [name for name in given if name not in wanted]
    if bad:
        raise UserError(
            f"{file} is no Faster or Mask R-CNN with ResNet-50-FPN: {len(bad)} tensors differ, first {bad[0]}"
        )
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Imported(
        task="instance" if with_masks else "detection",
        settings=_settings(with_masks),
        state_dict={f"net.{name}": given[name] for name in wanted},
        label_map=COCO_LABELS._asdict(),
        summary=f"{type(net).__name__} with ResNet-50-FPN, {parameters:,} parameters, {len(COCO_LABELS.names)} classes",
    )


def build(block: dict[str, Any]) -> nn.Module:
    """A net as an experiment's YAML says it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "net")
    net = parser.instantiate(parser.parse_object({"net": block})).net
    assert isinstance(net, nn.Module)
    return net


def net_block(with_masks: bool) -> dict[str, Any]:
    """The net with torchvision's settings, as an experiment's YAML says it."""
    readers = {"maps": 4, "aligned": False}
    backbone = _block(
        "models.TimmBackbone",
        name="resnet50",
        out_indices=[1, 2, 3, 4],
        frozen=["conv1", "bn1", "layer1"],
        freeze_norm=True,
        freeze_norm_scale=True,
        multiple=32,
    )
    anchors = _block(
        "ops.anchors.RegionAnchors",
        sizes=[[32], [64], [128], [256], [512]],
        ratios=[2.0, 1.0, 0.5],
        centre=0.0,
        whole=True,
    )
    parts: dict[str, Any] = {
        "num_classes": COCO_LABELS.num_classes,
        "features": _block("models.FPN", backbone=backbone, channels=256, pooled_levels=1, relu=False),
        "rpn": _block(
            "models.RPN",
            anchors=anchors,
            inside_only=False,
            top_before=[2000, 1000],
            top_after=[2000, 1000],
            min_size=1e-3,
        ),
        "boxes": _block(
            "models.BoxBranch",
            reader=_block("models.RoIAlign", size=7, **readers),
            head=_block("models.TwoLinearHead", hidden=1024),
            samples=512,
            background=[0.0, 0.5],
            beta=1 / 9,
            nms_threshold=0.5,
        ),
    }
    if with_masks:
        reader = _block("models.RoIAlign", size=14, **readers)
        parts["masks"] = _block("models.MaskBranch", reader=reader, whole_pixels=True)
    return _block("models.MaskRCNN" if with_masks else "models.FasterRCNN", **parts)


def _block(name: str, /, **arguments: Any) -> dict[str, Any]:  # Any: values of a YAML
    return {"class_path": f"lightning_cv.{name}", "init_args": arguments}


def _settings(with_masks: bool) -> dict[str, Any]:
    """What `lightning-cv test` runs where no experiment is named."""
    data: dict[str, Any] = {
        "root": "${oc.env:LIGHTNING_CV_DATA,data}/coco",
        "with_masks": with_masks,
        "batch_size": 2,
        "eval_batch_size": 1,
        "train_transform": _block("transforms.ShorterSideTrain", shorter=[800], longer=1333),
        "eval_transform": _block("transforms.ShorterSideEval", shorter=800, longer=1333),
    }
    return evaluation_settings(
        "InstanceSegModule" if with_masks else "TwoStageDetector",
        net=net_block(with_masks),
        optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.02, "momentum": 0.9}},
        data=_block("datamodules.CocoDetectionDataModule", **data),
        callbacks={"DetectionMetrics": {}, "DetectionPreview": {}, "ProgressLines": {}},
    )
