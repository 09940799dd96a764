"""Feature pyramids that any net can stand on."""

from lightning_cv.models.backbones.fpn import FPN
from lightning_cv.models.backbones.hourglass import StackedHourglass
from lightning_cv.models.backbones.small import SmallBackbone
from lightning_cv.models.backbones.timm import TimmBackbone
from lightning_cv.models.backbones.vgg import VGG16Backbone

__all__ = ["FPN", "SmallBackbone", "StackedHourglass", "TimmBackbone", "VGG16Backbone"]
