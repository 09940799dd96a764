"""torchvision's weights: VGG-16 of ImageNet as FCN-32s, and Faster and Mask R-CNN of COCO as nets of ours.

VGG's classifier becomes fc6 and fc7, scores begin at zero. The detectors have a module of their own.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_cv.datasets.voc import VOC_CLASSES, voc_mask_labels
from lightning_cv.errors import UserError
from lightning_cv.models import FCNVGG
from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD
from lightning_cv.tools import import_torchvision_detectors as detectors
from lightning_cv.tools.imports import Imported, evaluation_settings

NEEDED = ("features.0.weight", "classifier.0.weight", "classifier.3.weight")


def read(file: Path) -> Imported:
    """A detector as it was trained; or FCN-32s for VOC's classes, from which any `FCNVGG` or `DeconvNet` can begin.

    Raises:
        UserError: the file holds none of these nets.
    """
    state = _state(file)
    if detectors.MARK in state:
        return detectors.read(file, state)
    settings: dict[str, Any] = {
        "num_classes": len(VOC_CLASSES) + 1,
        "stride": 32,
        "width": state["features.0.weight"].shape[0],
        "hidden": state["classifier.0.weight"].shape[0],
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
    }
    try:
        net = FCNVGG(**settings, weights=str(file))
    except ValueError as error:
        raise UserError(str(error)) from error
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Imported(
        task="segmentation",
        settings=_settings(settings),
        state_dict={f"net.{name}": tensor for name, tensor in net.state_dict().items()},
        label_map=voc_mask_labels()._asdict(),
        summary=f"VGG-16 as FCN-32s of {parameters:,} parameters, whose scores are to be trained",
    )


def _state(file: Path) -> Mapping[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{file} holds no weights that torch can read") from error
    needed = (detectors.MARK,) if isinstance(state, dict) and detectors.MARK in state else NEEDED
    if not isinstance(state, dict) or any(not isinstance(state.get(name), Tensor) for name in needed):
        raise UserError(
            f"{file} is no state dict of torchvision's VGG-16 with its classifier ({NEEDED[0]} ...), nor of its Faster "
            "or Mask R-CNN"
        )
    found: dict[str, Tensor] = state
    return found


def _settings(net: dict[str, Any]) -> dict[str, Any]:
    """What `lightning-cv test` runs where no experiment is named."""
    whole = {"class_path": "lightning_cv.transforms.SegmentationEval", "init_args": {"multiple": 1}}
    crops = {"class_path": "lightning_cv.transforms.SegmentationTrain", "init_args": {"crop": 320}}
    return evaluation_settings(
        "SegModule",
        net={"class_path": "lightning_cv.models.FCNVGG", "init_args": net},
        optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0e-4, "momentum": 0.9}},
        data={
            "class_path": "lightning_cv.datamodules.VOCSegmentationDataModule",
            "init_args": {
                "root": "${oc.env:LIGHTNING_CV_DATA,data}",
                "train_transform": crops,
                "eval_transform": whole,
            },
        },
        callbacks={"SegmentationMetrics": {}, "SegmentationPreview": {}, "ProgressLines": {}},
    )
