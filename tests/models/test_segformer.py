"""Panoptic SegFormer's parts: matching, losses, attention, masks and parameters by hand, by loops, by the paper."""

import pytest
import torch
from experiment_nets import EXPERIMENTS, build, net_block
from oracles import queries as oracle
from panoptic_nets import IS_THING, net_of, target_of, truths
from torch import nn

from lightning_cv.models import PanopticSegFormer, TimmBackbone
from lightning_cv.models.panoptic.deformable import DeformableAttention, Located
from lightning_cv.models.panoptic.mask_decoder import MaskAsker, MaskDecoder
from lightning_cv.models.panoptic.panoptic_segformer import Encoded
from lightning_cv.models.panoptic.segformer_losses import (
    Pairs,
    Truth,
    Weights,
    assign,
    candidates,
    location_cost,
    location_terms,
    mask_pairs,
    mask_term,
    stuff_class_term,
    truth_of,
)

NUMBERS = torch.Generator().manual_seed(0)


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=NUMBERS)


def total(cost: torch.Tensor, pairs: Pairs) -> float:
    return float(cost[pairs.queries, pairs.things].sum())


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (1, 1)])
def test_the_assignment_is_the_best_of_all(shape: tuple[int, int]) -> None:
    for _ in range(5):
        cost = rand(*shape)
        pairs = assign(cost)
        assert total(cost, pairs) == pytest.approx(
            sum(cost[q, g].item() for q, g in oracle.best_pairs(cost.tolist())), abs=1e-5
        )
        assert len(set(pairs.queries.tolist())) == len(set(pairs.things.tolist())) == min(shape)


def test_nothing_to_assign_and_costs_that_are_no_numbers() -> None:
    assert [len(part) for part in assign(torch.zeros(4, 0))] == [0, 0]
    assert assign(torch.tensor([[torch.nan, 1.0], [2.0, torch.inf]])).things.tolist() == [1, 0]


def test_candidates_are_the_queries_of_assignments_in_turn() -> None:
    cost = torch.tensor([[0.0, 9], [9, 1], [2, 9], [9, 3], [4, 9], [9, 9]])
    best, chosen = candidates(cost, rounds=2)
    assert (best.queries.tolist(), best.things.tolist()) == ([0, 1], [0, 1])
    assert chosen.tolist() == [0, 1, 2, 3]
    assert candidates(cost, rounds=9)[1].tolist() == [0, 1, 2, 3, 4, 5]  # no query twice
    assert candidates(cost, rounds=2, most=3)[1].tolist() == [0, 1]
    assert candidates(cost, rounds=2, most=1)[1].tolist() == [0, 1]  # one round at least
    assert candidates(cost[:, :0], rounds=2)[1].tolist() == []


def a_truth(height: int = 8, width: int = 8) -> Truth:
    masks = torch.zeros(2, height, width, dtype=torch.bool)
    masks[0, :4, :4], masks[1, 4:, 2:] = True, True
    boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.625, 0.75, 0.75, 0.5]])
    stuff = ~masks.any(dim=0)
    return Truth(torch.tensor([2, 0]), boxes, masks, torch.stack([stuff & False, stuff]), torch.tensor([False, True]))


def test_location_terms_equal_their_loops() -> None:
    logits, boxes = torch.randn(1, 4, 3, generator=NUMBERS), rand(1, 4, 4) * 0.5 + 0.2
    truth, weights = a_truth(), Weights(2, 5, 2, 2)
    pairs = Pairs(torch.tensor([3, 1]), torch.tensor([0, 1]))
    found = location_terms(logits, boxes, [truth], [pairs], (8, 8), weights, 2)
    wanted = {(3, 2), (1, 0)}
    focal = sum(oracle.focal(logits[0, q, k].item(), (q, k) in wanted) for q in range(4) for k in range(3))
    own = [(boxes[0, 3].tolist(), truth.boxes[0].tolist()), (boxes[0, 1].tolist(), truth.boxes[1].tolist())]
    assert found["class"].item() == pytest.approx(2 * focal / 2, rel=1e-4)
    assert found["box"].item() == pytest.approx(5 * sum(oracle.l1(*pair) for pair in own) / 2, rel=1e-4)
    assert found["giou"].item() == pytest.approx(2 * sum(1 - oracle.giou(*pair) for pair in own) / 2, rel=1e-4)
    cost = location_cost(logits[0], boxes[0], truth, weights)
    expected = 2 * oracle.sigmoid_cost(logits[0, 1, 2].item())
    expected += 5 * oracle.l1(boxes[0, 1].tolist(), truth.boxes[0].tolist())
    expected -= 2 * oracle.giou(boxes[0, 1].tolist(), truth.boxes[0].tolist())
    assert cost[1, 0].item() == pytest.approx(expected, rel=1e-4)


