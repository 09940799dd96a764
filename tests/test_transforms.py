"""Presets: boxes stay valid and with their labels, masks stay on their pixels, one seed gives one result."""

import pickle

import albumentations as A
import numpy as np
import pytest
import torch

from lightning_cv.contracts import VOID, Placement
from lightning_cv.transforms import (
    MEAN_COLOUR,
    DetectionEval,
    DetectionPipeline,
    FlipOnly,
    LetterboxEval,
    SegmentationEval,
    SegmentationFlip,
    SegmentationPipeline,
    SegmentationTrain,
    ShorterSideEval,
    ShorterSideTrain,
    SSDTrain,
    YOLOTrain,
    restore_boxes,
    stretch,
)
from lightning_cv.transforms import ssd as ssd_module
from lightning_cv.transforms.colour import channel_gains, distort_colours
from lightning_cv.transforms.ssd import Cut, Window, _boxes_in, _cut, iou_crop, zoom_out

CELLS, CELL_HEIGHT, CELL_WIDTH = 4, 30, 40
HEIGHT, WIDTH = CELLS * CELL_HEIGHT, CELLS * CELL_WIDTH


def traced_sample(seed, most=9):
    """Rectangles that do not touch; the colour of each tells its label, its label tells its box."""
    rng = np.random.default_rng(seed)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    cells = rng.permutation(CELLS * CELLS)[: rng.integers(0, most + 1)]
    boxes = np.zeros((len(cells), 4), np.float32)
    for number, cell in enumerate(cells):
        width, height = rng.integers(8, CELL_WIDTH - 3), rng.integers(8, CELL_HEIGHT - 3)
        x = cell % CELLS * CELL_WIDTH + rng.integers(2, CELL_WIDTH - width)
        y = cell // CELLS * CELL_HEIGHT + rng.integers(2, CELL_HEIGHT - height)
        image[y : y + height, x : x + width] = colour_of(cell + 1)
        boxes[number] = x, y, x + width, y + height
    return {
        "image_id": f"traced_{seed}",
        "image": image,
        "boxes": boxes,
        "labels": cells.astype(np.int64) + 1,
        "difficult": cells % 3 == 0,
        "crowd": cells % 4 == 0,
        "masks": np.stack([painted(image, cell + 1) for cell in cells]) if len(cells) else NO_MASKS,
    }


NO_MASKS = np.zeros((0, HEIGHT, WIDTH), np.bool_)


def painted(image, label):
    return (image == np.array(colour_of(label), np.uint8)).all(axis=-1)


