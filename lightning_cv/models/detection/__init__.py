"""Detectors."""

from lightning_cv.models.detection.cornernet import CornerNet
from lightning_cv.models.detection.fast_rcnn import FastRCNN
from lightning_cv.models.detection.faster_rcnn import FasterRCNN
from lightning_cv.models.detection.mask_rcnn import MaskRCNN
from lightning_cv.models.detection.proposers import WindowProposals
from lightning_cv.models.detection.region_features import RoIAlign, TwoLinearHead
from lightning_cv.models.detection.roi_heads import BoxBranch, MaskBranch
from lightning_cv.models.detection.rpn import RPN
from lightning_cv.models.detection.sliding_window import CropClassifier, SlidingWindowDetector
from lightning_cv.models.detection.ssd import SSD
from lightning_cv.models.detection.ssd_heads import SharedHead
from lightning_cv.models.detection.ssd_vgg import SSD300, SSD512
from lightning_cv.models.detection.torchvision import TorchvisionDenseDetector, TorchvisionDetector
from lightning_cv.models.detection.yolo_v1 import YOLOv1
from lightning_cv.models.detection.yolo_v2_tiny import TinyYOLOv2

__all__ = [
    "RPN",
    "SSD",
    "SSD300",
    "SSD512",
    "BoxBranch",
    "CornerNet",
    "CropClassifier",
    "FastRCNN",
    "FasterRCNN",
    "MaskBranch",
    "MaskRCNN",
    "RoIAlign",
    "SharedHead",
    "SlidingWindowDetector",
    "TinyYOLOv2",
    "TorchvisionDenseDetector",
    "TorchvisionDetector",
    "TwoLinearHead",
    "WindowProposals",
    "YOLOv1",
]
