"""Prepared samples to batches. Letters: N images of a batch; H, W the size they share."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_cv.contracts import VOID, DetectionBatch, DetectionTarget, SegmentationBatch
from lightning_cv.transforms import PreparedDetection, PreparedMask

MEAN = (0.485, 0.456, 0.406)
"""Of ImageNet's images, red, green and blue, 0 to 1: most nets make exact zeros of it, with which torchvision pads."""


def collate_detection(samples: list[PreparedDetection]) -> DetectionBatch:
    """A batch of the largest height and width among its images; smaller ones are padded right and bottom."""
    height = max(sample.image.shape[1] for sample in samples)
    width = max(sample.image.shape[2] for sample in samples)
    if all(sample.image.shape[1:] == (height, width) for sample in samples):
        images = torch.stack([sample.image for sample in samples])
    else:
        images = _canvas(len(samples), height, width)
        for number, sample in enumerate(samples):
            images[number, :, : sample.image.shape[1], : sample.image.shape[2]] = sample.image
            sample.target["shown"] = (sample.image.shape[1], sample.image.shape[2])
    return {"images": images, "targets": [_padded(sample.target, height, width) for sample in samples]}


def _padded(target: DetectionTarget, height: int, width: int) -> DetectionTarget:
    if "masks" in target:
        masks = target["masks"]
        target["masks"] = pad(masks, (0, width - masks.shape[2], 0, height - masks.shape[1]))
    return target


def _canvas(images: int, height: int, width: int) -> Tensor:
    """Images (N, 3, H, W) of the mean colour."""
    colour = torch.tensor(MEAN).view(3, 1, 1)
    return colour.expand(images, 3, height, width).contiguous()


def collate_segmentation(samples: list[PreparedMask]) -> SegmentationBatch:
    """A batch of the largest height and width among its images; smaller ones are padded right and bottom with VOID."""
    height = max(sample.image.shape[1] for sample in samples)
    width = max(sample.image.shape[2] for sample in samples)
    images = _canvas(len(samples), height, width)
    planes = samples[0].mask.shape[:-2]  # (), or (K,) of labels
    masks = torch.full((len(samples), *planes, height, width), VOID, dtype=torch.int64)
    for number, sample in enumerate(samples):
        rows, columns = sample.mask.shape[-2:]
        images[number, :, :rows, :columns] = sample.image
        masks[number, ..., :rows, :columns] = sample.mask
    return {
        "images": images,
        "masks": masks,
        "image_ids": [sample.image_id for sample in samples],
        "original_sizes": [sample.original_size for sample in samples],
    }