def test_masks_decide_where_boxes_and_classes_do_not() -> None:
    truth = a_truth()
    masks = torch.stack([truth.masks[1], truth.masks[0]]).float()[:, ::2, ::2]
    pairs = mask_pairs(torch.zeros(2, 2), masks, truth, Weights())
    assert pairs.things.tolist() == [1, 0]
    assert mask_pairs(torch.tensor([[0.0, 9], [9, 0]]), masks, truth, Weights()).things.tolist() == [0, 1]


def test_the_mask_term_sums_layers_and_divides_by_segments() -> None:
    truth = a_truth()
    perfect = truth.masks.float()[None, :, ::2, ::2]
    rows, true = [torch.tensor([0, 1])], [truth.masks]
    one = mask_term([perfect], rows, true, 2)
    assert 0 < one.item() < 0.1  # only the edges, which are blurred on the way
    assert mask_term([perfect, perfect], rows, true, 4).item() == pytest.approx(one.item())
    nothing = mask_term([perfect.requires_grad_()], [torch.zeros(0).long()], [truth.masks[:0]], 1)
    nothing.backward()
    assert nothing.item() == 0
    assert perfect.grad is not None


def test_stuff_classes_by_hand() -> None:
    logits = torch.tensor([[0.3, -1.2]])
    expected = oracle.focal(0.3, False) + oracle.focal(-1.2, True)
    assert stuff_class_term([logits, logits], [a_truth()], 1).item() == pytest.approx(2 * expected, rel=1e-4)


def test_the_truth_of_a_picture() -> None:
    segments = torch.tensor([[1, 2, 3, 3], [1, 4, 4, 0]])
    truth = truth_of(target_of(segments, [0, 4, 1, 0], [False, False, True, False]), torch.tensor(IS_THING))
    assert truth.labels.tolist() == [2]  # the third class of things; the crowd is none
    assert truth.boxes.tolist() == [[0.375, 0.25, 0.25, 0.5]]
    assert truth.present.tolist() == [True, False]
    assert truth.stuff[0].long().tolist() == [[1, 0, 0, 0], [1, 1, 1, 0]]  # two segments of one class


def test_terms_are_shared_out_by_the_number_of_segments() -> None:
    net = net_of("panoptic_segformer")
    assert isinstance(net, PanopticSegFormer)
    images = torch.rand(1, 3, 64, 96)
    net.eval()
    usual = net.losses(images, [truths()["usual"]])
    assert list(usual) == ["class", "box", "giou", "mask_things", "mask_stuff", "class_stuff"]
    encoded = net.encode(images)
    stuff = stuff_class_term(net._stuff_logits(net._stuff(encoded)), [truth_of(truths()["usual"], net.is_thing)], 2)
    assert usual["class_stuff"].item() == pytest.approx(4 * stuff.item() * 2 / 4, rel=1e-4)  # two of four are stuff


def test_references_that_are_boxes_keep_places_within_reach() -> None:
    attention = DeformableAttention(8, 1, 2, 2)
    with torch.no_grad():
        for layer in (attention.values, attention.output):
            nn.init.eye_(layer.weight)
    cells = torch.arange(16.0).view(1, 16, 1).expand(1, 16, 8)
    point = torch.tensor([[[0.625, 0.625]]])  # the middle of the cell in row 2, column 2
    box = torch.tensor([[[0.625, 0.625, 0.0, 0.0]]])
    queries = torch.zeros(1, 1, 8)
    assert attention(queries, box, cells, [(4, 4)]).flatten().tolist() == pytest.approx([10.0] * 8)
    # the first head looks along x: one and two cells to the right, the second of which lies outside; the other along -x
    assert attention(queries, point, cells, [(4, 4)]).flatten().tolist() == pytest.approx(
        [5.5] * 4 + [8.5] * 4, abs=1e-4
    )


