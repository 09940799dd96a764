"""Scenes at random through every preset of class masks and of segments: each pixel's colour tells what it must be."""

import cv2
import numpy as np
import pytest
import torch
from transform_scenes import Samples, class_scene, filled, inner, one_thread, panoptic_scene, told_labels
from transform_tables import PANOPTIC, SEGMENTATION

from lightning_cv.contracts import VOID
from lightning_cv.ops.counters import mix
from lightning_cv.transforms import SegmentationFlip
from lightning_cv.transforms.panoptic import PanopticEval, PreparedPanoptic

SIZES = {
    "masks, train": (64, 64),
    "masks, train, larger": (128, 128),
    "masks, train with colours": (64, 64),
    "masks, pipeline": (64, 64),
    "masks, windows": (96, 96),
    "panoptic, train": (64, 64),
    "panoptic, train, larger": (128, 128),
}
PADDED = {name for name in (*SEGMENTATION, *PANOPTIC) if "train" in name} | {"masks, eval"}
CUT = {"panoptic, shorter side, cut"}
SHRINK = {*SIZES, *CUT, "panoptic, eval", "panoptic, shorter side"}
"""Those that may make a picture smaller, where a sliver of a pixel's width may be seen in it or in its labels alone."""


class Compared:
    """How many pixels of how many were compared, and how many of them contradicted."""

    def __init__(self):
        self.pixels = self.compared = self.wrong = 0

    @property
    def share(self):
        return self.compared / self.pixels

    def check(self, preset):
        assert self.wrong <= (1e-4 * self.compared if preset in SHRINK else 0)


def check_labels(image, labels, had_void, seed, seen):
    """Each pixel's label (H, W) is the one that its colour tells, slivers apart; void is what is filled.

    Near the border of two labels colours are blended; but what is filled is exact.
    """
    compared = inner(labels)
    wrong = compared & (told_labels(image) != labels)
    assert not cv2.erode(wrong.astype(np.uint8), np.ones((3, 3), np.uint8)).any(), (seed, np.argwhere(wrong)[:5])
    seen.pixels, seen.compared = seen.pixels + labels.size, seen.compared + int(compared.sum())
    seen.wrong += int(wrong.sum())
    outside = filled(image)
    assert (labels[outside] == VOID).all(), seed
    if not had_void:
        assert outside[labels == VOID].all(), seed


def check_image(image, shape, seed):
    assert (image.dtype, tuple(image.shape)) == (torch.float32, (3, *shape)), seed
    assert 0 <= image.numpy().min() <= image.numpy().max() <= 1, seed


# --- class masks


@one_thread()
def classes_through(preset, scenes):
    """Runs the scenes through; the share of all pixels whose colour was compared."""
    source, seen = Samples(class_scene, scenes), Compared()
    for number in range(scenes):
        sample, seed = source[number], mix(11, number)
        prepared = SEGMENTATION[preset](sample, seed)
        image, mask = prepared.image, prepared.mask
        assert (prepared.image_id, mask.dtype) == (sample["image_id"], torch.int64)
        check_image(image, mask.shape, number)
        labels = mask.numpy().astype(np.uint8)
        assert np.array_equal(labels, mask.numpy()), number
        had = set(np.unique(sample["mask"]).tolist())
        assert set(np.unique(labels).tolist()) <= had | ({VOID} if preset in PADDED else set()), number
        check_shape_and_place(preset, sample, image, mask)
        if "colours" in preset:  # they leave every pixel in its place
            colourless = SEGMENTATION["masks, train"](sample, seed)
            assert torch.equal(mask, colourless.mask), number
            image = colourless.image
        check_labels(image, labels, VOID in had, number, seen)
    seen.check(preset)
    return seen.share


