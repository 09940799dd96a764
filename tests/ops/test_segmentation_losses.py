import math

import pytest
import torch
import torch.nn.functional as F
from oracles.losses import focal_loop, lovasz_loop, tversky_loop
from torchvision.ops import sigmoid_focal_loss

from lightning_cv.ops.segmentation_losses import (
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    JaccardLoss,
    LovaszLoss,
    SegmentationLoss,
    SumOfLosses,
    TverskyLoss,
    jaccard_steps,
    predict_masks,
)

LOSSES = {
    "ce": (CrossEntropyLoss(), lambda z, m: focal_loop(z, m)),
    "focal": (FocalLoss(2.0), lambda z, m: focal_loop(z, m, 2.0)),
    "focal half": (FocalLoss(0.5), lambda z, m: focal_loop(z, m, 0.5)),
    "dice": (DiceLoss(), lambda z, m: tversky_loop(z, m, 0.5, 0.5)),
    "jaccard": (JaccardLoss(), lambda z, m: tversky_loop(z, m, 1.0, 1.0)),
    "tversky": (TverskyLoss(0.3, 0.7), lambda z, m: tversky_loop(z, m, 0.3, 0.7)),
    "lovasz": (LovaszLoss(), lovasz_loop),
}
PROBLEMS = ("classes", "binary", "labels")
every_loss = pytest.mark.parametrize("name", LOSSES)
every_problem = pytest.mark.parametrize("problem", PROBLEMS)


def case(problem, seed=0, dtype=torch.float32):
    """Two images of 3 x 4 pixels, a quarter void; in `classes`, class 3 of 4 is in no mask."""
    generator = torch.Generator().manual_seed(seed)
    channels = 1 if problem == "binary" else 4
    logits = 2 * torch.randn(2, channels, 3, 4, generator=generator, dtype=dtype)
    shape = (2, 4, 3, 4) if problem == "labels" else (2, 3, 4)
    masks = torch.randint(0, 3 if problem == "classes" else 2, shape, generator=generator)
    return logits, masks.masked_fill(torch.rand(shape, generator=generator) < 0.25, 255)


def void_of(logits, masks):
    """Where logits have no say, as a bool of their shape."""
    return (masks == 255 if masks.ndim == 4 else (masks == 255)[:, None]).expand_as(logits)


def logit(*probabilities):
    """Logits (1, 1, 1, P) of a binary problem with these probabilities."""
    p = torch.tensor(probabilities, dtype=torch.float64)
    return (p / (1 - p)).log().view(1, 1, 1, -1)


def row(*classes):
    return torch.tensor(classes).view(1, 1, -1)


# by hand


def test_cross_entropy_by_hand():
    logits = torch.zeros(1, 3, 1, 4)
    assert CrossEntropyLoss()(logits, row(0, 2, 255, 255)).item() == pytest.approx(math.log(3))
    logits[0, 0, 0, 0] = math.log(2)  # the first pixel: 1/2, 1/4, 1/4
    loss = CrossEntropyLoss()(logits, row(0, 2, 255, 255))
    assert loss.item() == pytest.approx((math.log(2) + math.log(3)) / 2)
    weighted = CrossEntropyLoss([3.0, 0.0, 1.0])(logits, row(0, 2, 1, 255))
    assert weighted.item() == pytest.approx((3 * math.log(2) + math.log(3)) / 4)


def test_focal_by_hand():
    masks = row(1, 0, 255)
    logits = logit(0.5, 0.8, 0.9)  # p_t is 0.5 and 0.2
    expected = (0.5**2 * math.log(2) + 0.8**2 * math.log(5)) / 2
    assert FocalLoss(2.0)(logits, masks).item() == pytest.approx(expected)
    weighted = (0.25 * 0.5**2 * math.log(2) + 0.75 * 0.8**2 * math.log(5)) / 2
    assert FocalLoss(2.0, alpha=0.25)(logits, masks).item() == pytest.approx(weighted)


def test_overlaps_by_hand():
    logits, masks = logit(0.8, 0.4, 0.2, 0.9), row(1, 1, 0, 255)  # TP 1.2, FP 0.2, FN 0.8
    assert DiceLoss()(logits, masks).item() == pytest.approx(1 - 2.4 / 3.4)
    assert JaccardLoss()(logits, masks).item() == pytest.approx(1 - 1.2 / 2.2)
    assert TverskyLoss(0.3, 0.7)(logits, masks).item() == pytest.approx(1 - 1.2 / (1.2 + 0.06 + 0.56))


