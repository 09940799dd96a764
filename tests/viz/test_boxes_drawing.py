import numpy as np
import torch

from lightning_cv.contracts import LabelMap
from lightning_cv.viz.boxes import (
    Tag,
    above_score,
    boxes_beside_truth,
    detections_picture,
    draw_tags,
    target_picture,
)
from lightning_cv.viz.canvas import class_colour

LABELS = LabelMap(("disc", "star"), 1, (1, 2))


def found(boxes, scores, labels):
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "scores": torch.tensor(scores),
            "labels": torch.tensor(labels, dtype=torch.int64)}  # fmt: skip


def target(boxes, labels, difficult):
    return {"image_id": "a", "boxes": torch.tensor(boxes).reshape(-1, 4), "difficult": torch.tensor(difficult),
            "labels": torch.tensor(labels, dtype=torch.int64), "original_size": (400, 400)}  # fmt: skip


def has(image, colour):
    return (image == np.array(colour)).all(-1)


def test_the_outline_lies_on_the_boxs_pixels_and_the_inside_stays():
    image = np.zeros((400, 400, 3), np.uint8)
    drawn = draw_tags(image, [Tag((100, 150, 200, 250), "disc", (255, 0, 0))])
    red = has(drawn, (255, 0, 0))
    assert red[150:250, 100].all()
    assert red[249, 100:200].all()  # the far edge is exclusive
    assert not red[250].any()
    assert not red[160:240, 110:190].any()
    assert image.max() == 0  # the input is not drawn on


def test_a_small_image_is_enlarged_with_its_boxes():
    drawn = detections_picture(torch.zeros(3, 100, 100), found([[20.0, 40.0, 60.0, 80.0]], [0.9], [2]), LABELS)
    assert drawn.shape == (300, 300, 3)
    rows, columns = np.nonzero(has(drawn, class_colour(2)))
    assert columns.min() == 60
    assert rows.max() == 239


def test_difficult_objects_are_dashed():
    box = [[50.0, 50.0, 350.0, 350.0]]
    easy = has(target_picture(torch.zeros(3, 400, 400), target(box, [1], [False]), LABELS), class_colour(1))
    hard = has(target_picture(torch.zeros(3, 400, 400), target(box, [1], [True]), LABELS), class_colour(1))
    assert easy[349, 50:350].all()
    assert 0.3 < hard[349, 50:350].mean() < 0.7


def test_boxes_at_the_border_outside_and_empty_are_drawn_without_error():
    boxes = [[-5.0, -5.0, 20.0, 20.0], [390.0, 390.0, 420.0, 420.0], [30.0, 30.0, 30.0, 30.0], [500.0, 1.0, 600.0, 9.0]]
    drawn = detections_picture(torch.zeros(3, 400, 400), found(boxes, [0.1] * 4, [1, 2, 1, 2]), LABELS)
    assert drawn.shape == (400, 400, 3)
    assert has(drawn, class_colour(1)).any()


def test_beside_the_truth_even_with_nothing_in_it():
    empty = found([], [], [])
    both = boxes_beside_truth(torch.zeros(3, 64, 96), empty, target([], [], []), LABELS)
    single = detections_picture(torch.zeros(3, 64, 96), empty, LABELS)
    assert both.shape[1] > 2 * single.shape[1]
    assert both.shape[0] > single.shape[0]


def test_above_score_includes_the_threshold():
    kept = above_score(found([[0.0, 0.0, 1.0, 1.0]] * 3, [0.9, 0.5, 0.4], [1, 2, 1]), 0.5)
    assert kept["labels"].tolist() == [1, 2]


def test_above_score_keeps_the_masks_of_what_it_keeps():
    masks = torch.arange(3)[:, None, None] == torch.arange(3)[None, :, None].expand(1, 3, 2)  # row n is of mask n
    both = found([[0.0, 0.0, 1.0, 1.0]] * 3, [0.4, 0.9, 0.5], [1, 2, 1]) | {"masks": masks}
    assert torch.equal(above_score(both, 0.5)["masks"], masks[1:])
    assert "masks" not in above_score(found([], [], []), 0.5)


def test_the_best_scores_mask_is_on_top_and_the_picture_stays_beside_it():
    image = torch.full((3, 400, 400), 0.2)
    masks = torch.zeros(2, 400, 400, dtype=torch.bool)
    masks[0, :, 100:300] = True
    masks[1, :, 200:400] = True
    both = found([[-9.0, -9.0, -8.0, -8.0]] * 2, [0.9, 0.5], [1, 2]) | {"masks": masks}
    row = detections_picture(image, both, LABELS)[200].astype(int)
    mixed = {label: (51 + np.array(class_colour(label))) / 2 for label in (1, 2)}
    assert (row[:100] == 51).all()
    assert np.abs(row[100:300] - mixed[1]).max() <= 0.5
    assert np.abs(row[300:] - mixed[2]).max() <= 0.5


def test_masks_of_the_truth_are_shown_beside_masks_only_and_the_smaller_is_on_top():
    image, box = torch.zeros(3, 320, 320), [[-9.0, -9.0, -8.0, -8.0]]
    masks = torch.zeros(2, 320, 320, dtype=torch.bool)
    masks[0, 100:200, 100:200] = True
    masks[1] = True
    truth = target(box * 2, [1, 2], [False, False]) | {"masks": masks}
    guess = found(box, [0.9], [1])
    plain = boxes_beside_truth(image, guess, target(box * 2, [1, 2], [False, False]), LABELS)
    assert np.array_equal(boxes_beside_truth(image, guess, truth, LABELS), plain)
    shown = boxes_beside_truth(image, guess | {"masks": masks[:1]}, truth, LABELS)
    top = shown.shape[0] - 320  # below the heading
    assert np.abs(shown[top + 150, 150] - np.array(class_colour(1)) / 2).max() <= 0.5
    assert np.abs(shown[top + 50, 150] - np.array(class_colour(2)) / 2).max() <= 0.5


def test_a_box_far_beyond_the_picture_is_drawn_at_once():
    image = torch.zeros(3, 400, 400)
    huge, large = (
        detections_picture(image, found([[-side, 50.0, side, 90.0]], [0.5], [1]), LABELS) for side in (1e12, 1e4)
    )
    assert np.array_equal(huge, large)
    assert huge.any()


def test_boxes_that_are_not_finite_are_left_out():
    nan, inf = float("nan"), float("inf")
    boxes = [[nan, 1.0, 9.0, 9.0], [0.0, 0.0, inf, 20.0], [50.0, 50.0, 90.0, 90.0]]
    image = torch.zeros(3, 400, 400)
    alone = detections_picture(image, found(boxes[2:], [0.5], [2]), LABELS)
    assert np.array_equal(detections_picture(image, found(boxes, [0.5] * 3, [1, 1, 2]), LABELS), alone)
