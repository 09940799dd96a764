"""Any pipeline of albumentations as a preset, so that a configuration can name its own augmentation."""

import albumentations as A
import numpy as np

from lightning_cv.contracts import DetectionSample, SegmentationSample
from lightning_cv.transforms.common import (
    DetectionTransform,
    Moved,
    PreparedDetection,
    PreparedMask,
    SegmentationTransform,
    prepare,
    prepare_mask,
)


class DetectionPipeline(DetectionTransform):
    """Transforms of albumentations in turn; boxes left with less than a pixel of area are dropped.

    Each object takes its position through the pipeline with it, from which its label, marks and mask are found again:
    albumentations drops boxes, but not the masks that go with them.
    """

    def __init__(self, transforms: list[A.BasicTransform]) -> None:
        self.pipeline = A.Compose(
            transforms,
            bbox_params=A.BboxParams(
                "pascal_voc", label_fields=["positions"], min_area=1, clip=True, filter_invalid_bboxes=True
            ),
        )

    def __call__(self, sample: DetectionSample, seed: int, /) -> PreparedDetection:
        """The augmented sample."""
        self.pipeline.set_random_seed(seed)
        positions = np.arange(len(sample["labels"]))
        masks = {"masks": sample["masks"].view(np.uint8)} if "masks" in sample and len(positions) else {}
        changed = self.pipeline(image=sample["image"], bboxes=sample["boxes"], positions=positions, **masks)
        height, width = changed["image"].shape[:2]
        boxes = np.asarray(changed["bboxes"], np.float32).reshape(-1, 4)
        boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))  # rounding may pass the edge
        kept = np.asarray(changed["positions"], np.int64)
        seen = np.asarray(changed["masks"], np.bool_)[kept] if masks else np.zeros((0, height, width), np.bool_)
        return prepare(sample, changed["image"], Moved(boxes, kept, seen if "masks" in sample else None))


class SegmentationPipeline(SegmentationTransform):
    """Transforms of albumentations in turn, on image and class mask."""

    def __init__(self, transforms: list[A.BasicTransform]) -> None:
        self.pipeline = A.Compose(transforms)

    def __call__(self, sample: SegmentationSample, seed: int, /) -> PreparedMask:
        """The augmented sample."""
        self.pipeline.set_random_seed(seed)
        changed = self.pipeline(image=sample["image"], mask=sample["mask"])
        return prepare_mask(sample, changed["image"], changed["mask"])
