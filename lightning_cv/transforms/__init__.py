"""From a sample as it lies in its files to what a net sees: joint changes of image, boxes and mask.

A preset is called as `(sample, seed)`: the same seed gives the same result in any process. Objects are carried by
their position in the sample, so that boxes, labels and marks cannot go out of step.
"""

import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import would ask the network for a newer version

from lightning_cv.transforms.common import (
    MEAN_COLOUR,
    DetectionTransform,
    PreparedDetection,
    PreparedMask,
    SegmentationTransform,
    image_tensor,
    restore_boxes,
    stretch,
)
from lightning_cv.transforms.cornernet import CornerNetTrain, OriginalSizeEval
from lightning_cv.transforms.detection import DetectionEval, EvalTransform, FlipOnly
from lightning_cv.transforms.mosaic import Mosaic
from lightning_cv.transforms.pipelines import DetectionPipeline, SegmentationPipeline
from lightning_cv.transforms.rcnn import warp_region
from lightning_cv.transforms.segmentation import (
    SegmentationEval,
    SegmentationFlip,
    SegmentationTrain,
    WindowTrain,
)
from lightning_cv.transforms.ssd import SSDTrain
from lightning_cv.transforms.two_stage import ShorterSideEval, ShorterSideTrain
from lightning_cv.transforms.yolo import LetterboxEval, YOLOTrain, YOLOv1Train

__all__ = [
    "MEAN_COLOUR",
    "CornerNetTrain",
    "DetectionEval",
    "DetectionPipeline",
    "DetectionTransform",
    "EvalTransform",
    "FlipOnly",
    "LetterboxEval",
    "Mosaic",
    "OriginalSizeEval",
    "PreparedDetection",
    "PreparedMask",
    "SSDTrain",
    "SegmentationEval",
    "SegmentationFlip",
    "SegmentationPipeline",
    "SegmentationTrain",
    "SegmentationTransform",
    "ShorterSideEval",
    "ShorterSideTrain",
    "WindowTrain",
    "YOLOTrain",
    "YOLOv1Train",
    "image_tensor",
    "restore_boxes",
    "stretch",
    "warp_region",
]
