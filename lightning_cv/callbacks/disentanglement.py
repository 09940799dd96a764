"""How far latents stand for the factors of the data, asked of the net itself at an epoch's end."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_cv.contracts import Posterior
from lightning_cv.metrics.disentanglement.codes import Codes, GroundTruth
from lightning_cv.metrics.disentanglement.scores import SCORES, Counts, Score, over_seeds, score
from lightning_cv.metrics.records import on_first_process

DEFAULT: tuple[Score, ...] = (
    "beta_vae", "factor_vae", "mig_dlib", "sap", "dci_forest", "modularity", "explicitness"
)  # fmt: skip
_TRIAL = Counts(train=200, evaluation=100, batch=4)


class DisentanglementMetrics(Callback):
    """`test/mig_dlib`, `test/sap`, `test/dci_forest_completeness` and the like, over the data's whole grid of factors.

    The names are those of `metrics.disentanglement.scores`, where each metric says what it measures and after whom. The
    first process encodes the images it needs, each once, and tells the others; nothing is drawn from a global random
    generator, so training goes on as if nothing had been asked. Where `limit_test_batches` or `limit_val_batches` makes
    a trial of the evaluation, a few hundred images stand for the samples asked for.

    Args:
        metrics: which. "dci_gbt" takes minutes a factor, "mig_chen" a minute.
        when: at the end of the "test", or "always", at the end of validations too.
        every_n_epochs: at which validations.
        seeds: of the samples; from the second on, `_std` is the standard deviation over them beside each mean.
        train, evaluation: images, votes or points that a metric learns from, and as many others it is scored on.
        batch: images of a FactorVAE vote and pairs of a beta-VAE point.
    """

    def __init__(
        self,
        metrics: Sequence[Score] = DEFAULT,
        when: Literal["test", "always"] = "test",
        every_n_epochs: int = 1,
        seeds: Sequence[int] = (0,),
        train: int = 10_000,
        evaluation: int = 5_000,
        batch: int = 64,
    ) -> None:
        if not metrics or set(metrics) - set(SCORES):
            raise ValueError(f"DisentanglementMetrics: metrics are some of {', '.join(SCORES)}; got {list(metrics)}")
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"DisentanglementMetrics: seeds must be different numbers, one at least, got {seeds}")
        for name, value, least in (
            ("every_n_epochs", every_n_epochs, 1),
            ("train", train, 100),
            ("evaluation", evaluation, 100),
            ("batch", batch, 2),
        ):
            if value < least:
                raise ValueError(f"DisentanglementMetrics: {name} must be at least {least}, got {value}")
        self.metrics, self.when, self.every_n_epochs, self.seeds = tuple(metrics), when, every_n_epochs, tuple(seeds)
        self.counts = Counts(train, evaluation, batch)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse nets without codes and data without factors at once rather than after the training."""
        if not hasattr(getattr(pl_module, "net", None), "encode"):
            raise ValueError("DisentanglementMetrics needs a net that encodes images, as that of a VAE")
        due = self.when == "always" or stage == "test"
        if due or (stage == "fit" and getattr(trainer, "datamodule", None) is not None):
            ground_truth_of(trainer, self)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, where validations are asked for."""
        due = trainer.state.fn != "fit" or (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if self.when == "always" and due and not trainer.sanity_checking:
            self._measure(trainer, pl_module, "val", trainer.limit_val_batches)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure."""
        self._measure(trainer, pl_module, "test", trainer.limit_test_batches)

    def _measure(self, trainer: Trainer, pl_module: LightningModule, stage: str, limit: float | None) -> None:
        truth = ground_truth_of(trainer, self)
        counts = self.counts if limit in (None, 1.0) and not isinstance(limit, int) else _TRIAL
        net: Any = pl_module.net  # an Autoencoder; Lightning's type does not know of it

        def encode(images: Tensor) -> Posterior:
            return Posterior(*net.encode(images.to(pl_module.device, memory_format=torch.channels_last)))

        codes = Codes(truth, encode)  # encodes what it is asked for, so only on the first process

        def of_seed(seed: int) -> dict[str, float]:
            found: dict[str, float] = {}
            for name in self.metrics:  # one by one: while one is measured, the other processes wait
                found |= on_first_process(partial(score, name, codes, seed, counts))
            return found

        for name, spread in over_seeds(of_seed, self.seeds).items():
            values = {name: spread.mean} | ({f"{name}_std": spread.std} if len(self.seeds) > 1 else {})
            for key, value in values.items():
                pl_module.log(f"{stage}/{key}", value, sync_dist=True)  # equal everywhere; the mean leaves it so


def ground_truth_of(trainer: Trainer, asking: object) -> GroundTruth:
    """The data's grid of factors.

    Raises:
        ValueError: the data's factors are not known.
    """
    datamodule: Any = getattr(trainer, "datamodule", None)  # Any: what a user hands to the trainer
    truth = datamodule.test_set() if hasattr(datamodule, "test_set") else None
    if not isinstance(truth, GroundTruth):
        raise ValueError(
            f"{type(asking).__name__} needs images whose factors are known, as DSpritesDataModule has them; "
            f"{type(datamodule).__name__} has none"
        )
    return truth