def test_lovasz_by_hand():
    truth, answer = row(1, 1, 0, 0, 255), torch.tensor([1, 0, 1, 0, 1])
    sure = 50.0 * F.one_hot(answer, 2).T.view(1, 2, 1, 5)
    assert LovaszLoss()(sure, truth).item() == pytest.approx(2 / 3)  # IoU 1/3 for both classes
    # errors 0, 1.5, 1.5: missing one of two costs 1/2, inventing one besides 2/3
    hinge = LovaszLoss()(torch.tensor([2.0, -0.5, 0.5, 9.0]).view(1, 1, 1, 4), row(1, 1, 0, 255))
    assert hinge.item() == pytest.approx(1.5 * 1 / 2 + 1.5 * (2 / 3 - 1 / 2))
    # no pixel is on: the worst alone counts, 1 - (-(-0.5))
    assert LovaszLoss()(torch.tensor([-2.0, -0.5]).view(1, 1, 1, 2), row(0, 0)).item() == pytest.approx(0.5)


def test_a_sum_is_weighted():
    logits, masks = case("classes")
    total = SumOfLosses([CrossEntropyLoss(), DiceLoss()], [1.0, 0.5])(logits, masks)
    assert total.item() == pytest.approx((CrossEntropyLoss()(logits, masks) + 0.5 * DiceLoss()(logits, masks)).item())
    assert SumOfLosses([DiceLoss(), DiceLoss()])(logits, masks).item() == pytest.approx(
        2 * DiceLoss()(logits, masks).item()
    )


def test_masks_are_the_best_class_or_what_is_more_likely_than_not():
    assert predict_masks(torch.tensor([1.0, 3.0, 2.0]).view(1, 3, 1, 1)).tolist() == [[[1]]]
    assert predict_masks(logit(0.49, 0.5, 0.51)).tolist() == [[[0, 0, 1]]]
    assert predict_masks(torch.zeros(0, 1, 2, 2)).shape == predict_masks(torch.zeros(0, 3, 2, 2)).shape == (0, 2, 2)


# against the definitions and other libraries


@every_loss
@every_problem
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loop(name, problem, seed):
    loss, loop = LOSSES[name]
    logits, masks = case(problem, seed)
    assert isinstance(loss, SegmentationLoss)
    assert loss(logits, masks).item() == pytest.approx(loop(logits.double(), masks), rel=1e-5)


@every_problem
def test_weights_by_class_equal_the_loop(problem):
    logits, masks = case(problem)
    weights = [0.5, 2.0, 1.0, 3.0] if problem == "classes" else [0.25, 1.5]
    assert FocalLoss(1.0, weights)(logits, masks).item() == pytest.approx(
        focal_loop(logits.double(), masks, 1.0, weights)
    )
    weight_of_pixel = focal_loop(torch.zeros_like(logits), masks, 0.0, weights) / focal_loop(
        torch.zeros_like(logits), masks
    )
    assert CrossEntropyLoss(weights)(logits, masks).item() == pytest.approx(
        focal_loop(logits.double(), masks, 0.0, weights) / weight_of_pixel
    )


def test_cross_entropy_equals_torch():
    logits, masks = case("classes")
    weights, arguments = torch.tensor([0.5, 2.0, 1.0, 3.0]), {"ignore_index": 255, "label_smoothing": 0.1}
    assert torch.equal(CrossEntropyLoss()(logits, masks), F.cross_entropy(logits, masks, ignore_index=255))
    torch.testing.assert_close(
        CrossEntropyLoss(weights.tolist(), 0.1)(logits, masks), F.cross_entropy(logits, masks, weights, **arguments)
    )
    for problem in ("binary", "labels"):
        logits, masks = case(problem)
        counted = ~void_of(logits, masks)
        on = (masks == 1).view_as(logits)[counted].to(logits)
        expected = F.binary_cross_entropy_with_logits(logits[counted], on)
        torch.testing.assert_close(CrossEntropyLoss()(logits, masks), expected)
        focal = sigmoid_focal_loss(logits[counted], on, alpha=0.25, gamma=2, reduction="mean")
        torch.testing.assert_close(FocalLoss(2.0, 0.25)(logits, masks), focal)


def test_one_logit_is_two_of_which_the_first_is_zero():
    logits, masks = case("binary")
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    for loss in (CrossEntropyLoss([0.3, 2.0], 0.1), FocalLoss(2.0, 0.25)):
        torch.testing.assert_close(loss(logits, masks), loss(two, masks))


def test_focal_without_focus_is_cross_entropy():
    logits, masks = case("classes")
    torch.testing.assert_close(FocalLoss(0.0)(logits, masks), CrossEntropyLoss()(logits, masks))