def check_shape_and_place(preset, sample, image, mask):
    """What this preset must keep besides: its size, or every pixel where it was."""
    before = torch.from_numpy(sample["mask"]).long()
    height, width = before.shape
    if preset == "masks, eval":
        assert mask.shape == (-(-height // 32) * 32, -(-width // 32) * 32)
        assert torch.equal(mask[:height, :width], before)
        assert (mask[height:] == VOID).all()
        assert (mask[:, width:] == VOID).all()
        assert filled(image[:, height:]).all()
        assert filled(image[:, :, width:]).all()
    elif "flip" in preset:
        assert torch.equal(mask, before) or torch.equal(mask, before.flip(1))
    else:
        assert tuple(mask.shape) == SIZES[preset]


@pytest.mark.parametrize("preset", SEGMENTATION)
def test_random_class_masks_stay_in_step(preset):
    assert classes_through(preset, 300) > 0.6


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("preset", SEGMENTATION)
def test_ten_thousand_random_class_masks_stay_in_step(preset):
    assert classes_through(preset, 10_000) > 0.6


@pytest.mark.parametrize(
    "fault",
    [
        lambda image, mask: (image, mask.flip(1)),
        lambda image, mask: (image.roll(6, 1), mask),
        lambda image, mask: (image, torch.where(mask == VOID, 0, mask)),
        lambda image, mask: (image, torch.where(mask > 5, mask - 1, mask)),
    ],
)
def test_a_fault_in_class_masks_is_seen(fault, monkeypatch):
    class Faulty(SegmentationFlip):
        def __call__(self, sample, seed):
            prepared = super().__call__(sample, seed)
            image, mask = fault(prepared.image, prepared.mask)
            return prepared._replace(image=image, mask=mask)

    monkeypatch.setitem(SEGMENTATION, "masks, flip", Faulty())
    with pytest.raises(AssertionError):
        classes_through("masks, flip", 30)


# --- segments


@one_thread()
def segments_through(preset, scenes):
    """Runs the scenes through; the share of all pixels whose colour was compared, and segments per scene."""
    source, seen, segments = Samples(panoptic_scene, scenes), Compared(), 0
    for number in range(scenes):
        sample = source[number]
        image, target = PANOPTIC[preset](sample, mix(11, number))
        numbers, labels = target["segments"].numpy(), target["labels"].numpy()
        check_image(image, numbers.shape, number)
        assert numbers.shape == SIZES.get(preset, numbers.shape)
        assert (target["segments"].dtype, target["labels"].dtype) == (torch.int64, torch.int64)
        assert (target["image_id"], target["original_size"]) == (sample["image_id"], sample["image"].shape[:2])
        assert np.setdiff1d(numbers, [0]).tolist() == [*range(1, len(labels) + 1)], number  # none unseen, none unknown
        assert set(labels.tolist()) <= set(sample["labels"].tolist())
        assert len(set(labels.tolist())) == len(labels)
        assert torch.equal(target["is_thing"], target["labels"] % 2 == 0)
        assert torch.equal(target["crowd"], target["labels"] % 3 == 0)
        told = np.array([VOID, *labels], np.uint8)[numbers]
        check_labels(image, told, bool((sample["segments"] == 0).any()), number, seen)
        if preset not in PADDED | CUT:
            check_nothing_is_lost(sample, target)
        segments += len(labels)
    seen.check(preset)
    return seen.share, segments / scenes


def check_nothing_is_lost(sample, target):
    """Evaluation at two thirds of the size, or larger, shows each segment that has a square of 3 x 3 pixels."""
    wide = inner(sample["segments"].astype(np.uint8), 1)
    expected = sample["labels"][np.setdiff1d(sample["segments"][wide], [0]) - 1]
    assert set(expected.tolist()) <= set(target["labels"].tolist())


@pytest.mark.parametrize("preset", PANOPTIC)
def test_random_segments_stay_in_step(preset):
    compared, segments = segments_through(preset, 300)
    assert compared > 0.6
    assert segments > 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("preset", PANOPTIC)
def test_ten_thousand_random_segments_stay_in_step(preset):
    compared, segments = segments_through(preset, 10_000)
    assert compared > 0.6
    assert segments > 2


@pytest.mark.parametrize(
    "fault",
    [
        lambda target: target | {"segments": target["segments"].flip(1)},
        lambda target: target | {key: target[key].flip(0) for key in ("labels", "is_thing", "crowd")},
        lambda target: target | {"crowd": target["crowd"].roll(1)},
        lambda target: target | {"segments": torch.where(target["segments"] == 2, 1, target["segments"])},
        lambda target: target | {"segments": target["segments"].clamp(min=1)},
    ],
)
def test_a_fault_in_segments_is_seen(fault, monkeypatch):
    class Faulty(PanopticEval):
        def __call__(self, sample, seed, /):
            image, target = super().__call__(sample, seed)
            return PreparedPanoptic(image, fault(target))

    monkeypatch.setitem(PANOPTIC, "panoptic, eval", Faulty(64, 75))
    with pytest.raises(AssertionError):
        segments_through("panoptic, eval", 30)
