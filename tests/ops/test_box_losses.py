import math

import pytest
import torch
from oracles.losses import ciou_alpha, ciou_loop, diou_loop, giou_loop, iou_loop

from lightning_cv.models import FPN, SSD, SharedHead, SmallBackbone
from lightning_cv.ops.box_losses import CIoULoss, DIoULoss, GIoULoss, IoULoss, SmoothL1Loss
from lightning_cv.ops.boxes import decode_deltas
from lightning_cv.ops.detection_losses import AnchorTargets, ssd_losses

OVERLAPS = {"iou": (IoULoss, iou_loop), "giou": (GIoULoss, giou_loop), "diou": (DIoULoss, diou_loop),
            "ciou": (CIoULoss, ciou_loop)}  # fmt: skip
EVERY = [SmoothL1Loss, *(loss for loss, _ in OVERLAPS.values())]
every_overlap = pytest.mark.parametrize("name", OVERLAPS)


def pairs(seed=0, count=12, dtype=torch.float32):
    """Boxes of 5 to 60 px and their neighbours: some overlap, some do not, one pair is equal."""
    generator = torch.Generator().manual_seed(seed)
    near = 100 * torch.rand(count, 2, generator=generator, dtype=dtype)
    boxes = torch.cat([near, near + 5 + 55 * torch.rand(count, 2, generator=generator, dtype=dtype)], dim=1)
    others = boxes + 30 * (torch.rand(count, 4, generator=generator, dtype=dtype) - 0.5)
    others[:, 2:] = torch.maximum(others[:, 2:], others[:, :2] + 3)
    others[0] = boxes[0]
    others[1] = boxes[1] + 200
    return boxes, others


def one(*values):
    return torch.tensor([values], dtype=torch.float32)


def test_by_hand():
    """A square of 2 and the same moved by 1: IoU 2 / 6, hull 3 x 2, centres 1 apart, same angle."""
    a, b = one(0, 0, 2, 2), one(1, 0, 3, 2)
    assert IoULoss()(a, b).item() == pytest.approx(2 / 3)
    assert GIoULoss()(a, b).item() == pytest.approx(2 / 3)  # the hull is covered
    assert DIoULoss()(a, b).item() == pytest.approx(2 / 3 + 1 / 13)
    assert CIoULoss()(a, b).item() == pytest.approx(2 / 3 + 1 / 13)
    apart = one(4, 0, 6, 2)
    assert IoULoss()(a, apart).item() == 1
    assert GIoULoss()(a, apart).item() == pytest.approx(1 + 4 / 12)
    wide = one(0, 0, 2, 1)  # IoU 1/2, centres 0.5 apart, hull diagonal squared 8
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(1)) ** 2
    assert CIoULoss()(a, wide).item() == pytest.approx(0.5 + 0.25 / 8 + v * v / (0.5 + v))


def test_smooth_l1_by_hand():
    predicted, true = one(0.5, -3, 0, 1), one(0, 0, 0, 0)
    assert SmoothL1Loss()(predicted, true).item() == pytest.approx(0.125 + 2.5 + 0 + 0.5)
    assert SmoothL1Loss(beta=0.5)(predicted, true).item() == pytest.approx(0.25 + 2.75 + 0 + 0.75)
    assert SmoothL1Loss(beta=0.0)(predicted, true).item() == pytest.approx(4.5)
    assert SmoothL1Loss(weight=2.0)(predicted, true).item() == pytest.approx(6.25)


@every_overlap
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_loop(name, seed):
    loss, loop = OVERLAPS[name]
    boxes, others = pairs(seed)
    assert loss()(boxes, others).item() == pytest.approx(loop(boxes.tolist(), others.tolist()), rel=1e-5)
    assert loss()(boxes, others).item() == pytest.approx(loss()(others, boxes).item(), rel=1e-5)
    assert loss(weight=3.0)(boxes, boxes).item() == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("loss", EVERY)
def test_no_pair_costs_nothing_and_has_a_gradient(loss):
    boxes = torch.zeros(0, 4, requires_grad=True)
    value = loss()(boxes, torch.zeros(0, 4))
    value.backward()
    assert value.item() == 0
    assert boxes.grad.shape == (0, 4)


@every_overlap
@pytest.mark.parametrize(
    "box",
    [(5, 5, 5, 5), (5, 5, 8, 5), (5, 5, 5, 9), (10, 10, 0, 0), (10, 0, 0, 10), (3e4, 3e4, 3e4, 3e4)],
    ids=["point", "flat", "thin", "swapped", "swapped x", "far point"],
)
def test_boxes_without_an_area_are_finite_and_no_match(name, box):
    loss = OVERLAPS[name][0]()
    for true in (one(0, 0, 10, 10), one(*box)):
        predicted = one(*box).requires_grad_()
        value = loss(predicted, true)
        value.backward()
        assert value.isfinite()
        assert predicted.grad.isfinite().all()
    # torchvision's GIoU of a box with both edges swapped is 0, a perfect match
    assert loss(one(*box), one(0, 0, 10, 10)).item() > 0.99