def test_masks_may_be_bool():
    logits, _ = case("labels")
    masks = torch.rand(logits.shape) < 0.5
    assert torch.equal(DiceLoss()(logits, masks), DiceLoss()(logits, masks.long()))


# void, and what is not there


@every_loss
@every_problem
def test_void_pixels_have_no_say(name, problem):
    loss, _ = LOSSES[name]
    logits, masks = case(problem)
    void = void_of(logits, masks)
    values, gradients = [], []
    for shift in (0.0, 7.0, -300.0):
        x = torch.where(void, logits + shift * torch.arange(1.0, 1 + logits.shape[1]).view(-1, 1, 1), logits)
        x.requires_grad_()
        value = loss(x, masks)
        value.backward()
        values.append(value.item())
        gradients.append(x.grad)
    assert values[0] == values[1] == values[2]
    for gradient in gradients:
        assert torch.equal(gradient, gradients[0])
        assert not gradient[void].any()
        assert gradient.any()


@every_loss
@every_problem
def test_a_batch_of_void_costs_nothing_and_has_a_gradient(name, problem):
    logits, masks = case(problem)
    for x, m in ((logits, torch.full_like(masks, 255)), (logits[:0], masks[:0])):
        x = x.clone().requires_grad_()
        loss = SumOfLosses([LOSSES[name][0]])(x, m)
        loss.backward()
        assert loss.item() == 0
        assert loss.shape == ()
        assert not x.grad.any()  # neither is a NaN 0


def test_a_class_of_weight_zero_alone_costs_nothing():
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    loss = CrossEntropyLoss([0.0, 1.0])(logits, torch.zeros(1, 2, 2, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky", "lovasz"])
def test_absent_classes_do_not_thin_the_mean(name):
    loss, _ = LOSSES[name]
    logits = torch.full((1, 21, 1, 4), -50.0)
    logits[:, 5] = 50  # sure of a class that is not there
    assert loss(logits, row(0, 0, 1, 255)).item() == pytest.approx(1.0)
    logits, masks = case("classes")  # class 3 of 4 is not there
    cut = torch.cat([logits[:, :3], torch.full_like(logits[:, 3:], -1e4)], dim=1)
    torch.testing.assert_close(loss(cut, masks), loss(logits[:, :3], masks))


@every_loss
@every_problem
def test_sure_logits_have_finite_gradients(name, problem):
    """Right or wrong beyond float32: a factor of 0 to the power of less than 1 is where focal losses turn to NaN."""
    logits, masks = case(problem)
    logits = (logits.sign() * 300).requires_grad_()
    LOSSES[name][0](logits, masks).backward()
    assert logits.grad.isfinite().all()
    right = torch.tensor([40.0, -200.0, 1.0], requires_grad=True)
    FocalLoss(0.5)(right.view(1, 1, 1, 3), row(1, 0, 1)).backward()
    assert right.grad.isfinite().all()
    assert right.grad[2] < 0


# gradients, precision, symmetry


@every_loss
@every_problem
def test_gradients(name, problem):
    logits, masks = case(problem, dtype=torch.float64)
    logits = logits[:, :, :2].clone().requires_grad_()
    masks = masks[..., :2, :]
    assert torch.autograd.gradcheck(lambda x: LOSSES[name][0](x, masks), logits)


@every_loss
@every_problem
def test_half_precision_is_left_behind_under_autocast(name, problem):
    loss, _ = LOSSES[name]
    logits, masks = case(problem)
    half = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(half, masks)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(half.float(), masks))


@every_loss
@every_problem
def test_the_order_of_pixels_and_classes_does_not_matter(name, problem):
    loss, _ = LOSSES[name]
    logits, masks = case(problem)
    value = loss(logits, masks)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))

    def shuffled(x):
        flat = x.movedim(1, 0).reshape(-1, 24) if x.ndim == 4 else x.reshape(1, 24)
        flat = flat[:, order].view(-1, 2, 3, 4)
        return flat.movedim(0, 1) if x.ndim == 4 else flat[0]

    torch.testing.assert_close(loss(shuffled(logits), shuffled(masks)), value)
    if problem != "binary":
        places = torch.tensor([2, 0, 3, 1])  # class k goes to place[k]
        moved = logits[:, places.argsort()]
        if problem == "labels":
            renamed = masks[:, places.argsort()]
        else:
            renamed = torch.where(masks == 255, masks, places[masks.clamp(max=3)])
        torch.testing.assert_close(loss(moved, renamed), value)


