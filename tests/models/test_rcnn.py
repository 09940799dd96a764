"""R-CNN's parts against closed forms and scikit-learn. Letters: R regions, D inputs, T outputs."""

import numpy as np
import pytest
import torch
import torchvision
from scipy.optimize import minimize
from sklearn.linear_model import Ridge

from lightning_cv.models import SmallBackbone
from lightning_cv.models.detection.alexnet import AlexNetFeatures
from lightning_cv.models.detection.rcnn import (
    BoxSums,
    HardNegatives,
    Mining,
    RegionNet,
    first_rows,
    fit_boxes,
    fit_svm,
    region_boxes,
    region_deltas,
    ridge,
)


def mine_svm(positives, pictures, mining):
    miner = HardNegatives(positives, mining)
    for negatives in pictures:
        miner.see(negatives)
    return miner.finished()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("rows", "columns"), [(30, 4), (4, 30), (7, 7)])
def test_ridge_is_scikit_learns_whichever_system_is_smaller(rng, rows, columns):
    inputs, outputs = rng.normal(size=(rows, columns)), rng.normal(size=(rows, 3))
    expected = Ridge(alpha=2.5, fit_intercept=False, solver="svd").fit(inputs, outputs).coef_.T
    np.testing.assert_allclose(ridge(inputs, outputs, 2.5), expected, atol=1e-10)


def test_box_regression_is_the_released_codes_formula(rng):
    pooled, deltas = rng.normal(size=(40, 6)), rng.normal(size=(40, 4)) @ rng.normal(size=(4, 4)) * 0.1 + 0.3
    found = fit_boxes(pooled.astype(np.float32), deltas, strength=3.0)
    mean = deltas.mean(0)
    values, vectors = np.linalg.eig((deltas - mean).T @ (deltas - mean) / 40)
    whiten = vectors @ np.diag(1 / np.sqrt(values + 0.001)) @ vectors.T
    inputs = np.concatenate([pooled.astype(np.float32), np.ones((40, 1))], axis=1)
    weights = np.linalg.inv(inputs.T @ inputs + 3.0 * np.eye(7)) @ inputs.T @ ((deltas - mean) @ whiten)
    np.testing.assert_allclose(found(pooled), inputs @ weights @ np.linalg.inv(whiten) + mean, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 3, 10])
def test_regions_may_come_a_few_at_a_time(rng, parts):
    """Three rows or ten of five columns each: before and after there are more rows than columns."""
    pooled, deltas = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(30, 4))
    sums = BoxSums(4, strength=3.0)
    for some, moved in zip(np.array_split(pooled, parts), np.array_split(deltas, parts), strict=True):
        sums.add(some, moved)
    mean = deltas.mean(0)
    values, vectors = np.linalg.eigh((deltas - mean).T @ (deltas - mean) / 30)
    whiten = vectors @ np.diag(1 / np.sqrt(values + 0.001)) @ vectors.T
    inputs = np.concatenate([pooled, np.ones((30, 1))], axis=1)
    weights = np.linalg.inv(inputs.T @ inputs + 3.0 * np.eye(5)) @ inputs.T @ ((deltas - mean) @ whiten)
    np.testing.assert_allclose(sums.fitted()(pooled), inputs @ weights @ np.linalg.inv(whiten) + mean, atol=1e-6)


def test_box_regression_learns_a_linear_rule_and_without_regions_leaves_boxes(rng):
    pooled = rng.normal(size=(200, 5)).astype(np.float32)
    deltas = pooled @ rng.normal(size=(5, 4)) * 0.1
    np.testing.assert_allclose(fit_boxes(pooled, deltas, strength=1e-3)(pooled), deltas, atol=1e-3)
    nothing = fit_boxes(pooled[:0], deltas[:0])
    assert not nothing(pooled).any()


def test_deltas_move_boxes_onto_the_true_ones_and_are_cut_to_the_picture():
    boxes = np.array([[10, 10, 30, 20], [0, 0, 8, 8]], np.float32)
    true = np.array([[14, 5, 34, 25], [2, 2, 6, 10]], np.float32)
    deltas = region_deltas(boxes, true)
    assert deltas[0] == pytest.approx([0.2, 0, 0, np.log(2)])
    np.testing.assert_allclose(region_boxes(boxes, deltas, (100, 100)), true, atol=1e-5)
    assert region_boxes(boxes, deltas, (20, 32))[0].tolist() == [14, 5, 32, 20]


def test_the_svm_of_two_points_is_known():
    """One point each side, at +2 and -2, and a hinge that can be satisfied: the weight is 1 / 2, the bias 0."""
    machine = fit_svm(
        np.array([[2.0]]), np.array([[-2.0]]), Mining(strength=100.0, positive_weight=1.0, tolerance=1e-4)
    )
    assert machine.weight == pytest.approx([0.5], abs=1e-3)
    assert machine.bias == pytest.approx(0, abs=1e-3)


