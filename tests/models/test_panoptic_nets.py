"""What holds for every panoptic net, whatever a picture shows."""

import pytest
import torch
import yaml
from experiment_nets import EXPERIMENTS, build, net_block
from panoptic_nets import IS_THING, NETS, net_of, target_of, truths

from lightning_cv.callbacks.panoptic import in_one_size
from lightning_cv.contracts import FoundSegments, LabelMap, PanopticNet
from lightning_cv.metrics.panoptic import PanopticQuality
from lightning_cv.models import PanopticFPN, SemanticBranch
from lightning_cv.models.panoptic.base import DividingNet
from lightning_cv.ops.panoptic import objects_of_segments
from lightning_cv.tasks import PanopticModule
from lightning_cv.viz.panoptic import segments_beside_truth

KINDS = list(truths())


def gradients(net: DividingNet, total: torch.Tensor) -> None:
    total.backward()
    bad = [n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())]
    assert bad == []


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_any_picture_are_finite_and_reach_every_parameter(name: str, kind: str) -> None:
    net = net_of(name)
    losses = net.losses(torch.rand(1, 3, 64, 96), [truths()[kind]])
    assert all(value.shape == () and value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    gradients(net, torch.stack(list(losses.values())).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_any_picture_is_scored_drawn_and_counted(kind: str) -> None:
    """Found as it is; of a crowd and of void nothing is asked."""
    target = truths()[kind]
    found: FoundSegments = {"segments": target["segments"], "labels": target["labels"]}
    metric = PanopticQuality(IS_THING)
    guess, truth = in_one_size(found, target)
    metric.update([guess], [truth], ["a"])
    asked = len(target["labels"]) > int(target["crowd"].sum())
    assert metric.compute().item() == pytest.approx(1.0 if asked else float("nan"), nan_ok=True)
    objects = objects_of_segments(target, (64, 96))
    assert len(objects["boxes"]) == int(target["is_thing"].sum())
    assert int(objects["crowd"].sum()) == int(target["crowd"].sum())
    names = LabelMap(("a", "b", "c", "d", "e"), 0, (1, 2, 5, 90, 91))
    assert segments_beside_truth(torch.rand(3, 64, 96), found, target, names, IS_THING).ndim == 3


@pytest.mark.parametrize("name", NETS)
def test_losses_in_half_precision(name: str) -> None:
    net = net_of(name)
    targets = [truths()["usual"], truths()["stuff only"]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = net.losses(torch.rand(2, 3, 64, 96), targets)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    gradients(net, torch.stack(list(losses.values())).sum())


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_scores_in_half_precision(name: str, half: torch.dtype) -> None:
    """Sums over a picture of this size are more than float16 holds."""
    net = net_of(name).eval()
    images = torch.rand(1, 3, 256, 320)
    with torch.autocast("cpu", dtype=half):
        (found,) = net.parts(images)
    (expected,) = net.parts(images)
    assert found.scores.dtype == torch.float32
    torch.testing.assert_close(found.scores[-2:], expected.scores[-2:], atol=2e-3, rtol=0)  # those of stuff


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", [(64, 96), (90, 70)])
def test_segments_and_detections_keep_the_contract(name: str, size: tuple[int, int]) -> None:
    net = net_of(name).eval()
    assert isinstance(net, PanopticNet)
    images = torch.rand(2, 3, *size)
    for threshold in vars(net.merge):
        setattr(net.merge, threshold, 0.0 if "share" in threshold or threshold == "score" else 1.0)
    divided = net.segments(images)
    assert sum(len(one["labels"]) for one in divided) > 0
    for one in divided:
        assert one["segments"].shape == size
        assert one["segments"].unique().tolist()[-len(one["labels"]) :] == list(range(1, len(one["labels"]) + 1))
        assert ((one["labels"] >= 0) & (one["labels"] < len(IS_THING))).all()
        assert ((one["scores"] >= 0) & (one["scores"] <= 1)).all()
    for one in net.detect(images):
        assert all(IS_THING[label - 1] for label in one["labels"].tolist())
        assert one["scores"].tolist() == sorted(one["scores"].tolist(), reverse=True)
        assert one["masks"].shape == (len(one["labels"]), *size)
        assert one["boxes"].shape == (len(one["labels"]), 4)
        assert (one["boxes"][:, 2:] >= one["boxes"][:, :2]).all()


@pytest.mark.parametrize("name", NETS)
def test_classes_of_the_data_are_kept_with_the_weights(name: str) -> None:
    net, other = net_of(name), NETS[name]()
    other.load_state_dict(net.state_dict())
    assert other.is_thing.tolist() == IS_THING
    with pytest.raises(ValueError, match="3 classes of things and 2 of stuff, but the data has 1 and 2"):
        net.tell_classes([True, False, False])


def test_loss_terms_of_panoptic_fpn_and_their_weights() -> None:
    net = net_of("panoptic_fpn")
    assert isinstance(net, PanopticFPN)
    images, targets = torch.rand(1, 3, 64, 96), [truths()["stuff only"]]
    before = net.losses(images, targets)
    assert list(before) == ["rpn_objectness", "rpn_box", "classifier", "box", "mask", "semantic"]
    net.instance_weight, net.semantic_weight = 0.0, 1.5
    after = net.losses(images, targets)
    assert [after[name].item() for name in list(before)[:-1]] == [0.0] * 5
    assert after["semantic"].item() == pytest.approx(3 * before["semantic"].item())
    with pytest.raises(ValueError, match="weights are at least 0"):
        PanopticFPN(net.instances, 2, semantic_weight=-1)


def test_a_void_picture_teaches_stuff_nothing() -> None:
    net = net_of("panoptic_fpn")
    losses = net.losses(torch.rand(1, 3, 64, 96), [truths()["all void"]])
    assert losses["semantic"].item() == losses["mask"].item() == 0
    assert losses["rpn_objectness"].item() > 0


def test_the_semantic_branch_adds_every_map_at_the_finest() -> None:
    """With convolutions that copy and no norm, the logits are the sum of the maps, enlarged."""
    branch = SemanticBranch([2, 2, 2], [4, 8, 16], 2, width=2, groups=1)
    assert [len(way) for way in branch.ways] == [1, 1, 2]  # type: ignore[arg-type]  # each is a list of layers
    for module in branch.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.dirac_(module.weight)
        elif isinstance(module, torch.nn.Sequential):
            module[1] = torch.nn.Identity()
    maps = [torch.full((1, 2, 16 // n, 24 // n), float(n)) for n in (1, 2, 4)]
    logits = branch(maps, (64, 96))
    assert logits.shape == (1, 2, 64, 96)
    torch.testing.assert_close(logits, torch.full_like(logits, 7.0))


def test_the_loss_of_the_semantic_branch_by_hand() -> None:
    branch = SemanticBranch([2], [4], 3, width=2, groups=1)
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 1, 0, 0] = 2.0
    masks = torch.tensor([[[1, 255], [2, 255]]])
    expected = -(torch.log_softmax(torch.tensor([0.0, 2, 0]), 0)[1] + torch.log(torch.tensor(1 / 3))) / 2
    assert branch.loss(logits, masks).item() == pytest.approx(expected.item())


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"stride must be twice the one before, got \[4, 16\]"):
        SemanticBranch([8, 8], [4, 16], 3)
    with pytest.raises(ValueError, match="multiple of groups, got 10 and 4"):
        SemanticBranch([8], [4], 3, width=10, groups=4)


def test_things_hide_stuff_whose_pixels_are_theirs() -> None:
    """Of a semantic map that sees stuff everywhere, the detection's pixels go to the thing."""
    net = net_of("panoptic_fpn").eval()
    assert isinstance(net, PanopticFPN)
    found = {
        "boxes": torch.tensor([[0.0, 0, 2, 2]]), "scores": torch.tensor([0.8]), "labels": torch.tensor([2]),
        "masks": torch.tensor([[[True, True, False, False]] * 2]),
    }  # fmt: skip
    probabilities = torch.tensor([0.1, 0.2, 0.7])[:, None, None].expand(3, 2, 4)
    parts = net._parts(found, probabilities)  # type: ignore[arg-type]  # a literal of the TypedDict
    assert parts.labels.tolist() == [2, 3]  # the second thing class, the second stuff class
    assert parts.scores.tolist() == pytest.approx([0.8, 0.7])
    merged = net.merge(parts)
    assert merged["segments"].tolist() == [[1, 1, 2, 2]] * 2


@pytest.mark.parametrize("name", NETS)
def test_classes_without_examples_do_no_harm(name: str) -> None:
    net, target = net_of(name), target_of(torch.ones(64, 96, dtype=torch.int64), [0])
    gradients(net, torch.stack(list(net.losses(torch.rand(1, 3, 64, 96), [target]).values())).sum())


@pytest.mark.parametrize("name", ["panoptic_fpn_r50_coco_1x", "panoptic_segformer_r50_coco_12e"])
def test_factors_of_the_published_recipes_reach_what_they_mean(name: str) -> None:
    """Detectron2 lets no norm decay; Panoptic SegFormer's backbone, sampling places and references learn slowly."""
    (path,) = [path for path in EXPERIMENTS if path.stem == name]
    scales = yaml.safe_load(path.read_text())["model"]["init_args"]
    with torch.device("meta"):
        net = build(net_block(path))
    task = PanopticModule(net, torch.optim.SGD, None, scales.get("lr_scales"), scales.get("decay_scales"))  # type: ignore[arg-type]
    groups = task._parameter_groups()
    norms = {id(p) for m in net.modules() if isinstance(m, torch.nn.GroupNorm) for p in m.parameters()}
    slow = {id(p) for n, p in net.named_parameters() if "sampling_offsets" in n or "reference_points" in n}
    slow |= {id(p) for n, p in net.named_parameters() if n.startswith("features.") and p.requires_grad}
    expected = norms if name.startswith("panoptic_fpn") else slow
    changed = [group for group in groups if group["lr_scale"] * group["decay_scale"] != 1]
    assert {id(parameter) for group in changed for parameter in group["params"]} == expected
    assert {group["lr_scale"] + group["decay_scale"] for group in groups} == ({2, 1} if expected is norms else {2, 1.1})
