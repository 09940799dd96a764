"""Autoencoding with a prior: VAE, beta-VAE and their kin.

All figures are nats an image: sums over pixels and latents, means over images.
Letters: N images; L latent size; C, H, W channels, height and width of an image.
"""

import warnings
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lightning_cv.contracts import Autoencoder, ImageBatch, LabelMap, StepOutput
from lightning_cv.errors import TrainingWarning
from lightning_cv.ops.corruptions import Corruption, spoil
from lightning_cv.ops.latents import (
    at_least_float32,
    kl_to_standard_normal,
    log_weights_of_draws,
    reparameterise,
    spread,
)
from lightning_cv.ops.likelihoods import Bernoulli, Likelihood
from lightning_cv.ops.noise import drawn_seeds, normal_noise, seeds_of
from lightning_cv.ops.objectives import BetaVAE, Coded, Objective, Progress
from lightning_cv.schedules import BetaSchedule, Schedule
from lightning_cv.tasks.autoencoder import CORRUPTION_NOISE, FirstLook, with_corruption
from lightning_cv.tasks.base import Task

CODES_AT_ONCE = 2048
"""How many codes an importance-weighted bound decodes at a time."""

CODE_NOISE, BOUND_NOISE = 1, 2
"""Streams of evaluation's noise by image id; draw k of the importance-weighted bound has BOUND_NOISE + k."""


