import pytest
import torch
from oracles import panoptic_merge

from lightning_cv.contracts import VOID, PanopticParts, Placement
from lightning_cv.ops.panoptic import (
    HeuristicMerge,
    MaskWiseMerge,
    instances_of,
    mask_boxes,
    objects_of_segments,
    stuff_mask,
    things_of,
)

IS_THING = torch.tensor([True, False, True, False])


def drawn_parts(seed, masks=9, height=12, width=14):
    """Random rectangles, some empty, some equal in score; of stuff no two overlap, as one class a pixel makes it."""
    numbers = torch.Generator().manual_seed(seed)

    def whole(high, *shape):
        return torch.randint(0, high, shape, generator=numbers)

    is_thing = whole(3, masks) > 0
    canvas, ys, xs = torch.zeros(masks, height, width, dtype=torch.bool), whole(height, masks), whole(width, masks)
    for mask, y, x, h, w in zip(canvas, ys, xs, whole(height, masks), whole(width, masks), strict=True):
        mask[y : y + h, x : x + w] = True
    winner = whole(masks, height, width)
    for q in (~is_thing).nonzero()[:, 0]:
        canvas[q] = (winner == q) | (canvas[q] & ~canvas[:q][~is_thing[:q]].any(dim=0))
        canvas[q] &= ~canvas[:q][~is_thing[:q]].any(dim=0)
    scores = whole(9, masks) / 8  # as float32 they are what they are as numbers of Python
    return PanopticParts(canvas, whole(4, masks), scores, is_thing, torch.zeros(masks, 4))


def as_lists(parts):
    return [field.tolist() for field in parts[:4]]


def check(found, expected):
    segments, canvas = expected
    assert found["segments"].tolist() == canvas
    assert found["labels"].tolist() == [label for label, _ in segments]
    assert found["scores"].tolist() == pytest.approx([score for _, score in segments])


@pytest.mark.parametrize("seed", range(25))
def test_the_heuristic_merge_equals_its_loops(seed):
    parts = drawn_parts(seed)
    for score, overlap, least in ((0.5, 0.5, 6), (0.0, 0.0, 0), (0.75, 1.0, 40), (1.0, 0.25, 168)):
        merge = HeuristicMerge(score, overlap, least / 168)
        check(merge(parts), panoptic_merge.heuristic(*as_lists(parts), score, overlap, least))


@pytest.mark.parametrize("seed", range(25))
def test_the_mask_wise_merge_equals_its_loops(seed):
    parts = drawn_parts(seed)
    for score, things, stuff in ((0.25, 0.4, 0.2), (0.0, 0.0, 0.0), (0.5, 1.0, 0.6), (1.0, 0.4, 0.2)):
        merge = MaskWiseMerge(score, things, stuff)
        check(merge(parts), panoptic_merge.mask_wise(*as_lists(parts), score, things, stuff))


def two_halves():
    """A thing on the left two of three columns, another on the right two, stuff everywhere."""
    masks = torch.tensor([[[1, 1, 0]] * 2, [[0, 1, 1]] * 2, [[1, 1, 1]] * 2]).bool()
    return PanopticParts(
        masks,
        torch.tensor([0, 2, 1]),
        torch.tensor([0.9, 0.6, 0.3]),
        torch.tensor([True, True, False]),
        torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [0, 0, 0, 0]]),
    )


def test_heuristic_merge_by_hand():
    found = HeuristicMerge(stuff_share=0)(two_halves())
    assert found["segments"].tolist() == [[1, 1, 2]] * 2
    assert found["labels"].tolist() == [0, 2]
    found = HeuristicMerge(overlap=0.4, stuff_share=0.3)(two_halves())  # the second thing goes, stuff takes a third
    assert found["segments"].tolist() == [[1, 1, 2]] * 2
    assert found["labels"].tolist() == [0, 1]
    found = HeuristicMerge(overlap=0.4, stuff_share=0.34)(two_halves())
    assert found["segments"].tolist() == [[1, 1, 0]] * 2


def test_mask_wise_merge_by_hand():
    assert MaskWiseMerge(thing_overlap=0.5)(two_halves())["segments"].tolist() == [[1, 1, 2]] * 2
    found = MaskWiseMerge(stuff_overlap=0.7)(two_halves())  # half of the second thing is taken, two thirds of the stuff
    assert found["segments"].tolist() == [[1, 1, 2]] * 2
    assert found["labels"].tolist() == [0, 1]
    assert MaskWiseMerge()(two_halves())["labels"].tolist() == [0]
    assert MaskWiseMerge(score=0.95)(two_halves())["segments"].tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize("merge", [HeuristicMerge(), MaskWiseMerge()])
