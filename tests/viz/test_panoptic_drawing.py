import numpy as np
import pytest
import torch

from lightning_cv.contracts import LabelMap
from lightning_cv.viz.panoptic import segments_beside_truth, segments_picture

LABELS = LabelMap(("sky", "disc"), 0, (0, 1))
THINGS = (False, True)


def halves(side):
    segments = torch.ones(side, side, dtype=torch.int64)
    segments[:, side // 2 :] = 2
    return segments


def colours_at(drawn, *places):
    return [tuple(drawn[place].tolist()) for place in places]


def test_two_things_of_a_class_differ_in_colour_and_stuff_does_not():
    image, segments = torch.full((3, 300, 300), 0.5), halves(300)
    left, right = (10, 10), (10, 290)  # far from the names
    things = segments_picture(image, segments, torch.tensor([1, 1]), LABELS, THINGS, opacity=1.0)
    stuff = segments_picture(image, segments, torch.tensor([0, 0]), LABELS, THINGS, opacity=1.0)
    assert len(set(colours_at(things, left, right))) == 2
    assert len(set(colours_at(stuff, left, right))) == 1
    assert not set(colours_at(things, left, right)) & set(colours_at(stuff, left, right))
    assert things[10, 149].tolist() == [255, 255, 255]  # the line between them
    assert things[10, 148].tolist() == things[10, 10].tolist()


def test_void_stays_clear_and_no_segment_is_no_error():
    image = torch.full((3, 256, 256), 0.5)
    drawn = segments_picture(image, torch.zeros(256, 256, dtype=torch.int64), torch.zeros(0).long(), LABELS, THINGS)
    assert (drawn == 128).all()
    with pytest.raises(ValueError, match="size of their image"):
        segments_picture(image, halves(4), torch.tensor([0, 1]), LABELS, THINGS)


def test_beside_the_truth():
    truth = {"segments": halves(64), "labels": torch.tensor([0, 1])}
    drawn = segments_beside_truth(torch.rand(3, 64, 64), truth, truth, LABELS, THINGS)
    image, true, found = np.split(drawn[:, : drawn.shape[1] // 3 * 3], 3, axis=1)
    assert image.std() > 5
    assert true.std() > 5
    assert found.std() > 5
