"""Autoencoding with a prior: VAE and beta-VAE.

All figures are nats an image: sums over pixels and latents, mean over images.
Letters: N images; L latent size; C, H, W channels, height and width of an image.
"""

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lightning_cv.contracts import Autoencoder, ImageBatch, LabelMap, StepOutput
from lightning_cv.ops.counters import mix
from lightning_cv.ops.latents import kl_to_standard_normal, reparameterise
from lightning_cv.ops.losses import bernoulli_nll
from lightning_cv.schedules import Schedule
from lightning_cv.tasks.base import Task


class VAEModule(Task):
    """Minimises reconstruction + beta * KL with a Bernoulli likelihood and a standard normal prior.

    Kingma and Welling 2014, equation 10; beta: Higgins et al. 2017, equation 4. The ELBO it reports is free of beta, so
    that runs with different betas can be compared, and uses a sampled code; the mean's reconstruction is for pictures.

    Args:
        net: an `Autoencoder` whose posterior has a variance.
        optimizer, schedule, lr_scales: see `Task`.
        beta: weight of the KL term in the convention above. `beta_norm` = beta * L / (C * H * W), which is also logged,
            is the weight under means over latents and over pixels.
    """

    task_name = "vae"
    net: Autoencoder  # type: ignore[assignment]  # a Module that also fulfils the Protocol

    def __init__(
        self,
        net: Autoencoder,
        optimizer: OptimizerCallable,
        schedule: Schedule | None = None,
        lr_scales: dict[str, float] | None = None,
        beta: float = 1.0,
    ) -> None:
        super().__init__(net, optimizer, schedule, lr_scales)  # type: ignore[arg-type]  # Protocols are not Modules
        if not beta >= 0:
            raise ValueError(f"model.beta must be at least 0, got {beta}")
        self.beta = beta
        self.keep_settings()

    def check_classes(self, label_map: LabelMap) -> None:
        """An autoencoder has no classes to compare."""

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruction (N, C, H, W), 0 to 1, at the posterior's mean."""
        return self.net.decode(self.net.encode(images).mean).sigmoid()

    def training_step(self, batch: ImageBatch, batch_idx: int) -> dict[str, Tensor]:
        """The loss of a batch and its two terms, nats an image."""
        terms, _ = self._terms(batch["images"], generator=None)
        reconstruction, kl = terms["reconstruction"].mean(), terms["kl"].mean()
        logged = {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl}
        self.log_terms("train", logged, len(batch["images"]))
        return logged

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> StepOutput:
        """Reconstructions at the mean, and the ELBO's terms of each image with a sampled code."""
        return self._eval_step(batch, batch_idx)

    def test_step(self, batch: ImageBatch, batch_idx: int) -> StepOutput:
        """Reconstructions at the mean, and the ELBO's terms of each image with a sampled code."""
        return self._eval_step(batch, batch_idx)

    def predict_step(self, images: Tensor) -> Tensor:
        """Reconstruction (N, C, H, W), 0 to 1, at the posterior's mean."""
        return self.forward(images)

    def _eval_step(self, batch: ImageBatch, batch_idx: int) -> StepOutput:
        images = batch["images"]
        generator = torch.Generator(images.device).manual_seed(mix(batch_idx, self.global_rank))
        terms, mean = self._terms(images, generator)
        recon = self.net.decode(mean).sigmoid()
        return {"preds": recon, "targets": images, "image_ids": batch["image_ids"], "terms": terms}

    def _terms(self, images: Tensor, generator: torch.Generator | None) -> tuple[dict[str, Tensor], Tensor]:
        mean, log_var = self.net.encode(images)
        if log_var is None:
            raise ValueError(f"{type(self.net).__name__} has no variance: a VAE needs a net whose encoder gives one")
        logits = self.net.decode(reparameterise(mean, log_var, generator))
        reconstruction = bernoulli_nll(logits, images)  # (N,)
        kl_per_dim = kl_to_standard_normal(mean, log_var)  # (N, L)
        kl = kl_per_dim.sum(dim=1)
        elbo = -(reconstruction + kl)
        terms = {"elbo": elbo, "reconstruction": reconstruction, "kl": kl, "kl_per_dim": kl_per_dim, "mean": mean}
        return terms, mean