def colour_of(label):
    return 40 + 60 * ((label - 1) % 4), 40 + 60 * ((label - 1) // 4), 250


DETECTION = {
    "eval": DetectionEval(96),
    "flip": FlipOnly(),
    "ssd": SSDTrain(128, colour=0),
    "ssd without zoom": SSDTrain(128, max_zoom=1, colour=0),
    "pipeline": DetectionPipeline([A.HorizontalFlip(p=0.5), A.RandomCrop(100, 100, p=1.0), A.Resize(128, 128)]),
    "two-stage": ShorterSideTrain([100, 130, 200], longer=260),
    "two-stage eval": ShorterSideEval(150, 180),
    "letterbox": LetterboxEval(128),
    "yolo": YOLOTrain(160, hue=0, saturation=1, exposure=1),
    "yolo with zoom": YOLOTrain(160, zoom=(0.5, 2.0), hue=0, saturation=1, exposure=1),
}
UNCHANGED = {"eval", "two-stage eval", "letterbox"}
COLOURED = {
    **DETECTION,
    "flip with gains": FlipOnly(0.2),
    "ssd with colours": SSDTrain(128),
    "yolo with colours": YOLOTrain(128),
    "pipeline with colours": DetectionPipeline([A.ColorJitter(p=1.0), A.Affine(p=1.0)]),
}


@pytest.mark.parametrize("preset", COLOURED)
def test_boxes_stay_valid_and_objects_keep_their_marks(preset):
    for seed in range(300):
        sample = traced_sample(seed)
        image, target = COLOURED[preset](sample, seed)
        height, width = image.shape[1:]
        boxes, labels = target["boxes"], target["labels"]
        assert (image.dtype, boxes.dtype, labels.dtype) == (torch.float32, torch.float32, torch.int64)
        assert image.shape[0] == 3
        assert 0 <= image.numpy().min() <= image.numpy().max() <= 1
        assert boxes.shape == (len(labels), 4)
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()
        assert len(set(labels.tolist())) == len(labels)
        assert set(labels.tolist()) <= set(sample["labels"].tolist())
        assert target["difficult"].tolist() == [(label - 1) % 3 == 0 for label in labels.tolist()]
        assert target["crowd"].tolist() == [(label - 1) % 4 == 0 for label in labels.tolist()]
        assert (target["masks"].shape, target["masks"].dtype) == ((len(labels), height, width), torch.bool)
        assert target["original_size"] == (HEIGHT, WIDTH)
        assert target["image_id"] == sample["image_id"]


@pytest.mark.parametrize("preset", COLOURED)
def test_evaluation_alone_gives_the_masks_of_the_file(preset):
    sample = traced_sample(0)
    _, target = COLOURED[preset](sample, 0)
    assert ("file_masks" in target) == (preset in UNCHANGED)
    if "file_masks" in target:
        np.testing.assert_array_equal(target["file_masks"].numpy(), sample["masks"])


@pytest.mark.parametrize("preset", DETECTION)
def test_each_box_lies_where_the_colour_of_its_label_is(preset):
    """The tracer: from the picture alone, find each object again by its colour and compare with its box."""
    found = 0
    for seed in range(120):
        image, target = DETECTION[preset](traced_sample(seed), seed)
        for box, label in zip(target["boxes"], target["labels"].tolist(), strict=True):
            x1, y1, x2, y2 = box.tolist()
            if min(x2 - x1, y2 - y1) < 4:  # too few pixels keep the pure colour
                continue
            pure = np.array(colour_of(label)).reshape(3, 1, 1) / 255
            rows, columns = np.nonzero((np.abs(image.numpy() - pure) < 0.09).all(axis=0))
            assert len(rows), f"nothing of label {label} in the picture of seed {seed}"
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            blur = 2 + 1.5 * max(image.shape[1] / HEIGHT, 1)
            assert np.abs(np.array(edges) - [x1, y1, x2, y2]).max() <= blur
            found += 1
            rows, columns = np.nonzero(target["masks"][target["labels"] == label][0].numpy())
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(np.array(edges) - [x1, y1, x2, y2]).max() <= 1
    assert found > 150


@pytest.mark.parametrize("preset", COLOURED)
def test_the_seed_alone_decides(preset):
    transform = COLOURED[preset]
    elsewhere = pickle.loads(pickle.dumps(transform))  # as in a loader process
    differs = 0
    for seed in (3, 2**62 + 5, 7):
        sample = traced_sample(1)
        image, target = transform(sample, seed)
        transform(traced_sample(2), 99)
        other_image, other_target = elsewhere(sample, seed)
        assert torch.equal(image, other_image)
        assert torch.equal(target["boxes"], other_target["boxes"])
        differs += not torch.equal(image, transform(sample, seed + 1)[0])
    assert differs == 0 if preset in UNCHANGED else differs > 0


@pytest.mark.parametrize("preset", COLOURED)
def test_the_sample_is_not_written_to(preset):
    sample = traced_sample(4)
    before = {key: np.array(value) for key, value in sample.items()}
    for seed in range(20):
        image, target = COLOURED[preset](sample, seed)
        image.zero_()
        target["boxes"].zero_()
        target["labels"].zero_()
    for key, value in sample.items():
        np.testing.assert_array_equal(value, before[key])


def test_flip_by_hand():
    sample = traced_sample(0) | {
        "boxes": np.array([[10, 20, 30, 50]], np.float32), "labels": np.array([4]), "difficult": np.array([True]),
    }  # fmt: skip
    del sample["masks"], sample["crowd"]
    results = {tuple(FlipOnly()(sample, seed).target["boxes"][0].tolist()) for seed in range(20)}
    assert results == {(10, 20, 30, 50), (WIDTH - 30, 20, WIDTH - 10, 50)}


def test_evaluation_keeps_the_smallest_object_and_restores_exactly():
    sample = traced_sample(0) | {
        "boxes": np.array([[10, 20, 11, 21], [0, 0, WIDTH, HEIGHT]], np.float32),
        "labels": np.array([4, 5]), "difficult": np.array([True, False]),
    }  # fmt: skip
    del sample["masks"], sample["crowd"]
    image, target = DetectionEval(16)(sample, 0)
    assert target["boxes"][1].tolist() == [0, 0, 16, 16]
    assert target["boxes"][0].tolist() == pytest.approx([1, 20 / 120 * 16, 1.1, 21 / 120 * 16])
    restored = restore_boxes(target["boxes"], target["placement"])
    torch.testing.assert_close(restored, torch.from_numpy(sample["boxes"]))
    torch.testing.assert_close(DetectionEval(16).image(sample["image"]), image)


def test_stretch_takes_area_means_where_it_shrinks():
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2, :2] = [[[0], [40]], [[80], [120]]]
    assert stretch(image, 2, 2)[..., 0].tolist() == [[60, 0], [0, 0]]


def test_restoring_no_boxes():
    assert restore_boxes(torch.zeros(0, 4), Placement(0.5, 0.3)).shape == (0, 4)


# --- the parts of SSD's augmentation


