import numpy as np
import pytest
import torch
from oracles.two_stage import (
    paste_loop,
    region_match_loop,
    roi_align_loop,
    roi_pool_loop,
    rpn_anchors_loop,
    rpn_match_loop,
    whole_pixel_paste_loop,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import MultiScaleRoIAlign, roi_align

from lightning_cv.ops.anchors import RegionAnchors
from lightning_cv.ops.masks import mask_targets, paste_masks, paste_masks_in_whole_pixels
from lightning_cv.ops.matching import IGNORED, NO_MATCH, match_regions, match_rpn
from lightning_cv.ops.roi import align_on_levels, align_regions, pool_regions, pyramid_level, with_image_index
from lightning_cv.ops.sampling import balanced_sample


def random_overlaps(seed: int) -> torch.Tensor:
    """Objects by anchors; coarse, so that there are ties, and many of 0."""
    numbers = torch.Generator().manual_seed(seed)
    objects, anchors = int(torch.randint(0, 5, (), generator=numbers)), int(torch.randint(1, 12, (), generator=numbers))
    return (
        (torch.rand(objects, anchors, generator=numbers) * 12).floor()
        / 10
        * (torch.rand(objects, anchors, generator=numbers) > 0.3)
    )


@pytest.mark.parametrize("seed", range(40))
def test_matching_equals_the_loop(seed: int) -> None:
    overlaps = random_overlaps(seed).clamp(max=1.0)
    exact = overlaps.double().numpy().astype(np.float32).astype(np.float64)
    assert match_rpn(overlaps[None], 0.7, 0.3)[0].tolist() == rpn_match_loop(
        exact, float(np.float32(0.7)), float(np.float32(0.3))
    )
    for low in (0.0, 0.1):
        expected = region_match_loop(exact, 0.5, float(np.float32(low)), 0.5)
        assert match_regions(overlaps, 0.5, (low, 0.5)).tolist() == expected


def test_all_anchors_that_share_the_best_overlap_of_an_object_are_positive() -> None:
    overlaps = torch.tensor([[0.2, 0.2, 0.1, 0.0], [0.0, 0.25, 0.0, 0.0]])
    assert match_rpn(overlaps).tolist() == [0, 1, NO_MATCH, NO_MATCH]  # anchor 1 answers for what it overlaps most


def test_an_object_that_no_anchor_touches_forces_none() -> None:
    assert match_rpn(torch.zeros(2, 3)).tolist() == [NO_MATCH] * 3


def test_without_objects_everything_is_background_or_where_background_must_touch_ignored() -> None:
    assert match_rpn(torch.zeros(0, 2)).tolist() == [NO_MATCH] * 2
    assert match_regions(torch.zeros(0, 2)).tolist() == [NO_MATCH] * 2
    assert match_regions(torch.zeros(0, 2), background=(0.1, 0.5)).tolist() == [IGNORED] * 2


def test_bounds_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="negative <= positive"):
        match_rpn(torch.zeros(1, 1), 0.3, 0.7)
    with pytest.raises(ValueError, match="two rising overlaps"):
        match_regions(torch.zeros(1, 1), 0.5, (0.2, 0.6))


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [(10, 100, (4, 12)), (2, 100, (2, 14)), (0, 100, (0, 16)), (10, 3, (4, 3)), (0, 0, (0, 0)), (0, 5, (0, 5))],
)
def test_sampling_counts(positives: int, negatives: int, expected: tuple[int, int]) -> None:
    match = torch.tensor([0] * positives + [NO_MATCH] * negatives + [IGNORED] * 7)
    match = match[torch.randperm(len(match))]
    chosen = balanced_sample(match, 16, 0.25)
    assert len(set(chosen.tolist())) == len(chosen)
    assert ((match[chosen] >= 0).sum(), (match[chosen] == NO_MATCH).sum()) == expected
    assert (match[chosen][: expected[0]] >= 0).all()


