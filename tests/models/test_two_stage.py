import pytest
import torch
from torch import Tensor, nn
from two_stage_nets import (
    CLASSES,
    batch,
    check_gradients,
    empty,
    fast_rcnn,
    faster_rcnn,
    mask_rcnn,
    spread,
    total,
    windows,
)

from lightning_cv.contracts import Detector, ProposalDetector
from lightning_cv.models import FasterRCNN, FastRCNN, WindowProposals
from lightning_cv.models.detection.delta_spread import DeltaSpread
from lightning_cv.models.detection.objects import Objects, objects_of
from lightning_cv.models.detection.roi_heads import BoxBranch
from lightning_cv.models.detection.rpn import RPN, Regions
from lightning_cv.ops.anchors import RegionAnchors

NETS = {
    "fast": lambda: fast_rcnn(proposer=windows()),
    "faster": lambda: faster_rcnn(64),
    "mask": lambda: mask_rcnn(64),
}


@pytest.fixture(params=NETS)
def net(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return NETS[request.param]()


@pytest.mark.parametrize("what", ["objects", "no object", "one image without"])
@pytest.mark.parametrize("bf16", [False, True])
def test_losses_are_finite_and_every_parameter_has_a_gradient(net: Detector, what: str, bf16: bool) -> None:
    images, targets = batch(masks=True)
    if what != "objects":
        targets = [
            empty(target) if index == 0 or what == "no object" else target for index, target in enumerate(targets)
        ]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        losses = net.losses(images, targets)
    assert all(value.shape == () and value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    total(losses).backward()
    assert isinstance(net, nn.Module)
    check_gradients(net)


@pytest.mark.parametrize("bf16", [False, True])
def test_without_any_sample_losses_are_zero_and_attached(net: Detector, bf16: bool) -> None:
    """No positive and no negative: background begins at an overlap that nothing reaches without objects."""
    assert isinstance(net, FastRCNN | FasterRCNN)
    net.boxes.background = (0.1, 0.5)
    images, targets = batch(masks=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        losses = net.losses(images, [empty(target) for target in targets])
    assert all(losses[name] == 0 for name in ("classifier", "box"))
    total(losses).backward()
    check_gradients(net)


def test_losses_have_the_names_of_their_papers() -> None:
    images, targets = batch(masks=True)
    assert list(NETS["fast"]().losses(images, targets)) == ["classifier", "box"]
    faster = ["rpn_objectness", "rpn_box", "classifier", "box"]
    assert list(NETS["faster"]().losses(images, targets)) == faster
    assert list(NETS["mask"]().losses(images, targets)) == [*faster, "mask"]


@pytest.mark.parametrize("size", [(64, 96), (90, 70)])
@pytest.mark.parametrize("bf16", [False, True])
def test_detections_keep_the_contract(net: Detector, size: tuple[int, int], bf16: bool) -> None:
    assert isinstance(net, nn.Module)
    spread(net)
    net.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        found = net.detect(torch.rand(2, 3, *size))
    assert sum(len(one["labels"]) for one in found) > 0
    for one in found:
        assert one["boxes"].dtype == one["scores"].dtype == torch.float32
        assert one["scores"].tolist() == sorted(one["scores"].tolist(), reverse=True)
        assert not len(one["labels"]) or (one["labels"].min() >= 1 and one["labels"].max() <= CLASSES)
        assert (one["boxes"] >= 0).all()
        assert (one["boxes"] <= torch.tensor([size[1], size[0]] * 2)).all()
        if "masks" in one:
            assert one["masks"].dtype == torch.bool
            assert one["masks"].shape == (len(one["labels"]), *size)


@pytest.mark.parametrize("bf16", [False, True])
def test_nothing_above_the_threshold_and_no_proposal_give_no_detections(net: Detector, bf16: bool) -> None:
    assert isinstance(net, FastRCNN | FasterRCNN)
    images = torch.rand(2, 3, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        net.eval().boxes.score_threshold = 1.0
        assert [len(one["boxes"]) for one in net.detect(images)] == [0, 0]
        net.boxes.score_threshold = 0.0
        if isinstance(net, FasterRCNN):
            net.rpn.min_size = 1000.0
            found = net.detect(images)
        else:
            found = net.detect_among(images, [torch.zeros(0, 4)] * 2, [(64, 64)] * 2)
    assert [tuple(one["boxes"].shape) for one in found] == [(0, 4), (0, 4)]
    if "masks" in found[0]:
        assert found[0]["masks"].shape == (0, 64, 64)


@pytest.mark.parametrize("bf16", [False, True])
def test_no_proposal_in_training_leaves_the_objects_as_regions(net: Detector, bf16: bool) -> None:
    assert isinstance(net, FastRCNN | FasterRCNN)
    images, targets = batch(masks=True)
    if isinstance(net, FasterRCNN):
        net.rpn.min_size = 1000.0
    targets = [target | {"proposals": torch.zeros(0, 4)} for target in targets]
    for some in (targets, [empty(target) for target in targets]):
        net.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            losses = net.losses(images, some)
        assert (losses["classifier"] > 0) == (len(some[0]["boxes"]) > 0)
        total(losses).backward()
        check_gradients(net)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_picture_smaller_than_every_anchor_gives_the_first_stage_nothing_to_learn(bf16: bool) -> None:
    """The cross-boundary rule leaves no anchor."""
    net = faster_rcnn(64)
    net.rpn.inside_only = True
    images, targets = batch(16, 16)
    targets[0]["boxes"] = torch.tensor([[2.0, 2, 8, 9], [3, 3, 12, 12], [0, 0, 16, 16]])
    targets[1] = empty(targets[1])
    net.rpn.anchors = RegionAnchors([[32], [48], [64]], [2.0, 1.0, 0.5])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        losses = net.losses(images, targets)
    assert losses["rpn_objectness"] == losses["rpn_box"] == 0
    assert losses["classifier"] > 0
    total(losses).backward()
    check_gradients(net)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_batch_of_one_object_that_fills_the_image(bf16: bool) -> None:
    images, targets = batch()
    targets[0]["boxes"], targets[0]["labels"] = torch.tensor([[0.0, 0.0, 128.0, 96.0]]), torch.tensor([2])
    targets[0]["difficult"] = torch.tensor([False])
    net = faster_rcnn(64)
    net.rpn.inside_only = True
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        losses = net.losses(images[:1], targets[:1])
    total(losses).backward()
    check_gradients(net)


def test_masks_are_asked_for_by_name() -> None:
    images, targets = batch()
    with pytest.raises(ValueError, match=r"image 0: a net of masks .* data.with_masks"):
        mask_rcnn(64).losses(images, targets)


def test_crowds_and_difficult_objects_count_for_none() -> None:
    images, targets = batch(masks=True)
    target = targets[0] | {"crowd": torch.tensor([True, False, False]), "difficult": torch.tensor([False, True, False])}
    found = objects_of(target, images, train_on_difficult=False)
    assert found.labels.tolist() == [3]
    assert found.masks is not None
    assert torch.equal(found.masks, target["masks"][2:])
    assert objects_of(target, images, train_on_difficult=True).labels.tolist() == [2, 3]


def objects(*boxes: list[float], size: tuple[int, int] = (64, 64)) -> Objects:
    rows = torch.tensor(boxes).view(-1, 4)
    return Objects("one", rows, torch.arange(len(rows)) + 1, None, size)


def test_the_cross_boundary_rule_ignores_anchors_in_training_only() -> None:
    anchors = torch.tensor([[-1.0, 0, 10, 10], [0, 0, 10, 10], [54, 54, 64, 64], [54, 54, 65, 64], [40, 40, 50, 50]])
    truth = objects([-0.0, 0, 10, 10], [55, 55, 64, 64])
    rpn = RPN([4], [8])
    assert rpn.match(anchors, truth).tolist() == [-2, 0, 1, -2, -1]
    assert rpn.match(anchors, truth._replace(size=(60, 60))).tolist() == [-2, 0, -2, -2, -1]  # the rest is padding
    rpn.inside_only = False
    assert rpn.match(anchors, truth).tolist() == [0, 0, 1, 1, -1]
    regions = Regions([torch.tensor([[3.0, 2, 1, 0, -1]])], [torch.zeros(1, 5, 4)], [anchors])
    rpn.min_size, rpn.nms_threshold = 1.0, 1.0
    ((boxes, _),) = rpn.proposals(regions, [(64, 64)], training=True)
    assert len(boxes) == 5
    assert boxes.min() == 0
    assert boxes.max() == 64


def test_proposals_without_an_area_are_none_whatever_the_least_size() -> None:
    """An anchor in the padding is cut to a line at the picture's edge."""
    anchors = torch.tensor([[70.0, 0, 80, 10], [0, 40, 10, 50], [60, 10, 70, 20]])
    regions = Regions([torch.tensor([[3.0, 2, 1]])], [torch.zeros(1, 3, 4)], [anchors])
    ((boxes, _),) = RPN([4], [8], min_size=0.0).proposals(regions, [(40, 64)], training=True)
    assert boxes.tolist() == [[60, 10, 64, 20]]


def test_the_first_stage_by_hand() -> None:
    """Two anchors count: an object that is matched exactly, and background."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [30, 30, 40, 40]])
    logits, deltas = torch.tensor([[0.0, 2.0]], requires_grad=True), torch.zeros(1, 2, 4)
    deltas[0, 0, 0] = 1.0
    losses = RPN([4], [8], beta=1.0).losses(Regions([logits], [deltas], [anchors]), [objects([0.0, 0, 10, 10])])
    assert losses["rpn_objectness"].item() == pytest.approx((0.693147 + 2.126928) / 2, rel=1e-5)
    assert losses["rpn_box"].item() == pytest.approx(0.5 / 2)


def test_the_second_stage_by_hand() -> None:
    """Both regions count: one is its object moved by a tenth of its width, the other background."""

    class Fixed(BoxBranch):
        def forward(self, maps, boxes, /):  # type: ignore[no-untyped-def]
            return torch.zeros(2, 4), torch.zeros(2, 3, 4)

    branch = Fixed([4], [8], 3, samples=4, positive_share=0.5, background=(0.0, 0.5), add_objects=False)
    truth = objects([1.0, 0, 11, 10])
    samples = branch.sample([torch.tensor([[0.0, 0, 10, 10], [40, 40, 50, 50]])], [truth])
    assert samples[0].labels.tolist() == [1, 0]
    losses = branch.losses([], samples, [truth])
    assert losses["classifier"].item() == pytest.approx(torch.tensor(4.0).log().item())
    assert losses["box"].item() == pytest.approx((1.0 - 0.5) / 2)  # 0.1 of the width is 1 in units of the spread


def test_deltas_are_normalised_class_by_class_once_measured() -> None:
    numbers = torch.Generator().manual_seed(0)
    spread = DeltaSpread(3, (0.1, 0.1, 0.2, 0.2), measured=2)
    first = torch.randn(40, 4, generator=numbers) * 0.3 + 1
    labels = torch.tensor([1] * 35 + [2] * 5)
    for rows in (slice(0, 20), slice(20, 40)):
        spread.measure(first[rows], labels[rows])
    spread.measure(first + 100, labels)  # too late
    found = spread.normalise(first, labels)
    assert found[:35].mean(0).abs().max() < 1e-5
    torch.testing.assert_close(found[:35].std(0, unbiased=False), torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[35:], first[35:] / torch.tensor([0.1, 0.1, 0.2, 0.2]))  # too few to be measured
    said = torch.zeros(1, 3, 4)
    said[0, 0] = found[3]
    torch.testing.assert_close(spread.restore(said)[0, 0], first[3])
    assert spread.state_dict().keys() == {"steps", "counts", "sums", "squares"}
    assert not DeltaSpread(3, (1.0, 1.0, 1.0, 1.0)).state_dict()


def test_only_training_measures_deltas() -> None:
    net, (images, targets) = faster_rcnn(64), batch()
    net.boxes.spread = DeltaSpread(CLASSES, (0.1, 0.1, 0.2, 0.2), measured=5)
    net.eval().losses(images, targets)
    assert net.boxes.spread.steps == 0
    net.train().losses(images, targets)
    assert net.boxes.spread.steps == 1
    assert net.boxes.spread.counts.sum() > 0


def test_objects_are_regions_too_unless_told_otherwise() -> None:
    truth = objects([1.0, 0, 11, 10])
    branch = BoxBranch([4], [8], 3)
    assert branch.sample([torch.zeros(0, 4)], [truth])[0].labels.tolist() == [1]
    branch.add_objects = False
    assert branch.sample([torch.zeros(0, 4)], [truth])[0].labels.tolist() == []


def test_proposals_come_with_the_targets_or_from_the_proposer_or_are_missed() -> None:
    images, targets = batch()
    given = [target | {"proposals": target["boxes"] + 2} for target in targets]
    bare, with_windows = fast_rcnn(), fast_rcnn(proposer=windows())
    assert isinstance(bare, ProposalDetector)
    assert not isinstance(faster_rcnn(), ProposalDetector)
    with pytest.raises(ValueError, match="image 1 has none"):
        bare.losses(images, [given[0], targets[1]])
    with pytest.raises(ValueError, match="a bare image has none"):
        bare.detect(images)
    seen: list[list[Tensor]] = []
    with_windows.boxes.sample = lambda proposals, objects: seen.append(proposals) or []  # type: ignore
    with_windows.boxes.losses = lambda *_: {}  # type: ignore[method-assign]
    with_windows.losses(images, given)
    with_windows.losses(images, targets)
    assert torch.equal(seen[0][1], given[1]["proposals"])
    assert torch.equal(seen[1][0], windows()(images)[0])


def test_windows_are_cut_to_the_image_and_those_mostly_outside_left_out() -> None:
    found = WindowProposals(RegionAnchors([[16]], [1.0]), [8], min_share=0.7)(torch.zeros(2, 3, 16, 24))
    assert len(found) == 2
    # of 2 x 3 windows of 16 x 16 around the cells' middles, each reaches 4 pixels over an edge, corners over two
    assert found[0].tolist() == [[4, 0, 20, 12], [4, 4, 20, 16]]
    smaller = windows()(torch.zeros(2, 3, 64, 96), [(64, 96), (48, 50)])
    alone = windows()(torch.zeros(1, 3, 48, 50))
    assert torch.equal(smaller[1], alone[0])
    assert len(smaller[0]) > len(smaller[1])
    with pytest.raises(ValueError, match="min_share"):
        WindowProposals(RegionAnchors([[16]]), [8], min_share=0.0)
