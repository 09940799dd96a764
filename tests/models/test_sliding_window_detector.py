"""Windows counted in closed form, crops one by one against one convolution, and what windows are told to say."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lightning_cv.contracts import CandidateDetector
from lightning_cv.datasets.drawn import draw_scene
from lightning_cv.models import CropClassifier, SlidingWindowDetector
from lightning_cv.ops.boxes import iou
from lightning_cv.ops.windows import number_of_boxes


def target(boxes, labels):
    return {
        "image_id": "one",
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.zeros(len(labels), dtype=torch.bool),
        "original_size": (64, 64),
    }


def tiny(**arguments):
    torch.manual_seed(0)
    net = CropClassifier(3, width=4, hidden=8)
    net(torch.rand(4, 3, 40, 40))  # statistics of batches that are not 0 and 1
    return SlidingWindowDetector(net, **({"sizes": (24, 40), "ratios": (0.5, 1.0)} | arguments)).eval()


def shipped():
    torch.manual_seed(0)
    return SlidingWindowDetector(CropClassifier(10))


def best_overlaps(boxes, windows):
    """The largest overlap with a window of each box (G,), some boxes at a time: all together take gigabytes."""
    return torch.cat([iou(some, windows).amax(dim=1) for some in boxes.split(100)])


@pytest.mark.parametrize(("height", "width"), [(64, 80), (71, 93)])
def test_one_convolution_says_what_crops_one_by_one_say(height, width):
    net, images = tiny(), torch.rand(2, 3, height, width)
    with torch.no_grad():
        together, single = net(images), net.crop_by_crop(images, at_once=50)
    torch.testing.assert_close(together, single)
    assert together.shape == (2, net.crops(height, width), 4)
    assert net.windows(height, width).shape == (net.crops(height, width), 4)
    assert isinstance(net, CandidateDetector)


def test_a_window_is_where_its_crop_was_cut():
    """A bright pixel changes the logits of the windows that hold it, and of no other."""
    net = tiny(sizes=(32,), ratios=(1.0,))
    images = torch.zeros(2, 3, 64, 80)
    images[1, :, 41, 50] = 1.0
    with torch.no_grad():
        dark, bright = net(images)
    x1, y1, x2, y2 = net.windows(64, 80).unbind(1)
    holds = (x1 <= 50) & (x2 > 50) & (y1 <= 41) & (y2 > 41)
    changed = (dark != bright).any(dim=1)
    assert not (changed & ~holds).any()
    assert changed.sum() > 0.5 * holds.sum()


def test_windows_are_counted_by_hand():
    net = tiny(sizes=(32, 64), ratios=(1.0,), growth=None)
    # 64 x 96: at size 32 as it is, (32 / 4 + 1) (64 / 4 + 1); at 64 halved to 32 x 48, 1 (16 / 4 + 1)
    assert net.crops(64, 96) == 9 * 17 + 5
    assert net.windows(64, 96)[-1].tolist() == [32, 0, 96, 64]


def test_sizes_go_on_to_the_picture_and_are_counted_by_hand():
    net = tiny(sizes=(32,), ratios=(1.0,), growth=1.5)
    # 64 x 96: 32 as it is, (32 / 4 + 1) (64 / 4 + 1); 48 at 43 x 64, (11 // 4 + 1) (32 / 4 + 1); 72 cut to 64 x 72, at
    # 32 x 43, 1 (11 // 4 + 1); 108 cut to 64 x 96, the picture
    assert [tuple(level) for level in net.levels(64, 96)] == [
        (64, 96, 9, 17), (43, 64, 3, 9), (32, 43, 1, 3), (32, 32, 1, 1),
    ]  # fmt: skip
    assert net.crops(64, 96) == 9 * 17 + 3 * 9 + 3 + 1
    assert net.windows(64, 96)[-1].tolist() == [0, 0, 96, 64]


@pytest.mark.parametrize(("height", "width"), [(128, 128), (100, 240), (14, 500)])
def test_a_picture_has_each_window_once_and_itself_too(height, width):
    net = shipped()
    windows = net.windows(height, width)
    assert len(windows) == len(windows.unique(dim=0)) == net.crops(height, width)
    assert windows[:, :2].min() == 0
    assert (windows[:, 2:] <= torch.tensor([width, height]) + 1e-3).all()
    assert [0, 0, width, height] in windows.tolist()


@pytest.mark.parametrize(("height", "width"), [(128, 128), (100, 240)])
def test_every_object_of_13_pixels_and_no_slimmer_than_1_to_3_has_a_window(height, width):
    generator = torch.Generator().manual_seed(0)
    size = 13 * (min(height, width) / 13) ** torch.rand(1500, generator=generator)
    stretch = 3 ** (torch.rand(1500, generator=generator) - 0.5)
    sides = torch.stack([(size * stretch).clamp(max=width), (size / stretch).clamp(max=height)], dim=1)
    corners = torch.rand(1500, 2, generator=generator) * (torch.tensor([width, height]) - sides)
    edges = torch.tensor([[0, 0, width, height], [0, 0, width, height / 2], [width / 2, 0, width, height]])
    boxes = torch.cat([torch.cat([corners, corners + sides], dim=1), edges])
    assert best_overlaps(boxes, shipped().windows(height, width)).min() >= 0.5


def test_every_lone_object_of_drawn_scenes_has_a_window():
    boxes = torch.cat([torch.from_numpy(draw_scene(seed, size=128, max_objects=1).boxes) for seed in range(300)])
    assert best_overlaps(boxes, shipped().windows(128, 128)).min() >= 0.5


def test_there_are_far_more_boxes_than_windows():
    """The lecture's picture of 800 x 600: 57.8 thousand million boxes, a thousand times what the slides say."""
    assert number_of_boxes(600, 800) == 57_768_120_000
    assert number_of_boxes(600, 800) / 58e6 == pytest.approx(1000, rel=0.01)
    assert shipped().crops(600, 800) < number_of_boxes(600, 800) / 80_000


