"""R-CNN's parts: a net for warped regions, a linear SVM a class, ridge regression of boxes.

Girshick et al. 2014, "Rich feature hierarchies for accurate object detection and semantic segmentation".
Letters: R regions; K classes; P pooled values and F features of a region; D inputs of a regression, T outputs.
"""

import warnings
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from lightning_cv.contracts import Backbone
from lightning_cv.models.detection.region_features import load_classifier

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class RegionNet(nn.Module):
    """Features of warped regions, and for fine-tuning the logits of K classes and background.

    Section 2.1: the crop is a square of `size` pixels that shows `context` pixels of surroundings on each side. "pool5"
    is the backbone's last map averaged in grid x grid fields, "fc7" what `layers` fully connected layers make of it.

    Args:
        backbone: its last map is used; it normalises its input itself.
        num_classes: K, background not counted.
        size, context: of the crops; 227 and 16 in the paper.
        grid: fields a side; 6 in the paper.
        hidden, layers: units of a fully connected layer and their number; 4096 and 2 in the paper.
        dropout: in training, after each of them.
        weights: path of a state dict with torchvision's names (`classifier.N.weight`), whose first layers these become;
            None draws them at random. The layer of the scores has a deviation of 0.01, as released.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        size: int = 227,
        context: int = 16,
        grid: int = 6,
        hidden: int = 4096,
        layers: int = 2,
        dropout: float = 0.5,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if min(num_classes, grid, hidden, layers) < 1 or not 0 <= 2 * context < size:
            raise ValueError(
                "RegionNet: num_classes, grid, hidden and layers are at least 1 and twice the context less than the "
                f"size, got {num_classes}, {grid}, {hidden}, {layers}, {context} and {size}"
            )
        self.num_classes, self.size, self.context, self.grid = num_classes, size, context, grid
        self.backbone = cast(nn.Module, backbone)
        self.pooled_size, self.feature_size = backbone.out_channels[-1] * grid**2, hidden
        inputs = self.pooled_size
        connected: list[nn.Module] = []
        for _ in range(layers):
            connected += [nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)]
            inputs = hidden
        self.connected = nn.Sequential(*connected)
        self.score = nn.Linear(hidden, num_classes + 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.zeros_(self.score.bias)
        if weights is not None:
            load_classifier([layer for layer in connected if isinstance(layer, nn.Linear)], weights)

    def pooled(self, crops: Tensor) -> Tensor:
        """What boxes are regressed from, (R, P), of crops (R, 3, size, size)."""
        last: Tensor = self.backbone(crops)[-1]
        return F.adaptive_avg_pool2d(last, self.grid).flatten(1)

    def features(self, pooled: Tensor) -> Tensor:
        """What the SVMs see, (R, F), of pooled values (R, P)."""
        return cast(Tensor, self.connected(pooled))

    def forward(self, crops: Tensor, /) -> Tensor:
        """Logits (R, K + 1), background first."""
        return cast(Tensor, self.score(self.features(self.pooled(crops))))


class Linear(NamedTuple):
    """A linear score: features @ weight + bias."""

    weight: Doubles  # (F,)
    bias: float

    def __call__(self, features: Floats) -> Doubles:
        """Scores (R,) of features (R, F)."""
        scores: Doubles = features @ self.weight + self.bias
        return scores


@dataclass(frozen=True)
class Mining:
    """How a class's SVM is trained; the defaults are those of the released code.

    Args:
        strength: C, the weight of the hinge losses against the square of the weights.
        positive_weight: of an object's loss; a background region's is 1.
        bias: value of the constant feature, which makes the penalty on the bias small.
        hard_above: a background region that scores more is hard and joins the training.
        easy_below: one that scores less after a training leaves it.
        retrain_every: hard regions after which the SVM is trained again.
        tolerance: violation of the dual's conditions at which a training ends; liblinear's own default.
        most_passes: over the regions, at which it ends at the latest; liblinear's own default.
    """

    strength: float = 1e-3
    positive_weight: float = 2.0
    bias: float = 10.0
    hard_above: float = -1.0001
    easy_below: float = -1.2
    retrain_every: int = 2000
    tolerance: float = 0.1
    most_passes: int = 1000


def fit_svm(positives: Floats, negatives: Floats, mining: Mining) -> Linear:
    """The linear SVM of L1 hinge losses that tells (R, F) positives from negatives (liblinear's solver 3)."""
    machine = LinearSVC(
        C=mining.strength,
        loss="hinge",
        dual=True,
        intercept_scaling=mining.bias,
        class_weight={1: mining.positive_weight, -1: 1.0},
        tol=mining.tolerance,
        max_iter=mining.most_passes,
        random_state=0,
    )
    labels = np.concatenate([np.ones(len(positives), np.int64), np.full(len(negatives), -1)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the bound on the passes
        machine.fit(np.concatenate([positives, negatives]).astype(np.float64), labels)
    return Linear(machine.coef_[0], float(machine.intercept_[0]))


class HardNegatives:
    """The SVM of one class while the background regions of one picture after the other are seen, each once.

    Section 2.3 and `rcnn_train` of the released code: all background regions of the first picture are taken; of the
    others those that the present SVM does not put clearly aside. Differs: where no picture has background, all scores
    are 1.

    Args:
        positives: features (R, F) of the class's objects, at least one.
        mining: the numbers.
    """

    def __init__(self, positives: Floats, mining: Mining) -> None:
        self.positives, self.mining = positives, mining
        self.machine: Linear | None = None
        self._kept, self._fresh = positives[:0], [positives[:0]]

    def see(self, negatives: Floats) -> None:
        """Take what is hard of a picture's background regions (R, F), and train again when there is enough of it."""
        if self.machine is not None:
            negatives = negatives[self.machine(negatives) > self.mining.hard_above]
        self._fresh.append(negatives)
        waiting = sum(map(len, self._fresh))
        if waiting and (self.machine is None or waiting >= self.mining.retrain_every):
            self._train()
            assert self.machine is not None
            self._kept = self._kept[self.machine(self._kept) >= self.mining.easy_below]

    def finished(self) -> Linear:
        """The SVM of what was seen."""
        if any(map(len, self._fresh)):
            self._train()
        return self.machine or Linear(np.zeros(self.positives.shape[1]), 1.0)

    def _train(self) -> None:
        self._kept, self._fresh = np.concatenate([self._kept, *self._fresh]), []
        self.machine = fit_svm(self.positives, self._kept, self.mining)


class BoxRegression(NamedTuple):
    """Deltas of a region's box by ridge regression of whitened targets."""

    weight: Doubles  # (P + 1, 4), the last row is the bias
    mean: Doubles  # (4,) of the targets
    unwhiten: Doubles  # (4, 4)

    def __call__(self, pooled: Floats) -> Doubles:
        """Deltas (R, 4): centre shift in box sizes and log of the size ratio, of pooled values (R, P)."""
        deltas: Doubles = (pooled @ self.weight[:-1] + self.weight[-1]) @ self.unwhiten + self.mean
        return deltas


def fit_boxes(pooled: Floats, deltas: Doubles, strength: float = 1000.0) -> BoxRegression:
    """The regression of one class from its regions' pooled values (R, P) to their deltas (R, 4).

    Appendix C and `rcnn_train_bbox_regressor` of the released code: targets are centred and whitened, and the bias is
    penalised like any weight. Without regions it changes nothing.
    """
    sums = BoxSums(pooled.shape[1], strength)
    sums.add(pooled, deltas)
    return sums.fitted()


class BoxSums:
    """What `fit_boxes` needs of regions that come a few at a time.

    Holds the regions while there are fewer than pooled values, then X'X and X'Y only: at most twice 8 P^2 bytes.

    Args:
        inputs: P.
        strength: of the ridge.
    """

    def __init__(self, inputs: int, strength: float = 1000.0) -> None:
        self.size, self.strength = inputs + 1, strength
        self._deltas: list[Doubles] = []
        self._rows: list[Floats] = []
        self._square: Doubles | None = None  # X'X (P + 1, P + 1)
        self._product = np.zeros((self.size, 4))  # X'Y with the deltas as they are

    def add(self, pooled: Floats, deltas: Doubles) -> None:
        """Regions with their pooled values (R, P) and deltas (R, 4)."""
        ones = np.ones((len(pooled), 1), np.float32)
        self._rows.append(np.concatenate([pooled, ones], axis=1).astype(np.float32))
        self._deltas.append(deltas)
        if sum(map(len, self._rows)) >= self.size:
            self._sum_up()

    def fitted(self) -> BoxRegression:
        """The regression of all that came."""
        deltas = np.concatenate([np.zeros((0, 4)), *self._deltas])
        if len(deltas) == 0:
            return BoxRegression(np.zeros((self.size, 4)), np.zeros(4), np.eye(4))
        mean = deltas.mean(axis=0)
        values, vectors = np.linalg.eigh((deltas - mean).T @ (deltas - mean) / len(deltas))
        spread = np.sqrt(values.clip(0) + 0.001)
        whiten, unwhiten = vectors / spread @ vectors.T, vectors * spread @ vectors.T
        if self._square is None:
            inputs = np.concatenate(self._rows).astype(np.float64)
            return BoxRegression(ridge(inputs, (deltas - mean) @ whiten, self.strength), mean, unwhiten)
        if self._rows:
            self._sum_up()
        outputs = (self._product - self._square[:, -1:] * mean) @ whiten  # the last column is X'1
        self._square[np.diag_indices(self.size)] += self.strength
        weight: Doubles = np.linalg.solve(self._square, outputs)
        self._square[np.diag_indices(self.size)] -= self.strength
        return BoxRegression(weight, mean, unwhiten)

    def _sum_up(self) -> None:
        rows = np.concatenate(self._rows).astype(np.float64)
        deltas = np.concatenate(self._deltas)[-len(rows) :]
        square = rows.T @ rows
        self._square = square if self._square is None else np.add(self._square, square, out=self._square)
        self._product += rows.T @ deltas
        self._rows = []


def ridge(inputs: Doubles, outputs: Doubles, strength: float) -> Doubles:
    """Weights W (D, T) with the least |inputs W - outputs|^2 + strength |W|^2, of inputs (R, D), outputs (R, T).

    (X'X + s I)^-1 X'Y, or X'(XX' + s I)^-1 Y, which is the same, where there are fewer regions than inputs.

    >>> ridge(np.array([[1.0], [1.0]]), np.array([[3.0], [5.0]]), 2.0)
    array([[2.]])
    """
    if len(inputs) < inputs.shape[1]:
        dual: Doubles = inputs.T @ np.linalg.solve(inputs @ inputs.T + strength * np.eye(len(inputs)), outputs)
        return dual
    primal: Doubles = np.linalg.solve(
        inputs.T @ inputs + strength * np.eye(inputs.shape[1]), inputs.T @ outputs
    ).astype(np.float64)
    return primal


def region_boxes(boxes: Floats, deltas: Doubles, size: tuple[int, int]) -> Floats:
    """Boxes (R, 4) moved by deltas (R, 4), cut to a picture (H, W)."""
    sides, centres = boxes[:, 2:] - boxes[:, :2], (boxes[:, :2] + boxes[:, 2:]) / 2
    centres = centres + deltas[:, :2] * sides
    sides = sides * np.exp(deltas[:, 2:].clip(max=4.0))
    moved = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    cut: Floats = moved.clip(0, [size[1], size[0]] * 2).astype(np.float32)
    return cut


def region_deltas(boxes: Floats, true: Floats) -> Doubles:
    """What moves boxes (R, 4) onto true ones (R, 4): equations 6 to 9."""
    sides, true_sides = boxes[:, 2:] - boxes[:, :2], true[:, 2:] - true[:, :2]
    shift = ((true[:, :2] + true[:, 2:]) - (boxes[:, :2] + boxes[:, 2:])) / 2 / sides
    deltas: Doubles = np.concatenate([shift, np.log(true_sides / sides)], axis=1).astype(np.float64)
    return deltas


def first_rows(names: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the rows (M,), drawn without repetition, or with it where there are fewer."""
    if len(names) >= count:
        return names[torch.randperm(len(names), generator=generator)[:count]]
    return names[torch.randint(len(names), (count,), generator=generator)] if len(names) else names
