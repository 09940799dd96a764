"""Autoencoding without a prior: compression, denoising, inpainting. Letters: N images; L latent size; C, H, W."""

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lightning_cv.contracts import Autoencoder, ImageBatch, LabelMap, StepOutput
from lightning_cv.ops.corruptions import Corrupted, Corruption, spoil
from lightning_cv.ops.likelihoods import Bernoulli, Likelihood
from lightning_cv.ops.noise import drawn_seeds, seeds_of
from lightning_cv.schedules import Schedule
from lightning_cv.tasks.base import Task

CORRUPTION_NOISE = 0
"""Stream of the noise by which evaluation spoils an image, the same in every run."""


class AutoencoderModule(Task):
    """Minimises the negative log likelihood of the clean image given the code of what the encoder was shown.

    Hinton and Salakhutdinov 2006, "Reducing the dimensionality of data"; with a corruption Vincent et al. 2010,
    "Stacked denoising autoencoders", or inpainting as in Pathak et al. 2016, "Context encoders" (without its adversary;
    the loss is that of the whole image). Nats an image: sums over pixels, means over images. Evaluation spoils an image
    by its id, in the same way in every epoch and run.

    Args:
        net: an `Autoencoder` whose posterior has no variance.
        optimizer, schedule, lr_scales, decay_scales: see `Task`.
        likelihood: what the net's outputs mean; None is `Bernoulli()`. See `ops.likelihoods`.
        corruption: what the encoder sees instead of the image; None is the image. See `ops.corruptions`.
    """

    task_name = "autoencoder"
    net: Autoencoder  # type: ignore[assignment]  # a Module that also fulfils the Protocol

    def __init__(
        self,
        net: Autoencoder,
        optimizer: OptimizerCallable,
        schedule: Schedule | None = None,
        lr_scales: dict[str, float] | None = None,
        decay_scales: dict[str, float] | None = None,
        likelihood: Likelihood | None = None,
        corruption: Corruption | None = None,
    ) -> None:
        super().__init__(net, optimizer, schedule, lr_scales, decay_scales)  # type: ignore[arg-type]  # no Module
        self.likelihood = Bernoulli() if likelihood is None else likelihood
        self.first_look = FirstLook()
        self.corruption = corruption
        self.keep_settings()

    def check_classes(self, label_map: LabelMap) -> None:
        """An autoencoder has no classes to compare."""

    def on_fit_start(self) -> None:
        """Look at the first images of each start."""
        self.first_look = FirstLook()

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruction (N, C, H, W), 0 to 1, of images taken as they are."""
        return self.likelihood.picture(self.net.decode(self._encode(images)))

    def training_step(self, batch: ImageBatch, batch_idx: int) -> dict[str, Tensor]:
        """The reconstruction's nats an image."""
        images = batch["images"]
        self.first_look(self.likelihood, images)
        seen = images if self.corruption is None else self.corruption(images, drawn_seeds(images)).images
        loss = self.likelihood(self.net.decode(self._encode(seen)), images).mean()
        self.log_terms("train", {"loss": loss}, len(images))
        return {"loss": loss}

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> StepOutput:
        """Reconstructions and their nats, image by image."""
        return self._eval_step(batch)

    def test_step(self, batch: ImageBatch, batch_idx: int) -> StepOutput:
        """Reconstructions and their nats, image by image."""
        return self._eval_step(batch)

    def predict_step(self, images: Tensor) -> Tensor:
        """Reconstruction (N, C, H, W), 0 to 1, of images taken as they are."""
        return self.forward(images)

    def _eval_step(self, batch: ImageBatch) -> StepOutput:
        images = batch["images"]
        self.likelihood.check(images)
        seen = spoil(self.corruption, images, seeds_of(batch["image_ids"], CORRUPTION_NOISE, images.device))
        code = self._encode(seen.images)
        outputs = self.net.decode(code)
        nll = self.likelihood.pixels(outputs, images)  # (N, C, H, W)
        output: StepOutput = {
            "preds": self.likelihood.picture(outputs),
            "targets": images,
            "image_ids": batch["image_ids"],
            "terms": {"reconstruction": nll.flatten(1).sum(1), "mean": code},
        }
        return with_corruption(output, seen, nll)

    def _encode(self, images: Tensor) -> Tensor:
        code, log_var = self.net.encode(images)
        if log_var is not None:
            raise ValueError(
                f"{type(self.net).__name__} has a variance, which an autoencoder without a prior would not train: "
                "VAEModule is for such nets"
            )
        return code


class FirstLook:
    """Checks training images: those on an accelerator, where each look holds up the training, only at first."""

    def __init__(self) -> None:
        self.done = False

    def __call__(self, likelihood: Likelihood, images: Tensor) -> None:
        """Raise where the likelihood has no such images."""
        if not self.done or images.device.type == "cpu":
            likelihood.check(images)
            self.done = True


def with_corruption(output: StepOutput, seen: Corrupted, nll: Tensor) -> StepOutput:
    """The output with what the net saw, if not the image, and the sum of the nats (N, C, H, W) of hidden pixels.

    That of an image which hides nothing is NaN: as 0 it would count as a perfect guess.
    """
    if seen.images is not output["targets"]:
        output["inputs"] = seen.images
    if seen.hidden is not None:
        output["hidden"] = seen.hidden
        total = torch.where(seen.hidden, nll, 0.0).flatten(1).sum(1)  # (N,)
        output["terms"]["reconstruction_hidden"] = torch.where(seen.hidden.flatten(1).any(1), total, torch.nan)
    return output
