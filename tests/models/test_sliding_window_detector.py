"""Windows counted in closed form, crops one by one against one convolution, and what windows are told to say."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lightning_cv.contracts import CandidateDetector
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
    net = tiny(sizes=(32, 64), ratios=(1.0,))
    # 64 x 96: at size 32 as it is, (32 / 4 + 1) (64 / 4 + 1); at 64 halved to 32 x 48, 1 (16 / 4 + 1)
    assert net.crops(64, 96) == 9 * 17 + 5
    assert net.windows(64, 96)[-1].tolist() == [32, 0, 96, 64]


def test_there_are_far_more_boxes_than_windows():
    """The lecture's picture of 800 x 600: 57.8 thousand million boxes, a thousand times what the slides say."""
    assert number_of_boxes(600, 800) == 57_768_120_000
    assert number_of_boxes(600, 800) / 58e6 == pytest.approx(1000, rel=0.01)
    assert SlidingWindowDetector(CropClassifier(2)).crops(600, 800) < number_of_boxes(600, 800) / 80_000


def test_crops_one_by_one_cost_many_times_as_much():
    net, images, flops = tiny(sizes=(32,), ratios=(1.0,)), torch.rand(1, 3, 96, 96), []
    for run in (net, net.crop_by_crop):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run(images)
        flops.append(counter.get_total_flops())
    assert flops[1] > 8 * flops[0]


def test_each_object_has_its_best_window_and_those_that_overlap_it_enough():
    net = tiny()
    windows = net.windows(64, 80)
    boxes = torch.tensor([[5.0, 6.0, 30.0, 31.0], [40.0, 10.0, 44.0, 14.0]])  # the second is smaller than any window
    labels = net.assign(windows, [target(boxes.tolist(), [1, 3]), target([], [])])
    overlaps = iou(windows, boxes)
    assert (labels[0] == 3).sum() == 1
    assert overlaps[labels[0] == 3, 1] == overlaps[:, 1].max()
    assert torch.equal(labels[0] == 1, overlaps[:, 0] >= 0.5)
    assert not labels[1].any()


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
    with pytest.raises(ValueError, match="no window fits into a picture of 8 x 8"):
        tiny().crops(8, 8)


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
