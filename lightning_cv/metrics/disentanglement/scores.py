"""The disentanglement metrics by name, and what several seeds say of one. Letters: see each metric."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from lightning_cv.metrics.disentanglement.beta_vae import beta_vae_score
from lightning_cv.metrics.disentanglement.codes import Codes
from lightning_cv.metrics.disentanglement.dci import DCI, dci_forest, dci_gbt
from lightning_cv.metrics.disentanglement.factor_vae import factor_vae_score
from lightning_cv.metrics.disentanglement.irs import irs
from lightning_cv.metrics.disentanglement.mig import InformationGap, mig_chen, mig_dlib
from lightning_cv.metrics.disentanglement.modularity import explicitness, modularity
from lightning_cv.metrics.disentanglement.sap import sap, sap_continuous

Score = Literal[
    "beta_vae",
    "factor_vae",
    "mig_dlib",
    "mig_chen",
    "sap",
    "sap_continuous",
    "dci_forest",
    "dci_gbt",
    "irs",
    "modularity",
    "explicitness",
]
SCORES: tuple[Score, ...] = get_args(Score)


class Counts(NamedTuple):
    """How much a metric looks at; the defaults are those of Locatello et al. 2019."""

    train: int = 10_000
    """Images, votes or points to learn from."""
    evaluation: int = 5_000
    """As many others to score."""
    batch: int = 64
    """Images of a vote, or pairs of a point."""


class Spread(NamedTuple):
    """Mean and standard deviation (of a sample; NaN for one seed) over seeds."""

    mean: float
    std: float


def score(name: Score, codes: Codes, seed: int, counts: Counts | None = None) -> dict[str, float]:
    """Figures of one metric by logged name, every metric drawing from a generator of its own.

    `mig_dlib` and `modularity` also come as `_active`: with inactive latents at zero.
    """
    train, evaluation, batch = counts or Counts()

    def fresh() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    if name == "beta_vae":
        return {name: beta_vae_score(codes, fresh(), train, evaluation, batch)}
    if name == "factor_vae":
        return {name: factor_vae_score(codes, fresh(), train, evaluation, batch, variance_samples=train)}
    if name == "sap":
        return {name: sap(codes, fresh(), train, evaluation)}
    if name == "sap_continuous":
        return {name: sap_continuous(codes, fresh(), train)}
    if name == "irs":
        return {name: irs(codes, fresh(), train)}
    if name == "explicitness":
        return {name: explicitness(codes, fresh(), train, evaluation)}
    if name == "dci_forest":
        return _parts(name, dci_forest(codes, fresh(), train, evaluation))
    if name == "dci_gbt":
        return _parts(name, dci_gbt(codes, fresh(), train, evaluation))
    if name == "mig_chen":
        return _by_factor(name, mig_chen(codes, fresh(), min(train, 2048), min(train, 1024)))
    zeroed = codes.with_inactive_at_zero(fresh(), train)
    if name == "modularity":
        return {name: modularity(codes, fresh(), train), f"{name}_active": modularity(zeroed, fresh(), train)}
    found = _by_factor(name, mig_dlib(codes, fresh(), train))
    return found | {f"{name}_active": mig_dlib(zeroed, fresh(), train).score}


def over_seeds(figures: Callable[[int], Mapping[str, float]], seeds: Sequence[int]) -> dict[str, Spread]:
    """What several seeds say of each figure: the seeds draw the images that a metric looks at, or train the nets.

    >>> over_seeds(lambda seed: {"mig": seed / 4}, [1, 2, 3])["mig"]
    Spread(mean=0.5, std=0.25)
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different numbers, one at least, got {list(seeds)}")
    found = [figures(seed) for seed in seeds]
    columns = {name: np.array([one[name] for one in found]) for name in found[0]}
    return {
        name: Spread(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan"))
        for name, values in columns.items()
    }


def _parts(name: str, found: DCI) -> dict[str, float]:
    return {f"{name}_{part}": value for part, value in found._asdict().items()}


def _by_factor(name: str, found: InformationGap) -> dict[str, float]:
    return {name: found.score} | {f"{name}_{factor}": gap for factor, gap in found.per_factor.items()}
