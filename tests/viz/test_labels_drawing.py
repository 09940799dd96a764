import numpy as np
import torch

from lightning_cv.contracts import LabelMap
from lightning_cv.viz.canvas import class_colour
from lightning_cv.viz.labels import labels_below_truth, labels_on, plane_as_mask, tint_labels
from lightning_cv.viz.masks import display_palette

LABELS = LabelMap(("disc", "star", "ring"), 1, (1, 2, 3))


def planes(*on):
    """Three planes of 4 x 4 pixels; each number of `on` is on in its own column and in column 0."""
    made = torch.zeros(3, 4, 4, dtype=torch.int64)
    for number in on:
        made[number, :, 0] = made[number, :, number + 1] = 1
    return made


def test_the_labels_that_are_on_anywhere():
    assert labels_on(planes(2), planes(0), LABELS) == [1, 3]
    assert labels_on(planes(), planes(), LABELS) == []
    assert labels_on(planes(), torch.full((3, 4, 4), 255), LABELS) == []


def test_a_plane_as_a_class_mask():
    assert plane_as_mask(torch.tensor([[0, 1, 255]]), 7).tolist() == [[0, 7, 255]]


def test_overlapping_labels_mix_their_colours():
    black = np.zeros((4, 4, 3), np.uint8)
    drawn = tint_labels(black, planes(0, 1), LABELS).astype(int)
    disc, star = np.array(class_colour(1)), np.array(class_colour(2))
    assert np.abs(drawn[0, 1] - disc / 2).max() <= 1
    assert np.abs(drawn[0, 2] - star / 2).max() <= 1
    assert np.abs(drawn[0, 0] - (disc / 4 + star / 2)).max() <= 1
    assert (drawn[:, 3] == 0).all()
    assert np.array_equal(tint_labels(black, planes(), LABELS), black)


def test_a_column_a_label_with_the_truth_above_the_prediction():
    image, targets = torch.zeros(3, 4, 4), planes(0)
    targets[0, 0] = 255
    drawn = labels_below_truth(image, planes(2), targets, LABELS)
    only_image = labels_below_truth(image, planes(), planes(), LABELS)
    side = only_image.shape[1]
    assert drawn.shape[1] == 3 * side + 2 * 6  # the image, disc, ring, and gaps between
    assert drawn.shape[0] == 22 + 2 * (6 + side)  # heading, truth, prediction
    halves = drawn[28 : 28 + side], drawn[34 + side :]
    palette = display_palette().astype(float)
    tints = {label: (palette[label] * 0.65).round().astype(np.uint8) for label in (1, 3, 255)}
    seen = [{label for label, tint in tints.items() if (half == tint).all(-1).any()} for half in halves]
    assert seen == [{1, 255}, {3}]
