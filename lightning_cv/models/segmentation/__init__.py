"""Nets for semantic segmentation."""

from lightning_cv.models.segmentation.auxiliary import AuxiliaryHead
from lightning_cv.models.segmentation.deconvnet import DeconvNet
from lightning_cv.models.segmentation.encoder_decoder import DilatedNet, EncoderDecoder
from lightning_cv.models.segmentation.fcn import FCN
from lightning_cv.models.segmentation.fcn_vgg import FCNVGG
from lightning_cv.models.segmentation.sliding_window import FullResolution, SlidingWindow
from lightning_cv.models.segmentation.upsamplers import (
    BedOfNails,
    Bilinear,
    MaxUnpool,
    Nearest,
    PixelShuffle,
    TransposedConv,
    Upsampler,
)

__all__ = [
    "FCN",
    "FCNVGG",
    "AuxiliaryHead",
    "BedOfNails",
    "Bilinear",
    "DeconvNet",
    "DilatedNet",
    "EncoderDecoder",
    "FullResolution",
    "MaxUnpool",
    "Nearest",
    "PixelShuffle",
    "SlidingWindow",
    "TransposedConv",
    "Upsampler",
]
