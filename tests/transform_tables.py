"""All presets with the settings under which they are fuzzed: `test_transform_workers.py` says where one is missing."""

import albumentations as A

from lightning_cv.transforms import (
    CornerNetTrain,
    DetectionEval,
    DetectionPipeline,
    FlipOnly,
    LetterboxEval,
    Mosaic,
    OriginalSizeEval,
    SegmentationEval,
    SegmentationFlip,
    SegmentationPipeline,
    SegmentationTrain,
    ShorterSideEval,
    ShorterSideTrain,
    SSDTrain,
    WindowTrain,
    YOLOTrain,
    YOLOv1Train,
)
from lightning_cv.transforms.autoencoder import AutoencoderEval, AutoencoderTrain
from lightning_cv.transforms.panoptic import PanopticEval, PanopticShorterSide, PanopticTrain

GREY = {"hue": 0.0, "saturation": 1.0, "exposure": 1.0}
PIPELINE = [A.HorizontalFlip(p=0.5), A.RandomCrop(80, 80, p=1.0), A.Resize(64, 64)]

DETECTION = {
    "eval": DetectionEval(64),
    "eval, larger": DetectionEval(137),
    "flip": FlipOnly(),
    "flip with gains": FlipOnly(0.1),
    "ssd": SSDTrain(64, colour=0),
    "ssd with colours": SSDTrain(64),
    "two-stage": ShorterSideTrain([64, 97], 160),
    "two-stage eval": ShorterSideEval(75, 100),
    "letterbox": LetterboxEval(80),
    "yolo": YOLOTrain(sizes=[64, 96], zoom=(0.7, 1.5), **GREY),
    "yolo with colours": YOLOTrain(sizes=[64, 96]),
    "yolo v1": YOLOv1Train(64, **GREY),
    "yolo v1 with colours": YOLOv1Train(96),
    "cornernet": CornerNetTrain(96, border=32, colour=0, lighting=0),
    "cornernet with colours": CornerNetTrain(64),
    "as it is": OriginalSizeEval(),
    "mosaic": Mosaic(SSDTrain(64, colour=0), 96),
    "mosaic, multi-scale": Mosaic(YOLOTrain(sizes=[64, 96], **GREY), 96, probability=0.5),
    "pipeline": DetectionPipeline(PIPELINE),
}
SEGMENTATION = {
    "masks, eval": SegmentationEval(32),
    "masks, flip": SegmentationFlip(),
    "masks, flip with gains": SegmentationFlip(0.1),
    "masks, train": SegmentationTrain(64, colour=0),
    "masks, train, larger": SegmentationTrain(128, (0.5, 1.2), colour=0),
    "masks, train with colours": SegmentationTrain(64),
    "masks, windows": WindowTrain(96, 112),
    "masks, pipeline": SegmentationPipeline(PIPELINE),
}
PANOPTIC = {
    "panoptic, eval": PanopticEval(64, 75),
    "panoptic, eval, larger": PanopticEval(137, 200),
    "panoptic, train": PanopticTrain(64),
    "panoptic, train, larger": PanopticTrain(128, (0.4, 1.2)),
    "panoptic, shorter side": PanopticShorterSide([64, 97], 160),
    "panoptic, shorter side, cut": PanopticShorterSide([64, 97], 160, [60, 90], (40, 70)),
}
AUTOENCODER = {
    "images, eval": AutoencoderEval(32),
    "images, eval, cropped": AutoencoderEval(61, crop=50),
    "images, eval, grey": AutoencoderEval(40, grey=True),
    "images, train": AutoencoderTrain(32),
    "images, train, not mirrored": AutoencoderTrain(48, flip=False),
    "images, train, cropped and grey": AutoencoderTrain(40, crop=64, grey=True),
}
