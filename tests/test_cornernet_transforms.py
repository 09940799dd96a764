import numpy as np
import pytest
import torch

from lightning_cv.transforms import CornerNetTrain, OriginalSizeEval
from lightning_cv.transforms.cornernet import recolour


def sample(height: int = 60, width: int = 80, boxes: tuple[tuple[int, int, int, int], ...] = ((20, 10, 50, 40),)):
    """Grey with a white rectangle an object."""
    image = np.full((height, width, 3), 100, np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 255
    count = len(boxes)
    return {
        "image_id": "one",
        "image": image,
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.arange(1, count + 1),
        "difficult": np.zeros(count, bool),
    }


PLAIN = {"colour": 0.0, "lighting": 0.0}


@pytest.mark.parametrize("seed", range(12))
def test_at_scale_1_a_box_is_where_its_pixels_are_and_the_outside_is_black(seed):
    prepared = CornerNetTrain(64, scales=[1.0], border=16, **PLAIN)(sample(), seed)
    assert prepared.image.shape == (3, 64, 64)
    ys, xs = (prepared.image[0] == 1).nonzero(as_tuple=True)
    box = [float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)]
    assert prepared.target["boxes"].tolist() == [box]
    assert set((prepared.image * 255).round().unique().tolist()) <= {0.0, 100.0, 255.0}


def test_the_windows_scale_is_the_objects():
    """A window of half the side shows an object twice as large."""
    sides = set()
    for seed in range(20):
        boxes = CornerNetTrain(64, scales=[0.5], border=30, **PLAIN)(sample(boxes=((38, 28, 42, 32),)), seed).target
        sides |= {tuple((box[2:] - box[:2]).tolist()) for box in boxes["boxes"]}
    assert sides == {(8.0, 8.0)}


def test_a_window_keeps_every_object_of_which_it_shows_a_pixel():
    """Unlike SSD's crop it does not ask for the centre."""
    seen = [CornerNetTrain(20, scales=[1.0], border=8, **PLAIN)(sample(boxes=((0, 0, 30, 60),)), s) for s in range(30)]
    for one in seen:
        assert len(one.target["boxes"]) == int((one.image == 1).any())
    assert {len(one.target["boxes"]) for one in seen} == {0, 1}


def test_the_point_keeps_the_border_or_its_halves():
    """In a picture of 40 pixels a border of 32 becomes 16: the middle of the window is 16 to 23 from each edge."""
    picture = sample(40, 40, boxes=())
    for seed in range(20):
        image = CornerNetTrain(80, scales=[1.0], border=32, **PLAIN)(picture, seed).image[0]
        ys, xs = image.nonzero(as_tuple=True)
        assert len(ys) == 1600
        assert {17 <= int(xs.min()) <= 24, 17 <= int(ys.min()) <= 24} == {True}


def test_colours_change_and_boxes_do_not():
    plain, changed = (CornerNetTrain(64, border=16, **kind)(sample(), 3) for kind in (PLAIN, {}))
    assert torch.equal(plain.target["boxes"], changed.target["boxes"])
    assert not torch.equal(plain.image, changed.image)


def test_lighting_moves_all_pixels_by_one_colour():
    image = np.full((4, 4, 3), 120, np.uint8)
    image[0] = 60
    shift = recolour(image, np.random.default_rng(0), 0.0, 0.5).astype(int) - image
    assert (shift == shift[0, 0]).all()
    assert shift.any()


def test_the_original_size_is_the_file():
    one = sample()
    prepared = OriginalSizeEval()(one, 0)
    assert prepared.image.shape == (3, 60, 80)
    assert prepared.target["boxes"].tolist() == one["boxes"].tolist()
    assert prepared.target["placement"] == (1.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"border": -1}, {"scales": []}, {"colour": 1.0}, {"lighting": -1.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="CornerNetTrain: size at least 1"):
        CornerNetTrain(**wrong)