@every_overlap
def test_gradients(name):
    loss = OVERLAPS[name][0]()
    boxes, others = pairs(count=4, dtype=torch.float64)
    others[0] += torch.tensor([1.0, 2.0, -1.5, 3.0])  # equal boxes are a corner of every one of these
    boxes.requires_grad_()
    if name != "ciou":
        assert torch.autograd.gradcheck(lambda x: loss(x, others), boxes)
        return
    loss(boxes, others).backward()
    rows, true = boxes.tolist(), others.tolist()
    alphas = [ciou_alpha(a, b) for a, b in zip(rows, true, strict=True)]
    for i, j in ((0, 0), (1, 1), (2, 2), (3, 3)):
        up, down = ([[*row] for row in rows] for _ in range(2))
        up[i][j] += 1e-4
        down[i][j] -= 1e-4
        slope = (ciou_loop(up, true, alphas) - ciou_loop(down, true, alphas)) / 2e-4
        assert boxes.grad[i, j].item() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("loss", EVERY)
def test_half_precision_is_left_behind_under_autocast(loss):
    boxes, others = (x.bfloat16() for x in pairs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss()(boxes, others)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss()(boxes.float(), others.float()))


@pytest.mark.parametrize("loss", EVERY)
def test_bad_input_is_named(loss):
    with pytest.raises(ValueError, match=f"{loss.__name__}: need two of shape"):
        loss()(torch.zeros(3, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="need two of shape"):
        loss()(torch.zeros(3, 5), torch.zeros(3, 5))
    with pytest.raises(ValueError, match=f"{loss.__name__}: weight"):
        loss(weight=-1.0)


def test_smooth_l1_needs_a_beta_of_at_least_zero():
    with pytest.raises(ValueError, match="beta"):
        SmoothL1Loss(beta=-0.1)


# in SSD


def scene():
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), [
        {
            "image_id": "one",
            "boxes": torch.tensor([[4.0, 6.0, 30.0, 34.0], [30.0, 30.0, 62.0, 60.0]]),
            "labels": torch.tensor([1, 3]),
            "difficult": torch.zeros(2, dtype=torch.bool),
            "original_size": (64, 64),
        }
    ]


def tiny(box_loss=None):
    torch.manual_seed(0)
    return SSD(FPN(SmallBackbone(width=8), 16, extra_levels=1), 3, head=SharedHead, box_loss=box_loss)


def test_the_default_of_ssd_is_the_papers_bit_for_bit():
    images, targets = scene()
    net = tiny()
    logits, deltas, anchors = net(images)
    wanted = net.assign(anchors, targets)
    positives = wanted.labels > 0
    distance = torch.nn.functional.smooth_l1_loss(deltas[positives], wanted.deltas[positives], reduction="sum")
    assert torch.equal(net.losses(images, targets)["box"], distance / positives.sum())
    assert torch.equal(ssd_losses(logits, deltas, wanted)["box"], distance / positives.sum())
    assert tiny().state_dict().keys() == tiny(GIoULoss()).state_dict().keys()


@every_overlap
def test_ssd_compares_decoded_boxes(name):
    loss, loop = OVERLAPS[name]
    images, targets = scene()
    net = tiny(loss(weight=2.0))
    torch.nn.init.normal_(net.box_head.last.weight, std=0.1)
    _, deltas, anchors = net(images)
    labels = net.assign(anchors, targets).labels[0]
    found = decode_deltas(deltas, anchors)[0, labels > 0]
    true = targets[0]["boxes"][(labels[labels > 0] == 3).long()]  # labels 1 and 3
    box = net.losses(images, targets)["box"]
    assert box.item() == pytest.approx(2 * loop(found.tolist(), true.tolist()) / len(found), rel=1e-3)
    box.backward()
    assert net.box_head.last.weight.grad.isfinite().all()
    assert net.box_head.last.weight.grad.any()


def test_ssd_with_boxes_learns_its_scene():
    images, targets = scene()
    net = tiny(GIoULoss(weight=5.0))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(30):
        loss = net.losses(images, targets)
        optimizer.zero_grad()
        sum(loss.values()).backward()
        optimizer.step()
    assert loss["box"].item() < 0.5 * tiny(GIoULoss(weight=5.0)).losses(images, targets)["box"].item()


def test_a_scene_without_objects_has_gradients_all_the_same():
    images, targets = scene()
    targets[0] |= {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64),
                   "difficult": torch.zeros(0, dtype=torch.bool)}  # fmt: skip
    net = tiny(CIoULoss())
    losses = net.losses(images, targets)
    sum(losses.values()).backward()
    assert losses["box"].item() == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_extreme_deltas_give_finite_losses():
    """exp of a very negative size is a side of 0 px, where torchvision's CIoU is 0 / 0."""
    anchors = torch.tensor([[100.0, 100.0, 140.0, 140.0]])
    deltas = torch.tensor([[[0.0, 0.0, -500.0, -500.0]]], requires_grad=True)
    true = AnchorTargets(torch.ones(1, 1, dtype=torch.int64), anchors[None])
    loss = ssd_losses(torch.zeros(1, 1, 2), decode_deltas(deltas, anchors), true, box_loss=CIoULoss())["box"]
    loss.backward()
    assert loss.isfinite()
    assert deltas.grad.isfinite().all()