def test_steps_are_exact_with_millions_of_pixels():
    truth = torch.rand(1, 2_000_000, generator=torch.Generator().manual_seed(0)) < 0.01
    wanted = truth.sum().double()
    jaccard = 1 - (wanted - truth.cumsum(1).double()) / (wanted + (~truth).cumsum(1).double())
    exact = jaccard.diff(dim=1, prepend=torch.zeros(1, 1, dtype=torch.float64))
    steps = jaccard_steps(truth).double()
    assert ((steps - exact).abs() <= 1e-4 * exact + 1e-15).all()
    plain = jaccard.float().diff(dim=1)  # differences in float32
    relative = (plain - exact[:, 1:]).abs() / exact[:, 1:].clamp(min=1e-30)
    assert relative.median() > 0.05


# the door


@every_loss
def test_shapes_that_do_not_fit_are_named(name):
    loss, _ = LOSSES[name]
    for logits, masks in (((2, 3, 4, 4), (2, 4, 5)), ((2, 3, 4), (2, 4)), ((2, 3, 4, 4), (2, 2, 4, 4))):
        with pytest.raises(ValueError, match=f"{type(loss).__name__}: need logits"):
            loss(torch.zeros(logits), torch.zeros(masks, dtype=torch.int64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossEntropyLoss([-1.0, 1.0]), "class_weights must be finite"),
        (lambda: CrossEntropyLoss([0.0, 0.0]), "class_weights"),
        (lambda: CrossEntropyLoss(label_smoothing=1.0), "label_smoothing"),
        (lambda: FocalLoss(-1.0), "gamma"),
        (lambda: FocalLoss(alpha=1.5), "alpha"),
        (lambda: TverskyLoss(beta=0.0), "TverskyLoss: alpha"),
        (lambda: SumOfLosses([]), "0 weights for 0 losses"),
        (lambda: SumOfLosses([DiceLoss()], [1.0, 2.0]), "2 weights for 1 losses"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_wrong_number_of_class_weights_is_told():
    with pytest.raises(ValueError, match="2 class weights for 4 classes"):
        FocalLoss(alpha=0.25)(*case("classes"))


def test_losses_keep_nothing_in_checkpoints():
    assert SumOfLosses([CrossEntropyLoss([1.0, 2.0]), FocalLoss(alpha=0.25)]).state_dict() == {}


# segmentation-models-pytorch: where it agrees, and the faults that are why these are ours


def present(problem):
    """A case with every class in it."""
    logits, masks = case(problem)
    if problem == "classes":
        masks[0, 0] = torch.arange(4)
    return logits, masks


@every_problem
def test_overlaps_equal_smp_where_every_class_is_there(problem):
    smp = pytest.importorskip("segmentation_models_pytorch").losses
    mode = {"classes": "multiclass", "binary": "binary", "labels": "multilabel"}[problem]
    logits, masks = present(problem)
    settings = {"mode": mode, "ignore_index": 255}
    theirs = [
        (smp.DiceLoss(**settings), DiceLoss()),
        (smp.JaccardLoss(**settings), JaccardLoss()),
        (smp.TverskyLoss(**settings, alpha=0.3, beta=0.7), TverskyLoss(0.3, 0.7)),
    ]
    if problem != "labels":  # it takes all labels for one
        theirs.append((smp.LovaszLoss(**settings), LovaszLoss()))
    if problem == "binary":
        theirs.append((smp.FocalLoss(**settings, alpha=0.25), FocalLoss(2.0, 0.25)))
    for theirs_, ours in theirs:
        torch.testing.assert_close(ours(logits, masks), theirs_(logits, masks))


def test_faults_of_smp():
    """Should one of these fail after an update, its own loss may do."""
    smp = pytest.importorskip("segmentation_models_pytorch").losses
    logits, masks = case("classes")
    void = torch.full_like(masks, 255)
    counted = (masks != 255).float().mean()
    thin = smp.SoftCrossEntropyLoss(ignore_index=255, smooth_factor=0.0)(logits, masks)
    torch.testing.assert_close(thin, CrossEntropyLoss()(logits, masks) * counted)  # void is in the denominator
    assert smp.FocalLoss("multiclass", ignore_index=255)(logits, void).isnan()
    assert smp.LovaszLoss("multiclass", ignore_index=255)(logits, void).shape != ()
    sure = torch.full((1, 21, 1, 4), -50.0)
    sure[:, 5] = 50
    dice = smp.DiceLoss("multiclass", ignore_index=255)(sure, row(0, 0, 1, 255))
    assert dice.item() == pytest.approx(2 / 21)  # wholly wrong, thinned by the 19 classes that are not there
