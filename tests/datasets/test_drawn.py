"""Drawn scenes: a function of the seed, and a truth that fits the pixels."""

import numpy as np
import pytest

from lightning_cv.datasets.drawn import (
    DRAWN_CLASSES,
    MIN_VISIBLE_PIXELS,
    SPLITS,
    _what_is_seen,
    draw_scene,
    scene_seed,
)


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(scene_seed(3, "train", index)) for index in range(150)]


def loop_box(mask):
    """Slow oracle: the box around the set pixels, far edge exclusive."""
    x1, y1, x2, y2 = mask.shape[1], mask.shape[0], 0, 0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                x1, y1, x2, y2 = min(x1, x), min(y1, y), max(x2, x + 1), max(y2, y + 1)
    return [x1, y1, x2, y2]


def test_a_scene_is_a_function_of_its_seed():
    first, again = draw_scene(11), draw_scene(11)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first.image, draw_scene(12).image)


def test_seeds_differ_between_splits_and_indices():
    seeds = {scene_seed(seed, split, index) for seed in range(5) for split in SPLITS for index in range(50)}
    assert len(seeds) == 5 * 3 * 50
    with pytest.raises(ValueError, match="'dev'"):
        scene_seed(0, "dev", 0)


def test_types_and_shapes(scenes):
    scene = scenes[0]
    count = len(scene.labels)
    assert (scene.image.shape, scene.image.dtype) == ((128, 128, 3), np.uint8)
    assert (scene.boxes.shape, scene.boxes.dtype) == ((count, 4), np.float32)
    assert scene.labels.dtype == np.int64
    assert (scene.class_mask.shape, scene.class_mask.dtype) == ((128, 128), np.uint8)
    assert (scene.instance_masks.shape, scene.instance_masks.dtype) == ((count, 128, 128), np.bool_)


def test_boxes_hold_exactly_the_visible_pixels(scenes):
    for scene in scenes[:15]:
        assert scene.boxes.tolist() == [loop_box(mask) for mask in scene.instance_masks]


def test_masks_agree_with_each_other(scenes):
    for scene in scenes:
        assert scene.instance_masks.sum(axis=0).max() == 1  # disjoint
        from_objects = (scene.instance_masks * scene.labels[:, None, None]).sum(axis=0)
        np.testing.assert_array_equal(from_objects, scene.class_mask)
        assert all(mask.sum() >= MIN_VISIBLE_PIXELS for mask in scene.instance_masks)


def test_scenes_have_all_classes_one_to_eight_objects_and_overlap(scenes):
    labels = np.concatenate([scene.labels for scene in scenes])
    assert set(labels.tolist()) == set(range(1, len(DRAWN_CLASSES) + 1))
    counts = np.bincount([len(scene.labels) for scene in scenes], minlength=9)
    assert counts[0] == 0
    assert len(counts) == 9
    assert (counts[1:8] > 0).all()
    boxes_overlap = 0
    for scene in scenes:
        corners = np.maximum(scene.boxes[:, None, :2], scene.boxes[None, :, :2])
        ends = np.minimum(scene.boxes[:, None, 2:], scene.boxes[None, :, 2:])
        boxes_overlap += int(((ends - corners > 0).all(axis=-1).sum() - len(scene.boxes)) > 0)
    assert boxes_overlap > len(scenes) / 2


def test_a_later_object_covers_an_earlier_one_and_hides_it_below_a_fifth():
    wide, half, most = np.zeros((3, 10, 10), np.bool_)
    wide[:, :] = True
    half[:, :5] = True
    most[:, :9] = True
    behind, ahead = _what_is_seen([(1, wide), (2, half)])
    assert (behind.label, ahead.label) == (1, 2)
    np.testing.assert_array_equal(behind.visible, ~half)
    np.testing.assert_array_equal(behind.whole, wide)
    np.testing.assert_array_equal(ahead.visible, half)
    assert [one.label for one in _what_is_seen([(1, wide), (2, most)])] == [2]  # a tenth of the first is left


def test_a_hidden_object_hides_nothing():
    back, middle, front = np.zeros((3, 10, 10), np.bool_)
    back[:, 8:] = True
    middle[:, :] = True
    front[:, :9] = True
    seen = _what_is_seen([(1, back), (2, middle), (3, front)])
    assert [one.label for one in seen] == [3]  # 10 pixels of each of the others: fewer than 16
    front[:, 8:] = False
    seen = _what_is_seen([(1, back), (2, middle), (3, front)])
    assert [one.label for one in seen] == [2, 3]  # the middle shows 20 of its 100 pixels and hides the back


@pytest.mark.parametrize("size", [32, 96, 200])
def test_objects_scale_with_the_scene(size):
    sides = []
    for seed in range(40):
        scene = draw_scene(seed, size=size, max_objects=1)
        assert len(scene.labels) == 1
        assert scene.image.shape == (size, size, 3)
        sides.append((scene.boxes[0, 2:] - scene.boxes[0, :2]).max() / size)
    assert 0.2 < np.mean(sides) < 0.4  # radius 8 to 30 of 128: diameters 0.13 to 0.47


def test_a_scene_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="32 pixels"):
        draw_scene(0, size=16)
