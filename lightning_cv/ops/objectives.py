"""What a variational autoencoder is trained to lessen: the terms of the ELBO, weighed in the ways of several papers.

Nats an image: sums over pixels and latents, means over the batch, which is that of all training processes together
(`ops.processes`); terms for the log are of the own process. `beta` is the task's weight, so that one key sweeps it for
every objective that has one. Letters: N images; L latents; M images of a process's batch, J of all, D of the data set.
"""

import math
from abc import abstractmethod
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_cv.ops.latents import kl_to_standard_normal
from lightning_cv.ops.processes import joint_batch, mean_over_processes

Estimator = Literal["mws", "mss"]


class Coded(NamedTuple):
    """A batch, coded and drawn again."""

    reconstruction: Tensor  # (N,) nats: -log p(x|z)
    latent: Tensor  # (N, L): one draw z of each posterior
    mean: Tensor  # (N, L)
    log_var: Tensor  # (N, L)


class Progress(NamedTuple):
    """Where training stands."""

    step: int  # optimizer steps done, the same after a resume
    dataset_size: int  # training images; 0 where unknown


class Objective(nn.Module):
    """A loss of a coded batch. One with a net of its own, trained along, states that net's optimizer settings."""

    weighed_by_beta = True
    """Whether `model.beta` has an effect."""

    @abstractmethod
    def forward(self, coded: Coded, beta: float, progress: Progress) -> dict[str, Tensor]:
        """Scalars by name; "loss" is minimised, the others are for the log."""

    def optimizer_settings(self) -> dict[str, Any]:  # Any: whatever an optimizer's parameter group takes
        """Settings of the parameter group of this module's own weights, beside the net's."""
        return {}

    def steps_needed(self) -> int:
        """Optimizer steps that a schedule of this objective takes; 0 for none."""
        return 0


class BetaVAE(Objective):
    """Reconstruction + beta * KL: the negative ELBO at beta 1.

    Kingma and Welling 2014, equation 10; Higgins et al. 2017, equation 4.

    Args:
        free_bits: nats a latent below which its KL, averaged over the batch, is not lessened (Kingma et al. 2016,
            "Inverse autoregressive flow", appendix C.8, one group a latent). 0 is the plain KL.
    """

    def __init__(self, free_bits: float = 0.0) -> None:
        super().__init__()
        if not free_bits >= 0:
            raise ValueError(f"objective.free_bits is in nats a latent, at least 0, got {free_bits}")
        self.free_bits = free_bits

    def forward(self, coded: Coded, beta: float, progress: Progress) -> dict[str, Tensor]:
        """The loss and its two terms."""
        terms = elbo_terms(coded)
        kl = terms["kl"]
        if self.free_bits:
            kl_per_dim = mean_over_processes(kl_to_standard_normal(coded.mean, coded.log_var).mean(0))  # (L,)
            kl = kl_per_dim.clamp(min=self.free_bits).sum()
        return {"loss": terms["reconstruction"] + beta * kl, **terms}


class Capacity(Objective):
    """Reconstruction + gamma * |KL - C|, with C rising linearly from 0 to `capacity` nats over the first `steps` steps.

    Burgess et al. 2018, "Understanding disentangling in beta-VAE", equation 8, their constants. KL is the batch's mean.
    `model.beta` has no part in it.
    """

    weighed_by_beta = False

    def __init__(self, capacity: float = 25.0, steps: int = 100_000, gamma: float = 1000.0) -> None:
        super().__init__()
        if not (capacity >= 0 and steps >= 1 and gamma >= 0):
            raise ValueError(
                "objective: capacity and gamma must be at least 0 and steps at least 1, got "
                f"capacity {capacity}, gamma {gamma}, steps {steps}"
            )
        self.capacity, self.steps, self.gamma = capacity, steps, gamma

    def at(self, step: int) -> float:
        """C in nats after `step` steps.

        >>> [Capacity(100, 100).at(step) for step in (0, 10, 100, 101)]
        [0.0, 10.0, 100.0, 100.0]
        """
        return self.capacity * min(1.0, step / self.steps)

    def steps_needed(self) -> int:
        """Until C is at its full height."""
        return self.steps

    def forward(self, coded: Coded, beta: float, progress: Progress) -> dict[str, Tensor]:
        """The loss, its terms, and C."""
        terms, capacity = elbo_terms(coded), self.at(progress.step)
        loss = terms["reconstruction"] + self.gamma * (mean_over_processes(terms["kl"]) - capacity).abs()
        return {"loss": loss, **terms, "capacity": torch.tensor(capacity)}


