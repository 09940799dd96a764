"""Panoptic presets: picture and segments stay together, nothing is numbered that is not seen."""

import numpy as np
import pytest
import torch

from lightning_cv.datamodules.batches_panoptic import collate_panoptic, pad_images
from lightning_cv.transforms import MEAN_COLOUR
from lightning_cv.transforms.panoptic import PanopticEval, PanopticShorterSide, PanopticTrain, _window


def a_sample(height=40, width=60, segments=None):
    """Three segments: the left half, a square at the right, the rest; a void row at the bottom.

    The red of each pixel is 80 times its segment, so that the picture says where its segments are.
    """
    if segments is None:
        segments = np.full((height, width), 3, np.int32)
        segments[:, : width // 2] = 1
        segments[5:15, -15:-5] = 2
        segments[-1] = 0
    image = np.zeros((*segments.shape, 3), np.uint8)
    image[..., 0] = 80 * segments
    return {
        "image_id": "a",
        "image": image,
        "segments": segments,
        "labels": np.array([4, 0, 7]),
        "is_thing": np.array([True, False, True]),
        "crowd": np.array([False, False, True]),
    }


def test_evaluation_keeps_the_picture_and_says_where_it_is():
    image, target = PanopticEval(20, 100)(a_sample(), 0)
    assert image.shape == (3, 20, 30)
    assert target["segments"].shape == (20, 30)
    assert target["segments"].dtype == target["labels"].dtype == torch.int64
    assert target["segments"][3, [0, 14, 15, 29, 25]].tolist() == [1, 1, 3, 3, 2]
    assert target["original_size"] == (40, 60)
    assert target["placement"] == (0.5, 0.5, 0, 0)
    assert torch.equal(PanopticEval(20, 100).image(a_sample()["image"]), image)
    assert PanopticEval(20, 100).placement(40, 60) == target["placement"]


def test_the_longer_side_has_its_limit():
    assert PanopticEval(20, 24)(a_sample(), 0).image.shape == (3, 16, 24)


def test_at_its_own_size_nothing_changes():
    sample = a_sample()
    image, target = PanopticEval(40, 60)(sample, 0)
    np.testing.assert_array_equal(target["segments"], sample["segments"])
    np.testing.assert_allclose(image.permute(1, 2, 0) * 255, sample["image"], atol=1e-4)
    assert target["labels"].tolist() == [4, 0, 7]
    assert target["crowd"].tolist() == [False, False, True]


def test_a_segment_that_vanishes_is_dropped_and_the_others_are_numbered_anew():
    segments = np.full((40, 60), 3, np.int32)
    segments[:, :30] = 1
    segments[0, 59] = 2  # a pixel that no centre of the small picture lies in
    _, target = PanopticEval(10, 15)(a_sample(segments=segments), 0)
    assert target["segments"].unique().tolist() == [1, 2]
    assert target["labels"].tolist() == [4, 7]
    assert target["is_thing"].tolist() == [True, True]
    assert target["crowd"].tolist() == [False, True]


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.3, 0.6), (1.5, 2.5)])
def test_training_keeps_picture_and_segments_together(scale):
    sample = a_sample()
    for seed in range(40):
        image, target = PanopticTrain(48, scale)(sample, seed)
        assert image.shape == (3, 48, 48)
        assert target["segments"].shape == (48, 48)
        numbers = target["segments"]
        assert numbers.unique().tolist() in (
            [*range(len(target["labels"]) + 1)],
            [*range(1, len(target["labels"]) + 1)],
        )
        red_of = {4: 80, 0: 160, 7: 240}
        expected = torch.tensor([0, *(red_of[label] for label in target["labels"].tolist())])[numbers]
        padding = (image[2] * 255 - MEAN_COLOUR[2]).abs() < 0.5  # the picture has no blue
        assert (numbers[padding] == 0).all()
        close = ((image[0] * 255 - expected).abs() < 1) | padding
        assert close.float().mean() > 0.85  # but for the blurred edges between segments
        assert target["original_size"] == (40, 60)


def test_training_is_a_function_of_the_seed():
    preset, sample = PanopticTrain(48), a_sample()
    results = [preset(sample, seed) for seed in (3, 3, 4)]
    assert torch.equal(results[0].image, results[1].image)
    assert torch.equal(results[0].target["segments"], results[1].target["segments"])
    assert not torch.equal(results[0].image, results[2].image)
    assert sample["segments"].tolist() == a_sample()["segments"].tolist()


