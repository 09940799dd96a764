"""Samples of all kinds whose pixels tell their own truth. Letters: N objects of a scene; H, W its size."""

from contextlib import contextmanager
from functools import cache

import cv2
import numpy as np
import torch

from lightning_cv.contracts import VOID
from lightning_cv.datasets.drawn import draw_scene
from lightning_cv.transforms import MEAN_COLOUR

COLOURS = np.array([(0, 0, 0), *((r, g, 230) for r in (10, 90, 170, 250) for g in (20, 120, 220))], np.uint8)
"""Of the ground, 0, and of the labels 1 to 12."""

VOID_COLOUR = (0, 250, 0)
"""Of pixels that a sample itself calls void; those that a preset adds have MEAN_COLOUR."""

PALETTE = np.array([*COLOURS, VOID_COLOUR, MEAN_COLOUR], np.float32)
PALETTE_LABELS = np.array([*range(len(COLOURS)), VOID, VOID], np.uint8)


class Samples:
    """The samples of the seeds 0 to `count` - 1, each made when it is asked for."""

    def __init__(self, make, count):
        self.make, self.count = make, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.make(range(self.count)[index])


@cache
def layout(seed):
    """Which drawn object is seen where: uint8 (H, W), 0 the ground. Height and width differ, 80 to 96."""
    height, width = np.random.default_rng(seed).integers(80, 97, 2)
    masks = draw_scene(seed, 96).instance_masks[:, :height, :width]
    numbers = np.arange(1, len(masks) + 1, dtype=np.uint8)
    return (masks * numbers[:, None, None]).max(axis=0, initial=0)


def add_slivers(numbers, rng):
    """Objects a pixel wide: along the left and the lower edge, across the picture, and a single one in the corner."""
    height, width = numbers.shape
    column, top = int(rng.integers(2, width - 2)), int(rng.integers(0, height - 40))
    first = numbers.max() + 1
    numbers[:, 0] = first
    numbers[-1, 1:-1] = first + 1
    numbers[top : top + 40, column] = first + 2
    numbers[0, -1] = first + 3


def scene(seed, slivers=True):
    """Drawn objects with labels, and colours by label, of their own; every fifth seed has none, every tenth slivers.

    Neither place nor size tells the label: where box, mask or label were swapped, colours would contradict. Rows and
    columns cannot be swapped unseen. Of drawn objects, what is left of less than 4 pixels is left out.
    """
    rng = np.random.default_rng([seed, 0])
    numbers = layout(seed).copy()
    if seed % 5 == 0:
        numbers[:] = 0
    drawn = [np.array(box_of(numbers == number)) for number in range(numbers.max() + 1)]
    for number, box in enumerate(drawn):
        if number and (box[2:] - box[:2] < 4).any():
            numbers[numbers == number] = 0
    if slivers and seed % 10 == 3:
        add_slivers(numbers, rng)
    masks = numbers == np.setdiff1d(numbers, [0])[:, None, None]
    labels = rng.permutation(12)[: len(masks)] + 1
    image = np.zeros((*numbers.shape, 3), np.uint8)
    for mask, label in zip(masks, labels, strict=True):
        image[mask] = COLOURS[label]
    return {
        "image_id": f"scene_{seed}",
        "image": image,
        "boxes": np.array([box_of(mask) for mask in masks], np.float32).reshape(-1, 4),
        "labels": labels,
        "difficult": labels % 2 == 0,
        "crowd": labels % 3 == 0,
        "masks": masks,
    }


def box_of(mask):
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else (0, 0, 0, 0)


def class_scene(seed):
    """The same scene as a class mask: a label a class. A part of every third is void, the whole of every 25th."""
    drawn = scene(seed, slivers=False)  # where classes are a pixel wide, image and labels need not agree
    image, mask = drawn["image"].copy(), np.zeros(drawn["image"].shape[:2], np.uint8)
    for label, object_mask in zip(drawn["labels"], drawn["masks"], strict=True):
        mask[object_mask] = label
    void = np.zeros_like(mask, np.bool_)
    if seed % 25 == 0:
        void[:] = True
    elif seed % 3 == 0:
        rng = np.random.default_rng([seed, 1])
        top, left = rng.integers(0, 60, 2)
        void[top : top + rng.integers(1, 40), left : left + rng.integers(1, 40)] = True
    image[void], mask[void] = VOID_COLOUR, VOID
    return {"image_id": drawn["image_id"], "image": image, "mask": mask}


def panoptic_scene(seed):
    """The same scene as segments in any order, the ground one of them; every seventh has one that no pixel shows."""
    drawn = class_scene(seed)
    labels = np.setdiff1d(drawn["mask"], [VOID]).astype(np.int64)
    if seed % 7 == 0:
        labels = np.append(labels, np.setdiff1d(np.arange(13), labels)[0])
    labels = np.random.default_rng([seed, 2]).permutation(labels)
    number = np.zeros(256, np.int32)
    number[labels] = np.arange(len(labels)) + 1
    return {
        "image_id": drawn["image_id"],
        "image": drawn["image"],
        "segments": number[drawn["mask"]],
        "labels": labels,
        "is_thing": labels % 2 == 0,
        "crowd": labels % 3 == 0,
    }


def coordinates(seed):
    """A picture, 1 to 200 pixels a side, whose red is the row and whose green is the column."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 201, 2)
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(height)[:, None], np.arange(width)
    return {"image_id": f"picture_{seed}", "image": image, "label": int(rng.integers(10))}


@contextmanager
def one_thread():
    """As in a loader process: for pictures so small threads cost more than they save, ten times on a busy machine."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def told_labels(image):
    """What each pixel's colour says of a tensor (3, H, W): its label, or VOID, (H, W)."""
    pixels = image.permute(1, 2, 0).numpy() * 255
    nearest = (pixels @ PALETTE.T - (PALETTE**2).sum(1) / 2).argmax(-1)  # the least squared distance
    return PALETTE_LABELS[nearest]


def unblended(image, tolerance=12):
    """Pixels (H, W) of a tensor (3, H, W) within `tolerance`, of 255, of a colour of the palette.

    Where an object is thin or a sliver, a resized picture mixes its colour with the next one's, and what comes out may
    be nearest to that of a third label.
    """
    pixels = image.permute(1, 2, 0).numpy() * 255
    return (np.abs(pixels[:, :, None] - PALETTE).max(-1) <= tolerance).any(-1)


def inner(values, around=2):
    """Pixels (H, W) that all others up to `around` away are like: there no colour is blended, nor cut off blended."""
    square = np.ones((2 * around + 1, 2 * around + 1), np.uint8)
    same = cv2.erode(values, square) == cv2.dilate(values, square)
    same[:around] = same[-around:] = same[:, :around] = same[:, -around:] = False
    return same


def filled(image):
    """Pixels (H, W) of a tensor (3, H, W) that have the colour of the padding."""
    return ((image * 255).round().permute(1, 2, 0).numpy() == MEAN_COLOUR).all(-1)
