"""Two-stage, YOLO, mosaic and R-CNN presets by hand."""

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from transform_scenes import scene

from lightning_cv.contracts import VOID, Draw
from lightning_cv.datamodules.base import BatchDataset
from lightning_cv.datamodules.batches import collate_detection
from lightning_cv.transforms import (
    MEAN_COLOUR,
    DetectionEval,
    DetectionPipeline,
    FlipOnly,
    LetterboxEval,
    Mosaic,
    SegmentationEval,
    SegmentationTrain,
    ShorterSideEval,
    ShorterSideTrain,
    SSDTrain,
    YOLOTrain,
    YOLOv1Train,
    restore_boxes,
    warp_region,
)
from lightning_cv.transforms.colour import distort_colours
from lightning_cv.transforms.masks import Lookup, look_up
from lightning_cv.transforms.yolo import distort_hsv


def sample_of(boxes, height=40, width=80, image=None, masks=False):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    sample = {
        "image_id": "x",
        "image": np.zeros((height, width, 3), np.uint8) if image is None else image,
        "boxes": boxes,
        "labels": np.arange(1, len(boxes) + 1),
        "difficult": np.zeros(len(boxes), np.bool_),
    }
    if masks:
        ys, xs = np.arange(height)[:, None] + 0.5, np.arange(width)[None] + 0.5
        sample["masks"] = np.array(
            [(xs > x1) & (xs < x2) & (ys > y1) & (ys < y2) for x1, y1, x2, y2 in boxes], np.bool_
        ).reshape(-1, height, width)
    return sample


# --- two-stage


def test_shorter_side_by_hand():
    image, target = ShorterSideEval(600, 1000)(sample_of([[10, 0, 30, 375]], 375, 500), 0)
    assert image.shape == (3, 600, 800)
    assert target["boxes"].tolist() == [pytest.approx([16, 0, 48, 600])]
    assert ShorterSideEval(600, 1000)(sample_of([], 200, 500), 0).image.shape == (3, 400, 1000)
    assert ShorterSideEval(600, 1000).image(np.zeros((375, 500, 3), np.uint8)).shape == (3, 600, 800)


def test_one_of_the_scales_is_drawn():
    shapes = {ShorterSideTrain([40, 60])(sample_of([]), seed).image.shape for seed in range(20)}
    assert shapes == {(3, 40, 80), (3, 60, 120)}


def test_images_of_different_sizes_are_padded_in_a_batch():
    samples = [ShorterSideEval(40, 90)(sample_of([[0, 0, 8, 8]], 40, width, masks=True), 0) for width in (40, 80)]
    batch = collate_detection(samples)
    assert batch["images"].shape == (2, 3, 40, 80)
    assert [target["masks"].shape for target in batch["targets"]] == [(1, 40, 80)] * 2
    assert batch["targets"][0]["masks"].sum() == 64
    assert batch["images"][0, :, 0, 40:].unique().numel() == 3  # the mean colour


@pytest.mark.parametrize("lengths", [(0, 10), (20, 10)])
def test_lengths_that_make_no_sense(lengths):
    with pytest.raises(ValueError, match="shorter must be 1 to longer"):
        ShorterSideEval(*lengths)
    with pytest.raises(ValueError, match="shorter must be 1 to longer"):
        ShorterSideTrain([lengths[0]], lengths[1])


@pytest.mark.parametrize(
    ("preset", "height", "width"), [(DetectionEval(300), 299, 299), (ShorterSideEval(600, 1000), 640, 300)]
)
def test_rounding_does_not_pass_the_edge(preset, height, width):
    image, target = preset(sample_of([[0, 0, width, height]], height, width), 0)
    assert target["boxes"].tolist() == [[0, 0, image.shape[2], image.shape[1]]]


# --- YOLO


def test_yolo_drops_what_is_left_of_less_than_a_pixel_and_letterbox_does_not():
    sample = sample_of([[10, 10, 12, 12], [0, 0, 800, 400]], 400, 800)
    assert YOLOTrain(64)(sample, 0).target["labels"].tolist() == [2]
    assert LetterboxEval(64)(sample, 0).target["labels"].tolist() == [1, 2]


