from lightning_cv.models.autoencoders.vae import ConvVAE as ConvVAE
from lightning_cv.models.backbones import FPN as FPN
from lightning_cv.models.backbones import SmallBackbone as SmallBackbone
from lightning_cv.models.backbones import TimmBackbone as TimmBackbone
from lightning_cv.models.backbones import VGG16Backbone as VGG16Backbone
from lightning_cv.models.detection import SSD as SSD
from lightning_cv.models.segmentation import FCN as FCN