def test_masks_are_a_sum_over_maps_brought_to_the_finest() -> None:
    asker = MaskAsker(4, 2, 2)
    for layer in asker.of_level:
        assert isinstance(layer, nn.Linear)
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.ones_(asker.fuse.weight)
    nn.init.constant_(asker.fuse.bias, -1.0)
    products = torch.zeros(1, 2, 1, 5)
    products[0, :, 0, :4] = torch.tensor([[1.0, 2, 3, -4], [0, 0, 0.5, 0]])  # two heads at the finest map, 2 x 2
    products[0, :, 0, 4] = torch.tensor([0.25, -1])  # and at the coarser one
    masks = asker.masks(products, [(2, 2), (1, 1)])
    assert masks.flatten().tolist() == pytest.approx([0.25, 1.25, 2.75, 0.0])


def test_every_layer_gives_masks_and_a_last_look_as_well() -> None:
    decoder = MaskDecoder(8, 2, 2, layers=3, among=True)
    found = decoder(rand(2, 5, 8), rand(5, 8), rand(2, 20, 8), [(4, 4), (2, 2)])
    assert [mask.shape for mask in found.masks] == [(2, 5, 4, 4)] * 4
    assert [queries.shape for queries in found.queries] == [(2, 5, 8)] * 3
    assert all((mask >= 0).all() for mask in found.masks)


def test_a_score_is_that_of_the_class_times_the_squared_quality_of_the_mask() -> None:
    net = net_of("panoptic_segformer").eval()
    assert isinstance(net, PanopticSegFormer)
    net.detections = 2
    logits = torch.full((1, 12, 3), -9.0)
    logits[0, 4, 1], logits[0, 4, 2] = 2.0, 1.0  # one query, two classes
    boxes = torch.full((1, 12, 4), 0.5)
    encoded = Encoded(torch.zeros(1, 1, 16), [(2, 2)], Located(torch.zeros(1, 12, 16), [logits], [boxes]))
    net._things = lambda alone, chosen: type("M", (), {"masks": [torch.full((1, 1, 2, 2), 0.9)]})()  # type: ignore[method-assign]
    parts = net._parts(encoded, 0, torch.full((2, 2, 2), 1.5), torch.tensor([0.5, 0.25]), (8, 8))
    assert parts.labels.tolist() == [2, 4, 0, 3]
    quality = 64 * 0.9 / 65
    sigmoid = torch.tensor([2.0, 1.0]).sigmoid()
    expected = [*(sigmoid * quality**2).tolist(), 0.5 * (64 / 65) ** 2, 0.25 * (64 / 65) ** 2]
    assert parts.scores.tolist() == pytest.approx(expected, rel=1e-5)
    assert parts.boxes[:2].tolist() == [[2, 2, 6, 6]] * 2


@pytest.mark.parametrize("name", ["resnet50", "pvt_v2_b0", "swin_tiny_patch4_window7_224"])
def test_any_timm_net_gives_it_maps(name: str) -> None:
    """Of sides that are no multiple of a window, too."""
    few = {"encoder_layers": 1, "location_layers": 1, "thing_layers": 1, "stuff_layers": 1}
    net = PanopticSegFormer(TimmBackbone(name, (1, 2, 3)), 3, 2, channels=32, queries=5, **few).eval()
    encoded = net.encode(torch.rand(1, 3, 64, 96))
    sides = [(8, 12), (4, 6), (2, 3), (1, 2)] if name != "resnet50" else [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert encoded.sizes == sides
    assert encoded.located.boxes[0].shape == (1, 5, 4)


def test_the_published_net_has_the_parameters_of_the_paper() -> None:
    """51.0 million in Li et al. 2022, table 1, are those that are trained: neither frozen layers nor batch norms.

    Ours has 612,688 fewer: the released code has a box and a class in each of the four layers for things, whose losses
    it multiplies by 0.
    """
    (path,) = [path for path in EXPERIMENTS if path.stem == "panoptic_segformer_r50_coco_12e"]
    with torch.device("meta"):
        net = build(net_block(path))
    trained = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    box_head, class_head = 2 * (256 * 256 + 256) + 256 * 4 + 4, 256 * 80 + 80
    assert trained + 4 * (box_head + class_head) == 50_996_380


def test_settings_that_cannot_be_are_refused() -> None:
    with torch.device("meta"):
        features = TimmBackbone("resnet18", (2, 3, 4))
        with pytest.raises(ValueError, match="classes of things and of stuff, queries and layers are at least 1 each"):
            PanopticSegFormer(features, 3, 0)
        with pytest.raises(ValueError, match="multiple of 4, of heads and of groups, got 36, 8 and 32"):
            PanopticSegFormer(features, 3, 2, channels=36)