def test_crops_one_by_one_cost_many_times_as_much():
    net, images, flops = tiny(sizes=(32,), ratios=(1.0,)), torch.rand(1, 3, 96, 96), []
    for run in (net, net.crop_by_crop):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run(images)
        flops.append(counter.get_total_flops())
    assert flops[1] > 8 * flops[0]


def test_an_object_has_the_windows_that_overlap_it_enough_and_no_other():
    net = tiny()
    windows = net.windows(64, 80)
    boxes = torch.tensor([[5.0, 6.0, 30.0, 31.0], [40.0, 10.0, 44.0, 14.0]])  # the second is smaller than any window
    labels = net.assign(windows, [target(boxes.tolist(), [1, 3]), target([], [])])
    overlaps = iou(windows, boxes)
    assert torch.equal(labels[0], (overlaps[:, 0] >= 0.5).long())
    assert not labels[1].any()


def test_two_objects_with_one_best_window_have_a_window_each():
    windows = torch.tensor([[0.0, 0, 20, 20], [4.0, 0, 24, 20]])
    labels = tiny().assign(windows, [target([[0, 0, 20, 20], [0, 0, 22, 20]], [1, 2])])
    assert labels.tolist() == [[1, 2]]


@pytest.mark.parametrize("box", [[[0, 0, 64, 64]], [[5, 5, 5.5, 60]]], ids=["the whole picture", "a sliver"])
def test_losses_of_extreme_objects_are_finite(box):
    net = tiny().train()
    labels = net.assign(net.windows(64, 64), [target(box, [1])])
    assert bool(labels[0, -1]) == (box[0][2] == 64)
    loss = net.losses(torch.rand(2, 3, 64, 64), [target(box, [1]), target([], [])])["class"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_images_without_objects_teach_what_background_is(dtype):
    net = tiny().train()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        loss = net.losses(torch.rand(2, 3, 64, 64), [target([], []), target([], [])])["class"]
    loss.backward()
    assert loss > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="one of each at least"):
        tiny(sizes=())
    with pytest.raises(ValueError, match="growth is above 1 or None"):
        tiny(growth=1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (1, 1), (12, 300), (300, 12)])
def test_in_a_picture_too_small_for_any_window_nothing_is_found(dtype, height, width):
    net, images = shipped(), torch.rand(2, 3, height, width)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        assert [len(found["boxes"]) for found in net.eval().detect(images)] == [0, 0]
        assert net.crops(height, width) == len(net.windows(height, width)) == 0
        assert net(images).shape == net.crop_by_crop(images).shape == (2, 0, 11)
        loss = net.train().losses(images, [target([[0, 0, 1, 1], [0, 0, 1, 1]], [1, 2]), target([], [])])["class"]
    loss.backward()
    assert loss == 0
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())


def test_in_a_picture_of_16_pixels_there_is_something_to_see():
    assert [0, 0, 16, 16] in shipped().windows(16, 16).tolist()


@pytest.mark.slow
def test_four_squares_are_learnt():
    torch.manual_seed(0)
    net = SlidingWindowDetector(CropClassifier(2, width=8, hidden=32), sizes=(20, 28), ratios=(1.0,))
    images, targets = torch.rand(4, 3, 64, 64) * 0.2, []
    for number, (x, y) in enumerate([(4, 8), (30, 6), (10, 34), (32, 30)]):
        images[number, number % 2, y : y + 24, x : x + 24] += 0.7
        targets.append(target([[x, y, x + 24, y + 24]], [1 + number % 2]))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(net.losses(images, targets).values()).backward()
        optimizer.step()
    for found, true in zip(net.eval().detect(images), targets, strict=True):
        assert found["labels"][0] == true["labels"][0]
        assert iou(found["boxes"][:1], true["boxes"]) > 0.6