def test_an_object_whose_pixels_are_cropped_away_is_left_out():
    """An L whose box has its centre in the crop, all pixels outside."""
    sample = sample_of([[0, 0, 40, 40]], 40, 40, masks=True)
    sample["masks"][0, :30, 5:] = False
    sample["masks"][0, 30:] = False
    labels = [len(DetectionPipeline([A.Crop(6, 0, 40, 29, p=1.0)])(sample, seed).target["labels"]) for seed in (0, 1)]
    assert labels == [0, 0]


@pytest.mark.parametrize(("height", "width"), [(40, 80), (80, 40), (33, 97), (50, 50)])
def test_letterbox_restores_its_boxes(height, width):
    sample = sample_of([[0, 0, width, height], [3, 5, 20, 31]], height, width)
    image, target = LetterboxEval(64)(sample, 0)
    assert image.shape == (3, 64, 64)
    restored = restore_boxes(target["boxes"], target["placement"])
    torch.testing.assert_close(restored, torch.from_numpy(sample["boxes"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(LetterboxEval(64).image(sample["image"]), image)
    assert LetterboxEval(64).placement(height, width) == target["placement"]


def test_letterbox_by_hand():
    image, target = LetterboxEval(64)(sample_of([[0, 0, 80, 40]]), 0)
    assert target["boxes"].tolist() == [[0, 16, 64, 48]]
    assert (image[:, 16:48] == 0).all()
    assert (image[:, :16] == 128 / 255).all()
    assert (image[:, 48:] == 128 / 255).all()


def test_yolo_keeps_the_whole_picture_without_zoom():
    sample = sample_of([[0, 0, 80, 40]])
    boxes = torch.cat([YOLOTrain(64, jitter=0.3)(sample, seed).target["boxes"] for seed in range(200)])
    sides = boxes[:, 2:] - boxes[:, :2]
    assert len(boxes) == 200
    assert (sides.max(dim=1).values == 64).all()
    ratio = sides[:, 0] / sides[:, 1]  # 2, times 0.7 / 1.3 to 1.3 / 0.7
    assert 2 * 0.7 / 1.3 - 0.05 <= ratio.min() < 1.5
    assert 2.7 < ratio.max() <= 2 * 1.3 / 0.7 + 0.25


def test_the_size_changes_every_ten_batches_and_is_the_same_in_a_batch():
    preset = YOLOTrain(sizes=[64, 96, 128])
    sizes = [preset.for_batch(number, 5).size for number in range(400)]
    blocks = [set(sizes[start : start + 10]) for start in range(0, 400, 10)]
    assert all(len(block) == 1 for block in blocks)
    assert set(sizes) == {64, 96, 128}
    assert [preset.for_batch(number, 6).size for number in range(400)] != sizes
    dataset = BatchDataset([sample_of([[0, 0, 9, 9]])] * 4, preset, collate_detection, seed=5)
    for number in (0, 10, 20, 30):
        batch = dataset[[Draw(0, index, number) for index in range(4)]]
        assert batch["images"].shape == (4, 3, sizes[number], sizes[number])


@pytest.mark.parametrize("preset", [YOLOTrain(64), YOLOv1Train(64)], ids=["v2", "v1"])
def test_objects_come_in_random_order_each_with_its_label_and_mask(preset):
    """Of objects that want one cell the losses take one by its place, which must not always be the same."""
    sample = sample_of([[10, 10, 30, 30], [12, 12, 28, 28], [40, 5, 70, 35]], masks=True)
    firsts = set()
    for seed in range(20):
        target = preset(sample, seed).target
        sides = (target["boxes"][:, 2:] - target["boxes"][:, :2]).prod(dim=1)
        assert target["labels"][sides.argsort()].tolist() == [2, 1, 3]
        shown = target["masks"].flatten(1).sum(dim=1)
        assert target["labels"][shown.argsort()].tolist() == [2, 1, 3]
        firsts.add(int(target["labels"][0]))
    assert firsts == {1, 2, 3}


def test_yolo_v1_moves_each_edge_by_a_fifth_and_repeats_what_is_outside():
    sample = sample_of([[0, 0, 80, 40]])
    sample["image"][:] = 200
    preset = YOLOv1Train(96, hue=0, saturation=1, exposure=1)
    boxes = []
    for seed in range(300):
        image, target = preset(sample, seed)
        assert image.shape == (3, 96, 96)
        assert (image == 200 / 255).all()  # also where the box does not reach
        boxes.append(target["boxes"])
    near, far = torch.cat(boxes)[:, :2], torch.cat(boxes)[:, 2:]
    assert 0 == near.min() < 13 < near.max() <= 96 * 0.2 + 1e-4  # one edge out by a fifth, the other in by as much
    assert 96 * 0.8 - 1e-4 <= far.min() < 83 < far.max() == 96


def test_yolo_v1_without_jitter_is_the_stretch_of_evaluation():
    sample = sample_of([[8, 4, 40, 20]])
    plain, mirrored = pytest.approx([6.4, 6.4, 32, 32]), pytest.approx([32, 6.4, 57.6, 32])
    (first,), (second,) = (YOLOv1Train(64, jitter=0)(sample, seed).target["boxes"].tolist() for seed in (0, 2))
    assert (first, second) == (plain, mirrored)
    with pytest.raises(ValueError, match="YOLOv1Train: size must be at least 1, jitter 0 to"):
        YOLOv1Train(64, jitter=0.5)


def test_hsv_by_hand():
    rng = np.random.default_rng(0)
    grey = np.full((2, 2, 3), 100, np.uint8)
    np.testing.assert_array_equal(distort_hsv(grey, rng, 0.5, 3.0, 1.0), grey)  # grey has no hue and no saturation
    values = {int(distort_hsv(grey, rng, 0, 1.0, 2.0)[0, 0, 0]) for _ in range(300)}
    assert 50 <= min(values) < 60
    assert 180 < max(values) <= 200


# --- mosaic


def test_a_mosaic_shows_each_picture_next_to_the_centre():
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (200, 200, 200)]
    samples = [
        sample_of([[0, 0, 40, 40]], 40, 40, image=np.full((40, 40, 3), colour, np.uint8), masks=True)
        for colour in colours
    ]
    whole = Mosaic(FlipOnly(), size=64, centre=(0.4, 0.6)).combine(samples, 3)
    assert whole["image"].shape == (64, 64, 3)
    for mask, box, colour in zip(whole["masks"], whole["boxes"], colours, strict=True):
        assert (whole["image"][mask] == colour).all()
        ys, xs = np.nonzero(mask)
        assert [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] == box.tolist()
    assert whole["masks"].sum() == 64 * 64


def test_partners_depend_on_the_seed_and_the_chance():
    mosaic = Mosaic(FlipOnly(), probability=0.5)
    chosen = [mosaic.partners(seed, 100) for seed in range(400)]
    assert chosen == [mosaic.partners(seed, 100) for seed in range(400)]
    assert {len(partners) for partners in chosen} == {0, 3}
    assert 150 < sum(map(bool, chosen)) < 250
    assert Mosaic(FlipOnly(), probability=0).partners(1, 9) == []


def test_a_data_set_serves_mosaics():
    dataset = BatchDataset([scene(seed) for seed in range(1, 5)], Mosaic(FlipOnly(), 96), collate_detection, seed=0)
    draws = [Draw(0, index, 0) for index in range(4)]
    first, again = dataset[draws], dataset[draws]
    assert torch.equal(first["images"], again["images"])
    assert [target["image_id"] for target in first["targets"]] == [f"scene_{seed}" for seed in range(1, 5)]
    assert max(len(target["labels"]) for target in first["targets"]) > 4


# --- R-CNN


def test_the_context_of_a_warped_region():
    """A box of 195 x 195 pixels fills all but 16 pixels of a square of 227 (its enlarged window is 227 + 1 wide)."""
    image = np.zeros((400, 400, 3), np.uint8)
    image[100:295, 100:295] = 255
    warped = warp_region(image, (100, 100, 295, 295))
    rows = np.flatnonzero(warped[113, :, 0] > 127)
    assert (rows[0], rows[-1] + 1) == pytest.approx((16, 211), abs=1)


def test_outside_the_picture_a_warped_region_is_filled():
    warped = warp_region(np.zeros((60, 50, 3), np.uint8), (0, 0, 50, 60), size=64, context=16, fill=(9, 8, 7))
    assert (warped[0] == (9, 8, 7)).all()
    assert (warped[:, 0] == (9, 8, 7)).all()
    assert (warped[20:44, 20:44] == 0).all()


@pytest.mark.parametrize("box", [(-40, 0, -10, 20), (0, 90, 20, 120)])
def test_a_region_outside_the_picture_is_refused(box):
    with pytest.raises(ValueError, match="outside the picture"):
        warp_region(np.zeros((60, 50, 3), np.uint8), box, size=64, context=4)


def test_a_box_that_overlaps_the_far_edge_by_a_hair_shows_it():
    """Its window would begin at column 50 and row 60 by rounding, where the picture has ended."""
    image = np.zeros((60, 50, 3), np.uint8)
    image[-1, -1] = (10, 20, 30)
    warped = warp_region(image, (49.7, 59.8, 90, 99.8), size=32, context=0)
    assert (warped[0, 0] == (10, 20, 30)).all()
    assert (warped[1:] == MEAN_COLOUR).all()
    assert (warped[:, 1:] == MEAN_COLOUR).all()


def test_half_of_a_warped_region_in_the_picture_reaches_the_square_s_edge():
    """Columns -13 to 13 are shown: 113.5 pixels are outside the picture, the rest of 227 is inside."""
    warped = warp_region(np.zeros((60, 60, 3), np.uint8), (-10.9, 20, 10.2, 40))
    assert (warped[:, :114] == MEAN_COLOUR).all()
    assert (warped[:, 114:] == 0).all()


def test_a_context_without_room_is_refused():
    with pytest.raises(ValueError, match="twice the context"):
        warp_region(np.zeros((60, 50, 3), np.uint8), (0, 0, 9, 9), size=32, context=16)


# --- masks


def test_lookup_by_hand():
    masks = np.array([[[True, False], [False, True]]])
    seen = look_up(masks, Lookup(np.array([-1, 0, 1]), np.array([1, 0])))
    assert seen.tolist() == [[[False, False], [False, True], [True, False]]]


@pytest.mark.parametrize("scale", [0.5, 0.6, 0.75, 0.9, 1.0, 1.3, 2.0])
def test_a_class_mask_takes_the_pixel_that_the_picture_shows(scale):
    """Both are twice their column's number: between two pixels the picture has their mean, the mask the nearer one."""
    mask = np.broadcast_to(2 * np.arange(120, dtype=np.uint8), (90, 120))
    sample = {"image_id": "x", "image": np.repeat(mask[..., None], 3, axis=2), "mask": mask}
    for seed in range(20):
        prepared = SegmentationTrain(40, (scale, scale), colour=0)(sample, seed)
        assert (prepared.mask != VOID).all()
        assert (prepared.image[0] * 255 - prepared.mask).abs().max() < 1.51  # half a pixel, and rounding to bytes


@pytest.mark.parametrize("scale", [(0.0, 1.0), (2.0, 0.5), (-1.0, 1.0)])
def test_scales_that_make_no_sense_are_refused(scale):
    with pytest.raises(ValueError, match=r"SegmentationTrain\.scale"):
        SegmentationTrain(64, scale=scale)


def test_a_multiple_of_nothing_is_refused():
    with pytest.raises(ValueError, match="multiple"):
        SegmentationEval(0)


def test_the_hue_turns_by_as_many_degrees_as_stated(monkeypatch):
    """18 of the released code are OpenCV's bytes of two degrees: red turns by up to 36 degrees."""
    monkeypatch.setattr("lightning_cv.transforms.colour._tone_table", lambda rng, strength: None)
    red = np.zeros((1, 1, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    found = {}
    for hue in (18, 36):
        changed = [distort_colours(red, np.random.default_rng(seed), hue_range=hue) for seed in range(400)]
        turned = [cv2.cvtColor(pixel, cv2.COLOR_RGB2HSV)[0, 0].tolist() for pixel in changed]
        degrees = [2 * turn for turn, saturation, _ in turned if saturation > 250]  # of pale ones it is rough
        found[hue] = max(min(turn, 360 - turn) for turn in degrees)
    assert found == {18: pytest.approx(18, abs=2), 36: pytest.approx(36, abs=2)}
    with pytest.raises(ValueError, match="hue is 0 to 180 degrees, got -1"):
        SSDTrain(64, hue=-1)