def test_sampling_takes_everyone_equally_often_and_follows_the_generator() -> None:
    match = torch.tensor([0] * 4 + [NO_MATCH] * 8)
    numbers = torch.Generator().manual_seed(0)
    counts = torch.zeros(12)
    for _ in range(2000):
        counts[balanced_sample(match, 4, 0.5, numbers)] += 1
    assert (counts[:4] / 2000 - 0.5).abs().max() < 0.05
    assert (counts[4:] / 2000 - 0.25).abs().max() < 0.05
    first, second = (balanced_sample(match, 4, 0.5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    torch.manual_seed(5)
    third = balanced_sample(match, 4, 0.5)
    torch.manual_seed(5)
    assert torch.equal(third, balanced_sample(match, 4, 0.5))


BOXES = [[3.0, 5.0, 40.0, 30.0], [-4.0, -3.0, 10.0, 60.0], [20.0, 20.0, 20.0, 20.0], [0.0, 0.0, 64.0, 48.0]]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_region_pooling_equals_the_loop(size: int) -> None:
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(size))
    regions = with_image_index([torch.tensor(BOXES), torch.tensor(BOXES[:1])])
    found = pool_regions(x, regions, 8, size)
    for out, (image, *box) in zip(found, regions.tolist(), strict=True):
        expected = roi_pool_loop(x[int(image)].double().numpy(), box, 8, size)
        torch.testing.assert_close(out.double(), torch.from_numpy(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("size", "sampling"), [(2, 2), (7, 1), (3, 3)])
def test_region_alignment_equals_the_loop(size: int, sampling: int, aligned: bool) -> None:
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(size))
    regions = with_image_index([torch.tensor(BOXES), torch.tensor(BOXES[:1])])
    found = align_regions(x, regions, 8, size, sampling, aligned)
    for out, (image, *box) in zip(found, regions.tolist(), strict=True):
        expected = roi_align_loop(x[int(image)].double().numpy(), box, 8, size, sampling, aligned)
        torch.testing.assert_close(out.double(), torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_alignment_is_the_same_kernel_where_determinism_is_only_wished_for() -> None:
    x, regions = torch.randn(1, 2, 6, 8), with_image_index([torch.tensor(BOXES)])
    expected = align_regions(x, regions, 8, 3, 0)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.equal(align_regions(x, regions, 8, 3, 0), expected)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("read", [pool_regions, align_regions])
def test_features_have_gradients_no_region_gives_none_and_half_precision_is_widened(read) -> None:
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    assert read(x, with_image_index([torch.zeros(0, 4)]), 4, 3).shape == (0, 2, 3, 3)
    out = read(x.bfloat16(), with_image_index([torch.tensor([[0.0, 0.0, 16.0, 16.0]])]), 4, 3)
    assert out.dtype == torch.float32
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("aligned", [False, True])
def test_alignment_on_all_levels_and_its_gradient_are_those_of_torchvision(aligned: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    maps = [torch.randn(2, 5, 48 // 2**i, 64 // 2**i, generator=generator, requires_grad=True) for i in range(3)]
    corner = torch.rand(40, 2, generator=generator) * 200
    boxes = torch.cat([corner, corner + torch.rand(40, 2, generator=generator) * 90], dim=1)
    regions, level = with_image_index([boxes[:25], boxes[25:]]), torch.arange(40) % 3
    found = align_on_levels(maps, [4, 8, 16], regions, level, 7, 2, aligned)
    expected = torch.empty_like(found)
    for number, x in enumerate(maps):
        expected[level == number] = roi_align(x, regions[level == number], 7, 1 / (4 * 2**number), 2, aligned)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    slopes = torch.randn(found.shape, generator=generator)
    ours, theirs = (torch.autograd.grad((cells * slopes).sum(), maps) for cells in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


def test_pyramid_levels_are_those_of_torchvision() -> None:
    pooler = MultiScaleRoIAlign(["0", "1", "2"], 1, 2)
    maps = {str(i): torch.full((1, 1, 64 // 2**i, 64 // 2**i), float(i)) for i in range(3)}
    sides = torch.tensor([5.0, 111.0, 111.99, 112.0, 113.0, 200.0, 223.9, 224.0, 250.0])
    boxes = torch.stack([torch.zeros_like(sides), torch.zeros_like(sides), sides, sides], dim=1)
    levels = pooler(maps, [boxes], [(256, 256)])[:, 0, 0, 0]
    assert pyramid_level(boxes, [4, 8, 16]).tolist() == levels.tolist()
    with pytest.raises(ValueError, match="twice the one before"):
        pyramid_level(boxes, [4, 16])


def test_region_anchors_lie_around_the_middles_of_cells() -> None:
    anchors = RegionAnchors([[16, 32]], [0.5, 1.0, 2.0])([(2, 3)], [16])
    torch.testing.assert_close(anchors, torch.tensor(rpn_anchors_loop((2, 3), 16, [16, 32], [0.5, 1.0, 2.0])))
    with pytest.raises(ValueError, match="stated for 1 maps, the net has 2"):
        RegionAnchors([[16]]).shapes([8, 16])
    with pytest.raises(ValueError, match="above 0"):
        RegionAnchors([[]])


def test_region_anchors_can_be_those_of_torchvision() -> None:
    theirs = AnchorGenerator(((32,), (64,)), ((0.5, 1.0, 2.0),) * 2)
    maps = [torch.zeros(1, 1, 8, 12), torch.zeros(1, 1, 4, 6)]
    expected = theirs(ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)]), maps)[0]
    ours = RegionAnchors([[32], [64]], [2.0, 1.0, 0.5], centre=0.0, whole=True)([(8, 12), (4, 6)], [8, 16])
    assert torch.equal(ours, expected)


def squares_and_boxes() -> tuple[torch.Tensor, torch.Tensor]:
    squares = torch.rand(5, 4, 4, generator=torch.Generator().manual_seed(0))
    boxes = [[2, 3, 12, 9], [-3, -2, 5, 6], [10.2, 1.1, 30, 20], [4, 4, 4.5, 4.5], [0, 0, 20, 16]]
    return squares, torch.tensor(boxes, dtype=torch.float32)


@pytest.mark.parametrize(
    ("paste", "loop"), [(paste_masks, paste_loop), (paste_masks_in_whole_pixels, whole_pixel_paste_loop)]
)
def test_pasted_masks_equal_the_loop(paste, loop) -> None:
    squares, boxes = squares_and_boxes()
    found = paste(squares, boxes, 16, 20)
    assert found.any(dim=(1, 2)).sum() >= 4
    for mask, square, box in zip(found, squares, boxes, strict=True):
        assert mask.tolist() == (loop(square.double().numpy(), box.double().tolist(), 16, 20) >= 0.5).tolist()
    assert paste(squares[:0], boxes[:0], 16, 20).shape == (0, 16, 20)


def test_pasting_in_whole_pixels_is_what_torchvision_does() -> None:
    squares, boxes = squares_and_boxes()
    theirs = paste_masks_in_image(squares[:, None], boxes, (16, 20))[:, 0]
    assert torch.equal(paste_masks_in_whole_pixels(squares, boxes, 16, 20), theirs >= 0.5)


def test_a_whole_square_fills_its_box() -> None:
    mask = paste_masks(torch.ones(1, 28, 28), torch.tensor([[5.0, 4.0, 25.0, 14.0]]), 20, 30)
    rows, columns = mask[0].nonzero().unbind(1)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (4, 14, 5, 25)
    assert mask.sum() == 200


def test_a_mask_that_becomes_a_target_is_pasted_back_as_it_was() -> None:
    yy, xx = np.mgrid[:40, :50]
    disc = torch.from_numpy((yy - 18.5) ** 2 + (xx - 24.5) ** 2 < 15**2)[None]
    box = torch.tensor([[10.0, 4.0, 39.0, 33.0]])
    target = mask_targets(disc, torch.tensor([0]), box, 28)
    pasted = paste_masks(target, box, 40, 50)
    assert (pasted & disc).sum() / (pasted | disc).sum() > 0.97


def test_mask_targets_are_the_covered_shares_of_cells() -> None:
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[1, :, :4] = True
    found = mask_targets(masks, torch.tensor([1, 0]), torch.tensor([[0.0, 0.0, 8.0, 8.0]] * 2), 2)
    assert found[1].sum() == 0
    assert found[0].tolist() == [[1.0, 0.0], [1.0, 0.0]]
    moved = mask_targets(masks, torch.tensor([1]), torch.tensor([[0.0, 0.0, 8.0, 8.0]]), 2, aligned=False)
    expected = roi_align_loop(masks[1:].double().numpy(), [0.0, 0.0, 8.0, 8.0], 1, 2, 4, False)[0]
    torch.testing.assert_close(moved[0].double(), torch.from_numpy(expected))
    assert moved[0, 0, 0] < 1
    assert mask_targets(masks, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), 2).shape == (0, 2, 2)