class BetaTCVAE(Objective):
    """Reconstruction + alpha * mutual information + beta * total correlation + gamma * dimension-wise KL.

    Chen et al. 2018, "Isolating sources of disentanglement", equation 4, with their two estimators of q(z) from a
    batch: "mws" weighs all samples alike (appendix C.1), "mss" is free of bias (appendix C.2). All three weights 1 give
    the ELBO. Differs from the authors' code: in "mss" the weight 1/D is an image's own, on the diagonal, as in the
    paper.

    Args:
        alpha: weight of the mutual information of image and code.
        gamma: weight of the divergence of each latent's aggregate posterior from the prior.
        estimator: "mws" or "mss".
    """

    def __init__(self, alpha: float = 1.0, gamma: float = 1.0, estimator: Estimator = "mws") -> None:
        super().__init__()
        if estimator not in ("mws", "mss"):
            raise ValueError(f"objective.estimator is mws or mss, got {estimator!r}")
        self.alpha, self.gamma, self.estimator = alpha, gamma, estimator

    def forward(self, coded: Coded, beta: float, progress: Progress) -> dict[str, Tensor]:
        """The loss, the ELBO's terms, and the three parts of the KL."""
        if progress.dataset_size < 1:
            raise ValueError("BetaTCVAE needs the number of training images: train with a data module of ours")
        (mean, log_var), first = joint_batch([coded.mean, coded.log_var])  # (J, L) each
        log_q = log_densities(coded.latent, mean, log_var)  # (M, J, L)
        weights = log_weights(self.estimator, len(mean), progress.dataset_size).to(log_q)  # (J, J)
        weights = weights[first : first + len(log_q)]  # (M, J): of the own draws
        log_qz = torch.logsumexp(weights + log_q.sum(2), dim=1)  # (M,)
        log_marginals = torch.logsumexp(weights[..., None] + log_q, dim=1).sum(1)  # (M,)
        log_posterior = log_q.diagonal(offset=first).sum(0)  # (M,): q(z|x) of each image's own draw
        latent = coded.latent.to(log_q)
        log_prior = (-0.5 * latent.square() - 0.5 * math.log(2 * math.pi)).sum(1)
        information = (log_posterior - log_qz).mean()
        total_correlation = (log_qz - log_marginals).mean()
        dimension_wise = (log_marginals - log_prior).mean()
        terms = elbo_terms(coded)
        loss = (
            terms["reconstruction"] + self.alpha * information + beta * total_correlation + self.gamma * dimension_wise
        )
        parts = {
            "information": information,
            "total_correlation": total_correlation,
            "dimension_wise_kl": dimension_wise,
        }
        return {"loss": loss, **terms, **parts}


class DIPVAE(Objective):
    """Reconstruction + beta * KL + how far the aggregate posterior's covariance is from the identity.

    Kumar et al. 2018, "Variational inference of disentangled latent concepts from unlabeled observations", equations 4
    to 7: the squares off the diagonal, and those of the diagonal's distance to 1. beta is 1 in the paper.

    Args:
        off_diagonal: weight of the covariances.
        diagonal: weight of the variances; the paper's is ten times `off_diagonal` for "i", as much for "ii".
        form: "i" looks at the covariance of the means, "ii" at that of the latents themselves.
    """

    def __init__(self, off_diagonal: float = 10.0, diagonal: float = 100.0, form: Literal["i", "ii"] = "i") -> None:
        super().__init__()
        if not (off_diagonal >= 0 and diagonal >= 0):
            raise ValueError(
                f"objective: off_diagonal and diagonal must be at least 0, got {off_diagonal} and {diagonal}"
            )
        if form not in ("i", "ii"):
            raise ValueError(f"objective.form is i or ii, got {form!r}")
        self.off_diagonal, self.diagonal, self.form = off_diagonal, diagonal, form

    def forward(self, coded: Coded, beta: float, progress: Progress) -> dict[str, Tensor]:
        """The loss, the ELBO's terms, and the weighted distance of the covariance."""
        mean, log_var = joint_batch([coded.mean, coded.log_var]).values  # (J, L) each
        centred = mean - mean.mean(0)
        covariance = centred.T @ centred / len(mean)  # (L, L)
        if self.form == "ii":
            covariance = covariance + log_var.exp().mean(0).diag()
        distance = self.distance(covariance)
        terms = elbo_terms(coded)
        return {"loss": terms["reconstruction"] + beta * terms["kl"] + distance, **terms, "covariance": distance}

    def distance(self, covariance: Tensor) -> Tensor:
        """Weighted squares of what is not the identity in a covariance (L, L).

        >>> DIPVAE(1.0, 1.0).distance(2 * torch.eye(10))
        tensor(10.)
        """
        variances = covariance.diagonal()
        others = covariance.square().sum() - variances.square().sum()
        return self.off_diagonal * others + self.diagonal * (variances - 1).square().sum()


