"""Feature pyramids that any net can stand on."""

from lightning_cv.models.backbones.darknet import ExtractionBackbone, TinyDarknetBackbone
from lightning_cv.models.backbones.fpn import FPN
from lightning_cv.models.backbones.hourglass import StackedHourglass
from lightning_cv.models.backbones.small import SmallBackbone
from lightning_cv.models.backbones.ssd_vgg import ExtraStage, ExtraStages, ReducedVGG16Backbone
from lightning_cv.models.backbones.timm import TimmBackbone
from lightning_cv.models.backbones.vgg import VGG16Backbone

__all__ = [
    "FPN",
    "ExtraStage",
    "ExtraStages",
    "ExtractionBackbone",
    "ReducedVGG16Backbone",
    "SmallBackbone",
    "StackedHourglass",
    "TimmBackbone",
    "TinyDarknetBackbone",
    "VGG16Backbone",
]