def loop_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@pytest.mark.parametrize("least", [0.0, 0.1, 0.5, 0.9])
def test_crops_fulfil_the_rule(monkeypatch, least):
    monkeypatch.setattr(ssd_module, "_MIN_OVERLAPS", (least, None))
    cropped = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        corner = rng.uniform(-20, 40, (3, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(20, 180, (3, 2))], axis=1).astype(np.float32)
        canvas = Window(-20.0, -10.0, 230.0, 210.0)
        boxes[0] = (-15, -8, 225, 207) if least == 0.9 else boxes[0]  # random boxes are seldom overlapped by so much
        crop = iou_crop(boxes, canvas, rng)
        if crop == canvas:
            continue
        cropped += 1
        assert max(loop_iou(crop, box) for box in boxes.tolist()) >= least - 1e-6
        centres = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in boxes.tolist()]
        assert any(crop.x1 <= x <= crop.x2 and crop.y1 <= y <= crop.y2 for x, y in centres)
        assert canvas.x1 <= crop.x1 < crop.x2 <= canvas.x2 + 1e-9
        assert canvas.y1 <= crop.y1 < crop.y2 <= canvas.y2 + 1e-9
        width, height = (crop.x2 - crop.x1) / 250, (crop.y2 - crop.y1) / 220
        assert 0.5 - 1e-9 <= width / height <= 2 + 1e-9
        assert 0.3**2 - 1e-9 <= width * height <= 1
    assert cropped > 80


def test_a_scene_without_boxes_is_not_cropped():
    canvas = Window(0.0, 0.0, 9.0, 9.0)
    assert iou_crop(np.zeros((0, 4), np.float32), canvas, np.random.default_rng(0)) == canvas


def test_zoom_out_holds_the_picture():
    zooms = []
    for seed in range(200):
        canvas = zoom_out(30, 50, 4.0, np.random.default_rng(seed))
        assert canvas.x1 <= 0
        assert canvas.y1 <= 0
        assert canvas.x2 >= 50 - 1e-9
        assert canvas.y2 >= 30 - 1e-9
        zooms.append((canvas.x2 - canvas.x1) / 50)
        assert (canvas.y2 - canvas.y1) / 30 == pytest.approx(zooms[-1])
    assert 1 <= min(zooms) < 1.2
    assert 3.8 < max(zooms) <= 4


def test_a_box_stays_if_its_centre_is_inside_and_is_clipped():
    boxes = np.array([[0, 0, 10, 10], [4, 4, 20, 20], [7, 0, 15, 4], [9.95, 5, 10.02, 6]], np.float32)
    window = Window(0.0, 0.0, 10.0, 10.0)
    kept, moved = _boxes_in(boxes, window, (Cut((0, 10), (0, 20)), Cut((0, 10), (0, 20))), 20)
    assert kept.tolist() == [0]  # centres 5, 12, 11; the last is inside but a seventh of a pixel wide
    assert moved.tolist() == [[0, 0, 20, 20]]
    kept, moved = _boxes_in(boxes, Window(2.0, 2.0, 13.0, 13.0), (Cut((2, 13), (0, 11)), Cut((2, 13), (0, 11))), 11)
    assert kept.tolist() == [0, 1, 2]  # the centre of the third is at (11, 2), on the window's edge
    assert moved.tolist() == [[0, 0, 8, 8], [2, 2, 11, 11], [5, 0, 11, 2]]


@pytest.mark.parametrize(
    ("low", "high", "extent", "expected"),
    [
        (0.0, 10.0, 10, ((0, 10), (0, 20))),  # everything
        (-10.0, 30.0, 10, ((0, 10), (5, 10))),  # zoomed out four times
        (2.4, 7.6, 10, ((2, 8), (0, 20))),  # cut at whole pixels
        (9.7, 13.0, 10, ((9, 10), (0, 2))),  # at least one pixel
    ],
)
def test_cuts_by_hand(low, high, extent, expected):
    assert _cut(low, high, extent, 20) == expected


def test_outside_the_picture_is_the_mean_colour():
    sample = traced_sample(3) | {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}
    sample |= {"difficult": np.zeros(0, np.bool_), "image": np.zeros((40, 60, 3), np.uint8)}
    del sample["masks"], sample["crowd"]
    shares = []
    for seed in range(30):
        image, target = SSDTrain(64, zoom_probability=1.0, colour=0)(sample, seed)
        outside = (image.mul(255).round() == torch.tensor(MEAN_COLOUR).view(3, 1, 1)).all(dim=0)
        assert (image[:, ~outside] == 0).all()
        shares.append(outside.float().mean().item())
        assert target["boxes"].shape == (0, 4)
    assert max(shares) > 0.8


def test_a_zoom_below_one_is_refused():
    with pytest.raises(ValueError, match="max_zoom"):
        SSDTrain(64, max_zoom=0.5)