class FactorVAE(Objective):
    """Reconstruction + beta * KL + gamma * total correlation, which a discriminator estimates.

    Kim and Mnih 2018, "Disentangling by factorising", equation 2 and algorithm 2; discriminator of six layers of 1000
    leaky ReLUs, Adam with 1e-4 and (0.5, 0.9). beta is 1 in the paper. The loss includes the discriminator's, whose
    gradients do not reach the net, nor the other way round: one backward pass and one optimizer with a group for each.
    Differs from the paper: both learn from the same batch and step together; latents are shuffled within this batch, in
    each process within its own: any batch gives samples of the same product of marginals.

    Args:
        gamma: weight of the total correlation.
        latent_size: as the net's.
        width, depth: of the discriminator.
        lr: of the discriminator.
    """

    def __init__(
        self, latent_size: int, gamma: float = 35.0, width: int = 1000, depth: int = 6, lr: float = 1e-4
    ) -> None:
        super().__init__()
        if not (gamma >= 0 and latent_size >= 1 and width >= 1 and depth >= 1):
            raise ValueError(
                f"objective: gamma must be at least 0, sizes at least 1, got gamma {gamma}, latent_size {latent_size}, "
                f"width {width}, depth {depth}"
            )
        self.gamma, self.lr, self.latent_size = gamma, lr, latent_size
        sizes = [latent_size] + [width] * depth
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
        self.discriminator = nn.Sequential(*layers, nn.Linear(width, 2))

    def optimizer_settings(self) -> dict[str, Any]:  # Any: whatever an optimizer's parameter group takes
        """The discriminator's own rate and moments."""
        return {"lr": self.lr, "betas": (0.5, 0.9), "weight_decay": 0.0}

    def forward(self, coded: Coded, beta: float, progress: Progress) -> dict[str, Tensor]:
        """The loss, the ELBO's terms, the total correlation and the discriminator's loss."""
        if coded.latent.shape[1] != self.latent_size:
            raise ValueError(
                f"model.objective.latent_size is {self.latent_size}, but the net has {coded.latent.shape[1]} latents"
            )
        terms = elbo_terms(coded)
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        scores = torch.func.functional_call(self.discriminator, frozen, (coded.latent,)).float()  # (N, 2)
        total_correlation = (scores[:, 0] - scores[:, 1]).mean()
        drawn = coded.latent.detach()
        both = self.discriminator(torch.cat([drawn, shuffled_latents(drawn)])).float()  # (2N, 2)
        truth = torch.arange(2, device=both.device).repeat_interleave(len(drawn))
        discriminator = F.cross_entropy(both, truth)
        loss = terms["reconstruction"] + beta * terms["kl"] + self.gamma * total_correlation + discriminator
        return {"loss": loss, **terms, "total_correlation": total_correlation, "loss_discriminator": discriminator}


def elbo_terms(coded: Coded) -> dict[str, Tensor]:
    """Batch means of "reconstruction" and "kl", whose sum is the negative ELBO."""
    kl = kl_to_standard_normal(coded.mean, coded.log_var).sum(1)
    return {"reconstruction": coded.reconstruction.mean(), "kl": kl.mean()}


def log_densities(latent: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log q(z_i | x_j) of each latent, draws i (M, L) under posteriors j (J, L): (M, J, L), float32 at least."""
    z, mean, log_var = (t if t.dtype == torch.float64 else t.float() for t in (latent, mean, log_var))
    return -0.5 * ((z[:, None] - mean).square() * torch.exp(-log_var) + log_var + math.log(2 * math.pi))


def log_weights(estimator: Estimator, batch: int, dataset_size: int) -> Tensor:
    """Logs of the weights (M, M) by which posterior j of a batch stands for the data set in q(z_i)."""
    if estimator == "mws" or batch == 1:
        return torch.full((batch, batch), -math.log(batch * dataset_size))
    others = batch - 1
    weights = torch.full((batch, batch), 1 / others)
    weights.fill_diagonal_(1 / dataset_size)
    rows = torch.arange(batch)
    weights[rows, (rows + 1) % batch] = max(0, dataset_size - others) / (dataset_size * others)
    return weights.log()


def shuffled_latents(latent: Tensor) -> Tensor:
    """Codes (N, L) each of whose latents comes from another image, drawn from the global generator."""
    order = torch.rand(latent.shape, device=latent.device).argsort(dim=0)
    return latent.gather(0, order)