def test_nothing_proposed_is_void(merge):
    nothing = PanopticParts(*(field[:0] for field in two_halves()))
    found = merge(nothing)
    assert found["segments"].tolist() == [[0, 0, 0]] * 2
    assert found["labels"].tolist() == found["scores"].tolist() == []
    assert instances_of(nothing)["masks"].shape == (0, 2, 3)


@pytest.mark.parametrize("kind", [HeuristicMerge, MaskWiseMerge])
def test_a_threshold_that_is_no_share_is_refused(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}: score must be from 0 to 1, got 1.5"):
        kind(score=1.5)
    assert list(kind.tunable) == list(vars(kind()))


def test_instances_are_the_things_best_first_with_all_their_pixels():
    parts = two_halves()._replace(scores=torch.tensor([0.6, 0.9, 1.0]))
    found = instances_of(parts)
    assert found["labels"].tolist() == [3, 1]
    assert found["scores"].tolist() == pytest.approx([0.9, 0.6])
    assert found["masks"].tolist() == [[[False, True, True]] * 2, [[True, True, False]] * 2]
    assert found["boxes"].tolist() == [[1, 0, 3, 2], [0, 0, 2, 2]]


def a_target(**more):
    """Void, a thing of class 2, stuff of class 3, a thing of class 0, a crowd of class 2, a number without pixels."""
    return {
        "image_id": "a",
        "segments": torch.tensor([[0, 1, 2, 2], [3, 1, 2, 4], [3, 3, 2, 4]]),
        "labels": torch.tensor([2, 3, 0, 2, 0]),
        "is_thing": torch.tensor([True, False, True, True, True]),
        "crowd": torch.tensor([False, False, False, True, False]),
        "original_size": (3, 4),
        **more,
    }


def test_things_of_a_target_are_objects():
    found = things_of(a_target(), IS_THING)
    assert found["labels"].tolist() == [2, 1]
    assert found["boxes"].tolist() == [[1, 0, 2, 2], [0, 1, 2, 3]]
    assert found["masks"].long().tolist() == [
        [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]],
    ]
    assert found["difficult"].tolist() == [False, False]


def test_stuff_of_a_target_is_a_mask_with_one_class_for_all_things():
    assert stuff_mask(a_target(), IS_THING).tolist() == [[VOID, 0, 2, 2], [0, 0, 2, 0], [0, 0, 2, 0]]


@pytest.mark.parametrize(
    ("segments", "labels"), [([[0, 0]], []), ([[1, 1]], [1]), ([[0, 1]], [0])], ids=["all void", "stuff", "a thing"]
)
def test_targets_of_one_kind(segments, labels):
    target = a_target(
        segments=torch.tensor(segments),
        labels=torch.tensor(labels, dtype=torch.int64),
        is_thing=IS_THING[torch.tensor(labels, dtype=torch.int64)],
        crowd=torch.zeros(len(labels), dtype=torch.bool),
    )
    things = things_of(target, IS_THING)
    number = sum(label in (0, 2) for label in labels)
    assert things["boxes"].shape == (number, 4)
    assert things["masks"].shape == (number, 1, 2)
    wanted = {0: 0, 1: 1}
    expected = [[VOID if n == 0 else wanted[labels[n - 1]] for n in row] for row in segments]
    assert stuff_mask(target, IS_THING).tolist() == expected


def test_objects_for_metrics_are_those_of_the_file_with_its_crowds():
    truth = {key: a_target()[key] for key in ("labels", "is_thing", "crowd")}
    file = {"segments": a_target()["segments"].repeat_interleave(2, 0), **truth}
    target = a_target(file=file, placement=Placement(1.0, 0.5), original_size=(6, 4))
    found = objects_of_segments(target, (3, 4))
    assert found["labels"].tolist() == [3, 1, 3]
    assert found["crowd"].tolist() == [False, False, True]
    assert found["areas"].tolist() == [4, 6, 4]
    assert found["boxes"].tolist() == [[1, 0, 2, 2], [0, 1, 2, 3], [3, 1, 4, 3]]  # where the net's image shows them
    assert found["file_masks"].shape == (3, 6, 4)
    alone = objects_of_segments(a_target(), (3, 4))
    assert alone["masks"].flatten(1).sum(1).tolist() == [2, 3, 2]
    assert "areas" not in alone


def test_a_mask_of_one_pixel_has_a_box_of_one():
    assert mask_boxes(torch.eye(3).bool()[None, 1:2]).tolist() == [[1, 0, 2, 1]]
