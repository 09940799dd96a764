"""Figures of autoencoders over whole evaluation runs."""

import warnings
from typing import Any

from lightning import LightningModule, Trainer

from lightning_cv.callbacks.metrics import EvaluationMetrics, Stage, is_known
from lightning_cv.contracts import StepOutput
from lightning_cv.errors import TrainingWarning
from lightning_cv.metrics.likelihood import Likelihood, LikelihoodMeans, is_collapsed
from lightning_cv.metrics.reconstruction import ReconstructionQuality


class LikelihoodMetrics(EvaluationMetrics[LikelihoodMeans]):
    """`val/elbo`, `val/reconstruction`, `val/kl` in nats an image, free of beta, and `val/active_units`.

    Also `val/bits_per_dim` of the ELBO; `val/aggregate_kl`, the least distance of the aggregate posterior from the
    prior that its means and variances allow, nats summed over latents; and every further term that the step gives, such
    as `val/reconstruction_mean` and `test/iwae_64`. A collapsed posterior is warned of after each test and at the end
    of training.

    Args:
        per_latent: log `val/kl_<latent>`, `val/mean_<latent>` and `val/std_<latent>` of the aggregate posterior too.
    """

    def __init__(self, per_latent: bool = False) -> None:
        super().__init__()
        self.per_latent = per_latent
        self._latest: Likelihood | None = None  # of the validations of this training

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier training."""
        self._latest = None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn of what the last validation found, whatever ended the training."""
        if self._latest is not None:
            _warn_if_collapsed(self._latest)

    def build(self, trainer: Trainer, pl_module: LightningModule) -> LikelihoodMeans:
        """Sums for the latents of the net."""
        latent_size = getattr(getattr(pl_module, "net", None), "latent_size", None)
        if not isinstance(latent_size, int):
            raise ValueError("LikelihoodMetrics needs a net with latents, as that of a VAE")
        return LikelihoodMeans(latent_size)

    def feed(self, metric: LikelihoodMeans, outputs: StepOutput, batch: Any) -> None:
        """Add the terms of a batch."""
        metric.update(outputs["terms"], outputs["image_ids"], outputs["targets"][0].numel())

    def figures(self, metric: LikelihoodMeans, stage: Stage, trainer: Trainer) -> dict[str, float]:
        """Means over all images."""
        found = metric.compute()
        if stage == "test":
            _warn_if_collapsed(found)
        elif not trainer.sanity_checking:
            self._latest = found
        names = ("elbo", "reconstruction", "kl", "active_units", "bits_per_dim", "aggregate_kl")
        named = {name: getattr(found, name) for name in names} | found.others
        if self.per_latent:
            for name, values in (
                ("kl", found.kl_per_dim),
                ("mean", found.aggregate_mean),
                ("std", found.aggregate_std),
            ):
                named |= {f"{name}_{latent}": value for latent, value in enumerate(values.reshape(-1))}
        return {name: float(value) for name, value in named.items() if is_known(float(value))}


class ReconstructionMetrics(EvaluationMetrics[ReconstructionQuality]):
    """`val/reconstruction` in nats an image, `val/mse` a pixel, `val/psnr` in dB and `val/ssim`: means over images.

    Where the step hides pixels (inpainting), also `val/psnr_hidden` and `val/reconstruction_hidden` of those alone.
    Images have sides of at least 11 pixels, which SSIM needs.
    """

    def build(self, trainer: Trainer, pl_module: LightningModule) -> ReconstructionQuality:
        """No images yet."""
        return ReconstructionQuality()

    def feed(self, metric: ReconstructionQuality, outputs: StepOutput, batch: Any) -> None:
        """Keep the figures of each image."""
        nats = {name: values for name, values in outputs["terms"].items() if name.startswith("reconstruction")}
        metric.update(outputs["preds"], outputs["targets"], outputs["image_ids"], nats, outputs.get("hidden"))

    def figures(self, metric: ReconstructionQuality, stage: Stage, trainer: Trainer) -> dict[str, float]:
        """Means over all images."""
        return metric.compute()


def _warn_if_collapsed(found: Likelihood) -> None:
    if is_collapsed(found):
        warnings.warn(
            f"the posterior has collapsed: {int(found.active_units)} active units, KL {float(found.kl):.3f} nats; "
            "the codes say nothing of the images",
            TrainingWarning,
            stacklevel=2,
        )