def test_training_mirrors_every_second_time():
    sample = a_sample(48, 48)
    first = [PanopticTrain(48, (1.0, 1.0))(sample, seed).target["segments"][0, 0].item() for seed in range(200)]
    assert set(first) == {1, 3}
    assert 70 < first.count(1) < 130


def test_a_picture_without_segments():
    sample = a_sample(segments=np.zeros((40, 60), np.int32))
    for preset in (PanopticEval(20, 40), PanopticTrain(32)):
        target = preset(sample, 0).target
        assert target["labels"].shape == target["crowd"].shape == (0,)
        assert (target["segments"] == 0).all()


def test_the_shorter_side_is_one_of_those_given():
    preset = PanopticShorterSide([20, 30], 40)
    shapes = {tuple(preset(a_sample(), seed).image.shape) for seed in range(30)}
    assert shapes == {(3, 20, 30), (3, 27, 40)}  # 30 would make the longer side 45
    firsts = [preset(a_sample(), seed).target["segments"][0, 0].item() for seed in range(200)]
    assert 70 < firsts.count(1) < 130  # mirrored every second time
    assert "placement" not in preset(a_sample(), 0).target


def test_every_second_picture_is_cut_before():
    """Brought to a shorter side of 80 and cut to squares of 40, of which most show one segment; then enlarged."""
    preset = PanopticShorterSide([60], 200, before_crop=[80], crop=(40, 40))
    shapes = [tuple(preset(a_sample(), seed).image.shape[1:]) for seed in range(200)]
    assert set(shapes) == {(60, 90), (60, 60)}
    assert 70 < shapes.count((60, 60)) < 130
    small = PanopticShorterSide([60], 200, before_crop=[10], crop=(40, 50))  # the picture is its own window
    assert {tuple(small(a_sample(), seed).image.shape[1:]) for seed in range(20)} == {(60, 90)}
    sides = {tuple(PanopticShorterSide([8], 200, [40], (5, 9))(a_sample(), seed).image.shape[1:]) for seed in range(50)}
    assert {(8, 8), (8, 14), (14, 8)} <= sides  # squares of any side, and 5 x 9


def test_any_length_of_a_window_that_fits_is_as_likely_as_another():
    sample, rng = a_sample(80, 300), np.random.default_rng(0)
    shapes = [_window(sample["image"], sample["segments"], 2.0, (80, 400), rng)[1].shape for _ in range(1000)]
    heights, widths = (np.array(sides) for sides in zip(*shapes, strict=True))
    assert (heights.min(), heights.max(), widths.min(), widths.max()) == (40, 80, 40, 200)
    assert heights.mean() == pytest.approx(60, abs=1.5)
    assert widths.mean() == pytest.approx(120, abs=6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PanopticShorterSide([], 5),
        lambda: PanopticShorterSide([9], 5),
        lambda: PanopticShorterSide([9], 9, [0]),
        lambda: PanopticShorterSide([9], 9, [5], (4, 3)),
        lambda: PanopticEval(0, 5),
        lambda: PanopticEval(9, 5),
        lambda: PanopticTrain(0),
        lambda: PanopticTrain(8, (2.0, 1.0)),
    ],
)
def test_settings_that_make_no_sense(make):
    with pytest.raises(ValueError, match="Panoptic"):
        make()


def test_a_batch_is_padded_with_void_to_a_multiple_of_32():
    samples = [PanopticEval(40, 60)(a_sample(), 0), PanopticEval(20, 100)(a_sample(), 0)]
    batch = collate_panoptic(samples)
    assert batch["images"].shape == (2, 3, 64, 64)
    for prepared, image, target in zip(samples, batch["images"], batch["targets"], strict=True):
        rows, columns = prepared.target["segments"].shape
        assert target["segments"].shape == (64, 64)
        assert torch.equal(target["segments"][:rows, :columns], prepared.target["segments"])
        assert torch.equal(image[:, :rows, :columns], prepared.image)
        outside = torch.ones(64, 64, dtype=torch.bool)
        outside[:rows, :columns] = False
        assert (target["segments"][outside] == 0).all()
        torch.testing.assert_close(image[:, outside].mean(dim=1) * 255, torch.tensor(MEAN_COLOUR, dtype=torch.float32))
    assert samples[1].target["segments"].shape == (20, 30)  # the prepared sample is left as it is


def test_a_batch_that_fits_is_not_padded():
    assert pad_images([torch.zeros(3, 32, 96), torch.zeros(3, 31, 65)]).shape == (2, 3, 32, 96)