def test_the_svm_is_the_least_of_its_objective(rng):
    positives, negatives = rng.normal(0.5, 1, (30, 3)), rng.normal(-0.5, 1, (50, 3))
    mining = Mining(strength=0.05, tolerance=1e-4)

    def objective(values):
        weight, constant = values[:3], values[3]
        losses = [
            (w * np.maximum(0, 1 - sign * (x @ weight + 10 * constant))).sum()
            for x, sign, w in ((positives, 1, 2.0), (negatives, -1, 1.0))
        ]
        return 0.5 * (values**2).sum() + 0.05 * sum(losses)

    machine = fit_svm(positives, negatives, mining)
    found = objective(np.array([*machine.weight, machine.bias / 10]))
    best = minimize(objective, np.zeros(4), method="Nelder-Mead", options={"maxiter": 20000, "maxfev": 20000}).fun
    assert found <= best * 1.001


def test_mined_background_gives_the_svm_of_all_of_it(rng):
    positives = rng.normal(1.0, 0.5, (40, 4)).astype(np.float32)
    pictures = [rng.normal(-1.0, 0.8, (60, 4)).astype(np.float32) for _ in range(20)]
    mining = Mining(strength=0.1, retrain_every=50, easy_below=-3.0, tolerance=1e-4)
    mined, whole = mine_svm(positives, pictures, mining), fit_svm(positives, np.concatenate(pictures), mining)
    np.testing.assert_allclose(mined.weight, whole.weight, rtol=0.02, atol=0.01)
    everything = np.concatenate([positives, *pictures])
    assert (np.sign(mined(everything)) == np.sign(whole(everything))).mean() > 0.995


def test_easy_background_is_never_trained_on(rng):
    """All of it lies far behind the first picture's: the SVM is that of the first."""
    positives = np.array([[2.0], [2.5]], np.float32)
    first, far = np.array([[-2.0]], np.float32), np.full((5000, 1), -50.0, np.float32)
    mining = Mining(strength=1.0)
    mined = mine_svm(positives, [first, far], mining)
    assert mined == fit_svm(positives, first, mining)


def test_a_class_without_background_likes_all_until_there_is_some():
    some = np.ones((3, 2), np.float32)
    assert mine_svm(some, [some[:0]], Mining())(some).tolist() == [1, 1, 1]
    late = mine_svm(some, [some[:0], -some], Mining(strength=1.0))
    assert late(some).min() > 0 > late(-some).max()


def test_a_regions_features_come_in_two_steps_and_train():
    torch.manual_seed(0)
    net = RegionNet(SmallBackbone(width=8, strides=(16,)), 3, size=48, context=4, grid=2, hidden=10, layers=2)
    crops = torch.rand(5, 3, 48, 48)
    logits = net.eval()(crops)
    assert logits.shape == (5, 4)
    torch.testing.assert_close(net.score(net.features(net.pooled(crops))), logits)
    assert net.pooled(crops).shape == (5, net.pooled_size)
    net.train()(crops).square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())
    with pytest.raises(ValueError, match="twice the context"):
        RegionNet(SmallBackbone(), 3, size=32, context=16)


def test_rows_are_drawn_once_each_while_there_are_enough():
    generator = torch.Generator().manual_seed(0)
    assert sorted(first_rows(torch.arange(5), 5, generator).tolist()) == [0, 1, 2, 3, 4]
    assert set(first_rows(torch.tensor([7]), 3, generator).tolist()) == {7}
    assert len(first_rows(torch.arange(0), 3, generator)) == 0


def test_alexnet_is_torchvisions_and_its_classifier_fills_fc6_and_fc7(tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.alexnet(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "alexnet.pth")
    file = str(tmp_path / "alexnet.pth")
    backbone = AlexNetFeatures(weights=file, frozen=2)
    assert [p.requires_grad for p in backbone.parameters()] == [False] * 4 + [True] * 6
    net = RegionNet(backbone, 20, weights=file).eval()
    crops = torch.rand(2, 3, 227, 227)
    normalised = backbone.normalise(crops)
    pooled = theirs.features(normalised)
    assert pooled.shape[1:] == (256, 6, 6)
    torch.testing.assert_close(net.pooled(crops), pooled.flatten(1))
    torch.testing.assert_close(net.features(net.pooled(crops)), theirs.classifier[:6](pooled.flatten(1)))
    assert float(net.score.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    with pytest.raises(ValueError, match="layer 1 is not of shape"):
        RegionNet(AlexNetFeatures(), 20, hidden=100, weights=file)