def test_colours_without_strength_are_the_same_and_grey_stays_grey():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    grey = np.repeat(image[..., :1], 3, axis=2)
    changed = 0
    for seed in range(40):
        np.testing.assert_array_equal(distort_colours(image, np.random.default_rng(seed), strength=0), image)
        result = distort_colours(grey, np.random.default_rng(seed))
        assert (result == result[..., :1]).all()
        changed += not np.array_equal(result, grey)
    assert changed > 20  # brightness or contrast: three times in four


def test_gains_by_hand():
    image = np.full((2, 2, 3), 200, np.uint8)
    gains = np.random.default_rng(5).uniform(0.5, 1.5, 3)
    expected = np.minimum(200 * gains, 255).astype(np.uint8)
    np.testing.assert_array_equal(channel_gains(image, 0.5, np.random.default_rng(5))[0, 0], expected)
    assert channel_gains(image, 0.0, np.random.default_rng(5)) is image


# --- class masks


def mask_sample(seed, height=HEIGHT, width=WIDTH):
    """Blocks of classes, painted in a colour that tells the class."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 6, (height // 20 + 1, width // 20 + 1)).astype(np.uint8)
    mask = np.kron(blocks, np.ones((20, 20), np.uint8))[:height, :width]
    mask[:3] = VOID
    image = np.stack([np.where(mask == VOID, 0, mask * 40)] * 3, axis=-1).astype(np.uint8)
    return {"image_id": f"blocks_{seed}", "image": image, "mask": mask}


MASKS = {
    "flip": SegmentationFlip(),
    "train": SegmentationTrain(96, colour=0),
    "train large": SegmentationTrain(200, scale=(0.5, 0.9), colour=0),
    "eval": SegmentationEval(32),
    "pipeline": SegmentationPipeline([A.HorizontalFlip(p=0.5), A.RandomCrop(64, 64)]),
}


@pytest.mark.parametrize("preset", MASKS)
def test_each_class_lies_where_its_colour_is(preset):
    for seed in range(100):
        sample = mask_sample(seed, 120, 150)
        image, mask, image_id, *_ = MASKS[preset](sample, seed)
        assert image_id == sample["image_id"]
        assert (image.dtype, mask.dtype) == (torch.float32, torch.int64)
        assert image.shape == (3, *mask.shape)
        assert set(np.unique(mask.numpy()).tolist()) <= {*range(6), VOID}
        counted = mask != VOID
        error = np.abs(image[0].numpy() * 255 - mask.numpy() * 40)[counted.numpy()]
        assert (error < 1).mean() > 0.85  # all but the blended borders of the blocks


@pytest.mark.parametrize("preset", MASKS)
def test_the_seed_alone_decides_for_masks(preset):
    transform, sample = MASKS[preset], mask_sample(0)
    elsewhere = pickle.loads(pickle.dumps(transform))
    for seed in (3, 2**62 + 5):
        image, mask, *_ = transform(sample, seed)
        transform(mask_sample(1), 8)
        other_image, other_mask, *_ = elsewhere(sample, seed)
        assert torch.equal(image, other_image)
        assert torch.equal(mask, other_mask)
    results = [transform(sample, seed).mask for seed in range(8)]
    assert all(torch.equal(result, results[0]) for result in results) == (preset == "eval")


def test_training_crops_have_one_size_and_void_padding():
    void_shares = []
    for seed in range(40):
        image, mask, *_ = SegmentationTrain(160, colour=0)(mask_sample(seed, 100, 100), seed)
        assert mask.shape == (160, 160)
        fill = (np.round(image.numpy() * 255) == np.array(MEAN_COLOUR).reshape(3, 1, 1)).all(axis=0)
        assert (mask.numpy()[fill] == VOID).all()
        void_shares.append((mask.numpy() == VOID).mean())
    assert max(void_shares) > 0.7  # scaled to half
    assert min(void_shares) < 0.1  # scaled to double


@pytest.mark.parametrize(("height", "width", "padded"), [(100, 129, (128, 160)), (64, 32, (64, 32)), (1, 1, (32, 32))])
def test_evaluation_pads_right_and_bottom_and_never_resizes(height, width, padded):
    sample = mask_sample(0, height, width)
    image, mask, *_ = SegmentationEval(32)(sample, 0)
    assert tuple(mask.shape) == padded
    np.testing.assert_array_equal(mask[:height, :width].numpy(), sample["mask"])
    assert (mask[height:] == VOID).all()
    assert (mask[:, width:] == VOID).all()
    np.testing.assert_array_equal((image[:, :height, :width] * 255).round().byte().permute(1, 2, 0), sample["image"])
    torch.testing.assert_close(SegmentationEval(32).image(sample["image"]), image)
