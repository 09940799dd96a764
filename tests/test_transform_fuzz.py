"""Scenes at random through every detection preset: boxes valid, masks in their boxes, labels where their colour is."""

import cv2
import numpy as np
import pytest
import torch
from transform_scenes import Samples, one_thread, scene, told_labels, unblended
from transform_tables import DETECTION

from lightning_cv.contracts import Draw
from lightning_cv.datamodules.base import BatchDataset
from lightning_cv.transforms import DetectionEval, Mosaic
from lightning_cv.transforms.common import PreparedDetection

WHOLE = {"eval", "eval, larger", "flip", "flip with gains", "two-stage", "two-stage eval", "letterbox", "as it is"}
"""Those that keep every object, slivers apart."""


def check_colours(image, target, seed):
    """Most of a mask's inner pixels whose colour is one of the palette's, no blend, have that of its label.

    Returns the number of masks with enough of them to say.
    """
    told, pure, compared = told_labels(image), unblended(image), 0
    for mask, label in zip(target["masks"].numpy(), target["labels"].tolist(), strict=True):
        inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0) > 0
        if (inner & pure).sum() >= 10:
            assert np.bincount(told[inner & pure]).argmax() == label, seed
            compared += 1
    return compared


def check(target, shape, seed):
    height, width = shape
    boxes, labels, masks = target["boxes"], target["labels"], target["masks"]
    assert len(boxes) == len(labels) == len(masks) == len(target["difficult"]) == len(target["crowd"]), seed
    assert boxes.shape == (len(labels), 4), seed
    assert (boxes[:, 2:] > boxes[:, :2]).all(), seed
    assert (boxes >= 0).all(), seed
    assert (boxes <= torch.tensor([width, height, width, height])).all(), seed
    assert torch.equal(target["difficult"], labels % 2 == 0), seed
    assert torch.equal(target["crowd"], labels % 3 == 0), seed
    assert masks.shape[1:] == shape, seed
    xs, ys = torch.arange(width), torch.arange(height)
    inside_x = (xs + 1 > boxes[:, :1]) & (xs < boxes[:, 2:3])
    inside_y = (ys + 1 > boxes[:, 1:2]) & (ys < boxes[:, 3:])
    outside = masks & ~(inside_y[:, :, None] & inside_x[:, None, :])
    assert not outside.any(), seed


def check_all_kept(sample, target):
    """The same objects in the same order; one of a pixel's width may have vanished."""
    wide = (sample["boxes"][:, 2:] - sample["boxes"][:, :2] >= 4).all(axis=1)
    kept = set(target["labels"].tolist())
    must = [label for label, is_wide in zip(sample["labels"].tolist(), wide, strict=True) if is_wide or label in kept]
    assert target["labels"].tolist() == must


@one_thread()
def run_through(preset, scenes):
    source = Samples(scene, scenes)
    dataset = BatchDataset(source, DETECTION[preset], collate_one_by_one, seed=11)
    objects = compared = 0
    for number in range(scenes // 10):
        draws = [Draw(number // 20, number * 10 + k, number) for k in range(10)]
        for (image, target), draw in zip(dataset[draws], draws, strict=True):
            check(target, tuple(image.shape[1:]), draw)
            if "colours" not in preset:
                compared += check_colours(image, target, draw)
            sample = source[draw.index]
            if preset in WHOLE:
                check_all_kept(sample, target)
            if len(sample["labels"]) == 0 and not isinstance(DETECTION[preset], Mosaic):
                assert len(target["labels"]) == 0, draw
            assert target["masks"].flatten(1).any(1).all() or "placement" in target
            objects += len(target["labels"])
    assert "colours" in preset or compared > objects / 10, (objects, compared)
    return objects


def collate_one_by_one(prepared):
    return prepared


@pytest.mark.parametrize("preset", DETECTION)
def test_random_scenes_stay_in_step(preset):
    assert run_through(preset, 300) > 300


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("preset", DETECTION)
def test_ten_thousand_random_scenes_stay_in_step(preset):
    assert run_through(preset, 10_000) > 10_000


def labels_swapped(image, target):
    return image, target | {key: target[key].flip(0) for key in ("labels", "difficult", "crowd")}


def boxes_not_mirrored(image, target):
    masks = target["masks"].flip(2)
    return image.flip(2), target | {"masks": masks}


def image_not_mirrored(image, target):
    boxes = target["boxes"].clone()
    boxes[:, [0, 2]] = image.shape[2] - target["boxes"][:, [2, 0]]
    return image, target | {"masks": target["masks"].flip(2), "boxes": boxes}


@pytest.mark.parametrize("fault", [labels_swapped, boxes_not_mirrored, image_not_mirrored])
def test_a_fault_is_seen(fault, monkeypatch):
    class Faulty(DetectionEval):
        def __call__(self, sample, seed):
            return PreparedDetection(*fault(*super().__call__(sample, seed)))

    monkeypatch.setitem(DETECTION, "eval", Faulty(64))
    with pytest.raises(AssertionError):
        run_through("eval", 20)
