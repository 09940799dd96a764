"""Trained detectors of Redmon's darknet, in the layers of ours: tiny YOLOv2 and YOLO v1 on VOC.

A file does not say whose weights it holds, but each net has its own number of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from lightning_cv.datasets.voc import VOC_CLASSES, voc_box_labels
from lightning_cv.errors import UserError
from lightning_cv.models import ExtractionBackbone, TinyDarknetBackbone, TinyYOLOv2, YOLOv1
from lightning_cv.models.backbones.darknet_file import darknet_tensors, fill, read_darknet
from lightning_cv.tools.imports import Imported, evaluation_settings


class Known(NamedTuple):
    """A net whose files are known: its name, how it is built and said in YAML, how darknet tests it and at which side.

    `shown` is the preset: darknet's `yolo valid` stretches pictures to squares, its later `detector valid` does not.
    """

    name: str
    build: Callable[[], nn.Module]
    block: dict[str, Any]  # class_path and init_args
    shown: str
    side: int


def _known(
    name: str, net: Callable[..., nn.Module], trunk: type[nn.Module], shown: str, side: int, **settings: int
) -> Known:
    classes = {"num_classes": len(VOC_CLASSES)}
    backbone = {"class_path": f"lightning_cv.models.{trunk.__name__}"}
    return Known(
        name,
        lambda: net(trunk(), **classes, **settings),
        {
            "class_path": f"lightning_cv.models.{net.__name__}",
            "init_args": {"backbone": backbone, **classes, **settings},
        },
        shown,
        side,
    )


KNOWN = (
    _known("tiny YOLOv2", TinyYOLOv2, TinyDarknetBackbone, "LetterboxEval", 416),
    _known("YOLO v1 as released", YOLOv1, ExtractionBackbone, "DetectionEval", 448, boxes=3, local_filters=256),
    _known("YOLO v1 as published", YOLOv1, ExtractionBackbone, "DetectionEval", 448, boxes=2),
)


def read(file: Path) -> Imported:
    """The net of a file, with settings to test it on VOC 2007.

    Raises:
        UserError: the file is not of these nets.
    """
    try:
        content = read_darknet(file)
    except ValueError as error:
        raise UserError(str(error)) from error
    sizes = {known.name: size_of(known) for known in KNOWN}
    known = next((known for known in KNOWN if sizes[known.name] == len(content.values)), None)
    if known is None:
        nets = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise UserError(f"{file} holds {len(content.values):,} numbers, as no net that is known here ({nets})")
    net = known.build()
    fill(list(darknet_tensors(net)), content.values)
    state = net.state_dict()
    if "seen" in state:
        state["seen"].fill_(content.seen)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Imported(
        task="detection",
        settings=settings_of(known),
        state_dict={f"net.{name}": tensor for name, tensor in state.items()},
        label_map=voc_box_labels()._asdict(),
        summary=f"{known.name} of {parameters:,} parameters, {content.seen:,} images seen, {len(VOC_CLASSES)} classes",
    )


def size_of(known: Known) -> int:
    """Numbers in a file of this net."""
    with torch.device("meta"):
        net = known.build()
    return sum(tensor.numel() for tensor in darknet_tensors(net))


def settings_of(known: Known) -> dict[str, Any]:
    """What `lightning-cv test` runs where no experiment is named."""
    train = {"class_path": "lightning_cv.transforms.YOLOTrain", "init_args": {"size": known.side}}
    shown = {"class_path": f"lightning_cv.transforms.{known.shown}", "init_args": {"size": known.side}}
    metrics = {"kind": "11point"}  # VOC 2007's own, as the published figures are
    return evaluation_settings(
        "SingleStageDetector",
        net=known.block,
        optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0e-3, "momentum": 0.9}},
        data={
            "class_path": "lightning_cv.datamodules.VOCDetectionDataModule",
            "init_args": {
                "root": "${oc.env:LIGHTNING_CV_DATA,data}",
                "train_transform": train,
                "eval_transform": shown,
            },
        },
        callbacks={"DetectionMetrics": metrics, "DetectionPreview": {}, "ProgressLines": {}},
    )