class VAEModule(Task):
    """Minimises an objective, by default reconstruction + beta * KL, with a standard normal prior.

    Kingma and Welling 2014, equation 10; beta: Higgins et al. 2017, equation 4. The ELBO it reports is free of beta and
    of the objective, so that runs can be compared, and uses a sampled code; "reconstruction_mean" is that at the
    posterior's mean, as in the pictures. Evaluation's noise is a function of the image's id: the figures are the same
    whatever the batch size and the number of processes.

    Args:
        net: an `Autoencoder` whose posterior has a variance.
        optimizer, schedule, lr_scales, decay_scales: see `Task`. A net of the objective's own has settings of its own.
        beta: weight of the KL term in the convention above, or what the objective says. `beta_norm` = beta * L /
            (C * H * W), which is also logged, is the weight under means over latents and over pixels.
        beta_schedule: factor on beta by optimizer step; `train/beta` is their product. None for 1.
        likelihood: what the net's outputs mean; None is `Bernoulli()`. See `ops.likelihoods`.
        objective: what is minimised; None is `BetaVAE()`. See `ops.objectives`.
        corruption: what the encoder sees instead of the image. See `ops.corruptions`.
        iwae_samples: draws K a test image of the importance-weighted bound "iwae_<K>"; 0 for none.
    """

    task_name = "vae"
    net: Autoencoder  # type: ignore[assignment]  # a Module that also fulfils the Protocol

    def __init__(
        self,
        net: Autoencoder,
        optimizer: OptimizerCallable,
        schedule: Schedule | None = None,
        lr_scales: dict[str, float] | None = None,
        decay_scales: dict[str, float] | None = None,
        beta: float = 1.0,
        beta_schedule: BetaSchedule | None = None,
        likelihood: Likelihood | None = None,
        objective: Objective | None = None,
        corruption: Corruption | None = None,
        iwae_samples: int = 0,
    ) -> None:
        super().__init__(net, optimizer, schedule, lr_scales, decay_scales)  # type: ignore[arg-type]  # no Module
        for name, value in (("beta", beta), ("iwae_samples", iwae_samples)):
            if not value >= 0:
                raise ValueError(f"model.{name} must be at least 0, got {value}")
        self.objective = BetaVAE() if objective is None else objective
        if not self.objective.weighed_by_beta and (beta != 1 or beta_schedule is not None):
            raise ValueError(
                f"model.beta and beta_schedule have no effect on {type(self.objective).__name__}: leave beta at 1"
            )
        self.likelihood = Bernoulli() if likelihood is None else likelihood
        self.beta, self.beta_schedule, self.corruption = beta, beta_schedule, corruption
        self.iwae_samples = iwae_samples
        self.first_look = FirstLook()
        self._total_steps = self._dataset_size = 0
        self.keep_settings()

    def check_classes(self, label_map: LabelMap) -> None:
        """An autoencoder has no classes to compare."""

    def on_fit_start(self) -> None:
        """Find out how long the run is, where a schedule asks, and how much data it has; look at its first images."""
        self.first_look = FirstLook()
        of_beta = 0 if self.beta_schedule is None else self.beta_schedule.steps_needed()
        needed = max(self.objective.steps_needed(), of_beta)
        if needed or self.beta_schedule is not None:
            self._total_steps = self._planned_steps()
        if needed > self._total_steps:
            warnings.warn(
                f"a schedule takes {needed} steps, but the run has {self._total_steps}: it ends half-way",
                TrainingWarning,
                stacklevel=2,
            )
        train_set = getattr(getattr(self.trainer, "datamodule", None), "train_set", None)
        self._dataset_size = 0 if train_set is None else len(train_set())
        for logger in self.trainer.loggers:
            logger.log_hyperparams({"beta": self.beta, **self._normalised("beta_norm", self.beta)})

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruction (N, C, H, W), 0 to 1, at the posterior's mean."""
        return self.likelihood.picture(self.net.decode(self.net.encode(images).mean))

    def training_step(self, batch: ImageBatch, batch_idx: int) -> dict[str, Tensor]:
        """The objective of a batch and its terms, nats an image."""
        images = batch["images"]
        self.first_look(self.likelihood, images)
        seen = images if self.corruption is None else self.corruption(images, drawn_seeds(images)).images
        mean, log_var = self._encode(seen)
        latent = reparameterise(mean, log_var)
        coded = Coded(self.likelihood(self._decode(latent), images), latent, mean, log_var)
        beta = self.effective_beta()
        terms = self.objective(coded, beta, Progress(self.global_step, self._dataset_size))
        logged = terms | {"beta": torch.tensor(beta)} if self.objective.weighed_by_beta else terms
        self.log_terms("train", logged, len(images))
        return {"loss": terms["loss"]}

    def effective_beta(self) -> float:
        """beta times its schedule at the present step."""
        if self.beta_schedule is None:
            return self.beta
        return self.beta * self.beta_schedule(self.global_step, self._total_steps)

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> StepOutput:
        """Reconstructions at the mean, and the ELBO's terms of each image with a sampled code."""
        return self._eval_step(batch)

    def test_step(self, batch: ImageBatch, batch_idx: int) -> StepOutput:
        """As in validation, and the importance-weighted bound where it is asked for."""
        output = self._eval_step(batch)
        if self.iwae_samples:
            bound = self._importance_weighted_bound(batch, output["terms"])
            output["terms"][f"iwae_{self.iwae_samples}"] = bound
        return output

    def predict_step(self, images: Tensor) -> Tensor:
        """Reconstruction (N, C, H, W), 0 to 1, at the posterior's mean."""
        return self.forward(images)

    def _eval_step(self, batch: ImageBatch) -> StepOutput:
        images, ids = batch["images"], batch["image_ids"]
        self.likelihood.check(images)
        seen = spoil(self.corruption, images, seeds_of(ids, CORRUPTION_NOISE, images.device))
        mean, log_var = self._encode(seen.images)
        noise = normal_noise(seeds_of(ids, CODE_NOISE, images.device), mean.shape[1])
        reconstruction = self.likelihood(self._decode(spread(mean, log_var, noise)), images)  # (N,)
        kl_per_dim = kl_to_standard_normal(mean, log_var)  # (N, L)
        kl = kl_per_dim.sum(dim=1)
        outputs = self._decode(mean)
        at_mean = self.likelihood.pixels(outputs, images)  # (N, C, H, W)
        terms = {"elbo": -(reconstruction + kl), "reconstruction": reconstruction, "kl": kl, "kl_per_dim": kl_per_dim}
        terms |= {"mean": mean, "log_var": log_var, "reconstruction_mean": at_mean.flatten(1).sum(1)}
        output: StepOutput = {
            "preds": self.likelihood.picture(outputs),
            "targets": images,
            "image_ids": ids,
            "terms": terms,
        }
        return with_corruption(output, seen, at_mean)

    def _importance_weighted_bound(self, batch: ImageBatch, terms: dict[str, Tensor]) -> Tensor:
        """log of the mean of K importance weights of each image, float64 (N,); never above log p(x) on average."""
        images, mean, log_var = batch["images"], terms["mean"], terms["log_var"]
        seeds = seeds_of(batch["image_ids"], BOUND_NOISE, images.device)
        total = torch.full((len(images),), -torch.inf, dtype=torch.float64, device=images.device)
        together = max(1, CODES_AT_ONCE // max(1, len(images)))
        for first in range(0, self.iwae_samples, together):
            draws = torch.arange(first, min(first + together, self.iwae_samples), device=images.device)
            own = (seeds + (draws[:, None] << 32)).flatten()  # (K', N) in one row
            noise = normal_noise(own, mean.shape[1]).view(len(draws), *mean.shape)  # (K', N, L)
            latent = spread(mean, log_var, noise)
            outputs = self._decode(latent.flatten(0, 1))
            nll = self.likelihood(outputs, images.repeat(len(draws), 1, 1, 1)).view(len(draws), -1)  # (K', N)
            weights = log_weights_of_draws(nll, log_var, latent, noise)
            total = torch.logaddexp(total, weights.logsumexp(0))
        return total - torch.tensor(float(self.iwae_samples)).log().double()

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = self.net.encode(images)
        if log_var is None:
            raise ValueError(
                f"{type(self.net).__name__} has no variance: a VAE needs a net whose encoder gives one "
                "(AutoencoderModule trains nets without)"
            )
        return at_least_float32(mean), at_least_float32(log_var)  # rounded draws would not have the density of q

    def _decode(self, latent: Tensor) -> Tensor:
        half = self.dtype in (torch.float16, torch.bfloat16)  # of all weights, without autocast
        return self.net.decode(latent.to(self.dtype) if half else latent)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Those of every task, and the objective's own net in a group with its own settings."""
        groups, own = super()._parameter_groups(), list(self.objective.parameters())
        for group in groups:
            group["params"] = [weight for weight in group["params"] if not any(weight is other for other in own)]
        groups = [group for group in groups if group["params"]]
        return [*groups, {"params": own, "lr_scale": 1.0, **self.objective.optimizer_settings()}] if own else groups

    def _normalised(self, name: str, beta: float) -> dict[str, float]:
        shape = getattr(self.net, "image_shape", None)
        return {} if shape is None else {name: beta * self.net.latent_size / (shape[0] * shape[1] * shape[2])}
