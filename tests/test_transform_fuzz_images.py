"""Pictures at random through the presets of autoencoders and through R-CNN's warp: each pixel tells where it was."""

import numpy as np
import pytest
import torch
from transform_scenes import COLOURS, Samples, class_scene, coordinates, inner, one_thread
from transform_tables import AUTOENCODER

from lightning_cv.contracts import Draw
from lightning_cv.datamodules.base import BatchDataset
from lightning_cv.transforms import warp_region
from lightning_cv.transforms.autoencoder import AutoencoderEval

# --- autoencoders


def square_of(image, preset):
    """What a preset must show of a picture of coordinates, (S, S, C) of 0 to 255, by hand: a ramp stays one."""
    height, width = image.shape[:2]
    side = min(height, width, preset.crop or height)
    along = (np.arange(preset.size) + 0.5) * side / preset.size - 0.5
    rows, columns = (np.clip(along, 0, side - 1) + (length - side) // 2 for length in (height, width))
    red, green = np.meshgrid(rows, columns, indexing="ij")
    channels = [0.299 * red + 0.587 * green] if preset.grey else [red, green, np.zeros_like(red)]
    return np.stack(channels)


@one_thread()
def pictures_through(name, scenes):
    """Runs the pictures through; the share of those that were mirrored."""
    source, preset = Samples(coordinates, scenes), AUTOENCODER[name]
    dataset = BatchDataset(source, preset, list, seed=11)
    mirrored = []
    for number in range(scenes // 10):
        draws = [Draw(number, number * 10 + k, number) for k in range(10)]
        for prepared, again, draw in zip(dataset[draws], dataset[draws], draws, strict=True):
            sample = source[draw.index]
            assert torch.equal(prepared.image, again.image), draw
            assert (prepared.image_id, prepared.label) == (sample["image_id"], sample["label"])
            channels = 1 if preset.grey else 3
            assert (prepared.image.dtype, *prepared.image.shape) == (torch.float32, channels, preset.size, preset.size)
            shown, expected = prepared.image.numpy() * 255, square_of(sample["image"], preset)
            assert 0 <= shown.min() <= shown.max() <= 255, draw
            plain = np.abs(shown - expected).max() < 1.2
            assert plain or np.abs(shown - expected[:, :, ::-1]).max() < 1.2, draw
            mirrored.append(not plain)
    return np.mean(mirrored)


def check_mirrored(name, share):
    changes = "train" in name and "not mirrored" not in name
    assert 0.35 < share < 0.6 if changes else share == 0


@pytest.mark.parametrize("preset", AUTOENCODER)
def test_random_pictures_show_their_middle(preset):
    check_mirrored(preset, pictures_through(preset, 300))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("preset", AUTOENCODER)
def test_ten_thousand_random_pictures_show_their_middle(preset):
    check_mirrored(preset, pictures_through(preset, 10_000))


@pytest.mark.parametrize("shift", [(2, 0), (0, 2)])
def test_a_picture_that_is_shifted_is_seen(shift, monkeypatch):
    class Faulty(AutoencoderEval):
        def __call__(self, sample, seed, /):
            prepared = super().__call__(sample, seed)
            return prepared._replace(image=prepared.image.roll(shift, (1, 2)))

    monkeypatch.setitem(AUTOENCODER, "images, eval", Faulty(32))
    with pytest.raises(AssertionError):
        pictures_through("images, eval", 10)


# --- R-CNN's warp

WARPS = {"as published": (227, 16), "small": (64, 8), "without context": (32, 0)}
OUTSIDE = (0, 0, 255)
"""Fill that neither a picture of coordinates nor a mean of its colours has."""


def random_box(rng, height, width):
    """A box of any size, down to parts of a pixel, which overlaps the picture if only by a hair."""
    sides = np.exp(rng.uniform(np.log(0.2), np.log(150), 2))
    low = rng.uniform(-sides * 0.99, np.array([width, height]) - 0.01 * np.minimum(sides, 1))
    return (*low.tolist(), *(low + sides).tolist())


def positions(low, high, size, context):
    """Place in the picture of each pixel of the square along one axis, and how far rounding may move it.

    The box fills all but `context` pixels of each side. Its enlarged window is rounded to whole pixels and is one
    longer than it should be; where the picture is cut off, its place and its size in the square are rounded both.
    """
    scale = (high - low) / (size - 2 * context)
    return low + (np.arange(size) + 0.5 - context) * scale, 1.5 + scale + 2 / size


def check_places(box, height, width, size, context, warp):
    """Each pixel of the square shows the place that it should, and the fill where there is no picture."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(height)[:, None], np.arange(width)
    warped = warp(image, box, size, context, OUTSIDE).astype(np.float64)
    assert warped.shape == (size, size, 3)
    fill = warped[..., 2] == 255
    assert ((warped[..., 2] == 0) | fill).all(), box
    (xs, give_x), (ys, give_y) = (positions(box[k], box[k + 2], size, context) for k in (0, 1))
    far = [(at < -give) | (at > length + give) for at, give, length in ((ys, give_y, height), (xs, give_x, width))]
    near = [(at > give) & (at < length - give) for at, give, length in ((ys, give_y, height), (xs, give_x, width))]
    assert fill[far[0][:, None] | far[1]].all(), box
    assert not fill[near[0][:, None] & near[1]].any(), box
    for channel, at, give, length in ((0, ys[:, None], give_y, height), (1, xs[None], give_x, width)):
        error = np.abs(warped[..., channel] - np.clip(at - 0.5, 0, length - 1))
        assert error[~fill].max(initial=0) <= give + 0.5, (box, channel)
    return int(fill.sum())


def check_colours(sample, box, size, context, warp):
    """In the box itself, without its context, the square shows the colours of what lies there."""
    (xs, give_x), (ys, give_y) = (positions(box[k], box[k + 2], size, context) for k in (0, 1))
    height, width = sample["mask"].shape
    rows, columns = (
        np.flatnonzero((at >= 0) & (at < length) & (np.arange(size) >= context) & (np.arange(size) < size - context))
        for at, length in ((ys, height), (xs, width))
    )
    sure = inner(sample["mask"], int(np.ceil(max(give_x, give_y) + 0.5)))
    there = np.ix_(ys[rows].astype(int), xs[columns].astype(int))
    labels, known = sample["mask"][there], sure[there] & (sample["mask"][there] < len(COLOURS))
    shown = warp(sample["image"], box, size, context)[np.ix_(rows, columns)]
    assert (shown[known] == COLOURS[labels[known]]).all(), box
    return int((labels[known] > 0).sum())


@one_thread()
def boxes_through(name, scenes, warp=warp_region):
    """Warps random boxes of random scenes; how many pixels were filled, and how many showed an object's own colour."""
    (size, context), source = WARPS[name], Samples(class_scene, scenes)
    filled = coloured = 0
    for number in range(scenes):
        sample, rng = source[number], np.random.default_rng([7, number])
        height, width = sample["mask"].shape
        box = random_box(rng, height, width)
        filled += check_places(box, height, width, size, context, warp)
        coloured += check_colours(sample, box, size, context, warp)
    return filled / scenes / size**2, coloured / scenes / size**2


@pytest.mark.parametrize("name", WARPS)
def test_random_boxes_are_warped_to_their_place(name):
    filled, coloured = boxes_through(name, 300)
    assert 0.1 < filled < 0.6
    assert coloured > 0.01


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", WARPS)
def test_ten_thousand_random_boxes_are_warped_to_their_place(name):
    filled, coloured = boxes_through(name, 10_000)
    assert 0.1 < filled < 0.6
    assert coloured > 0.01


@pytest.mark.parametrize(
    "fault",
    [
        lambda image, box, *rest: warp_region(image, (box[1], box[0], box[3], box[2]), *rest),
        lambda image, box, size, context, *fill: warp_region(image, box, size, context // 2, *fill),
        lambda *arguments: warp_region(*arguments)[:, ::-1],
    ],
)
def test_a_fault_in_the_warp_is_seen(fault):
    with pytest.raises((AssertionError, ValueError)):
        boxes_through("small", 30, warp=fault)
