"""Prepared samples to batches. Letters: N images of a batch; H, W the size they share."""

import torch

from lightning_cv.contracts import VOID, DetectionBatch, SegmentationBatch
from lightning_cv.transforms import MEAN_COLOUR, PreparedDetection, PreparedMask


def collate_detection(samples: list[PreparedDetection]) -> DetectionBatch:
    """A batch of images that have one size."""
    sizes = {tuple(sample.image.shape) for sample in samples}
    if len(sizes) > 1:
        raise ValueError(
            f"the images of a detection batch have the shapes {sorted(sizes)}: the transform must end at one"
        )
    return {
        "images": torch.stack([sample.image for sample in samples]),
        "targets": [sample.target for sample in samples],
    }


def collate_segmentation(samples: list[PreparedMask]) -> SegmentationBatch:
    """A batch of the largest height and width among its images; smaller ones are padded right and bottom with VOID."""
    height = max(sample.image.shape[1] for sample in samples)
    width = max(sample.image.shape[2] for sample in samples)
    colour = torch.tensor(MEAN_COLOUR).view(3, 1, 1) / 255
    images = colour.expand(len(samples), 3, height, width).contiguous()
    masks = torch.full((len(samples), height, width), VOID, dtype=torch.int64)
    for number, sample in enumerate(samples):
        rows, columns = sample.mask.shape
        images[number, :, :rows, :columns] = sample.image
        masks[number, :rows, :columns] = sample.mask
    return {"images": images, "masks": masks, "image_ids": [sample.image_id for sample in samples]}
