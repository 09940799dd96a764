import math
from functools import partial

import pytest
import torch
from lightning import Callback
from oracles.toy_training import ToyData, image_batch, toy_trainer
from torch import nn
from torch.distributions import MultivariateNormal

from lightning_cv.callbacks.reproducible import CounterRandomness
from lightning_cv.contracts import Autoencoder, Posterior
from lightning_cv.datamodules import DigitsDataModule
from lightning_cv.errors import TrainingWarning
from lightning_cv.metrics.likelihood import LikelihoodMeans
from lightning_cv.metrics.reconstruction import ReconstructionQuality
from lightning_cv.models import ConvVAE
from lightning_cv.ops.corruptions import BoxMask, Corrupted, GaussianNoise
from lightning_cv.ops.likelihoods import Gaussian, LearnedGaussian
from lightning_cv.ops.objectives import BetaTCVAE, BetaVAE, Capacity, FactorVAE
from lightning_cv.schedules import CyclicBeta, LinearBeta
from lightning_cv.tasks import VAEModule

ADAM = partial(torch.optim.Adam, lr=1e-3)
SIGMA = 0.5


class LinearGaussian(nn.Module):
    """p(x|z) = N(Wz, sigma^2), probabilistic PCA, whose log p(x) and posterior are known; W has orthogonal columns.

    `off` and `wide` move the encoder away from the true posterior.
    """

    latent_size, image_shape = 2, (1, 2, 2)

    def __init__(self, off=0.0, wide=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 0.3], [1.0, -0.3], [1.0, 0.3], [1.0, -0.3]]))  # (4, L)
        self.off, self.wide = off, wide

    def encode(self, images, /):
        precision = self.weight.square().sum(0) / SIGMA**2 + 1  # (L,)
        mean = images.flatten(1) @ self.weight / SIGMA**2 / precision
        return Posterior(mean + self.off, (self.wide / precision).log().expand_as(mean))

    def decode(self, latent, /):
        return (latent @ self.weight.T).view(-1, 1, 2, 2)


def truth(net, images):
    """log p(x) of each image, closed form."""
    covariance = net.weight @ net.weight.T + SIGMA**2 * torch.eye(4)
    return MultivariateNormal(torch.zeros(4), covariance).log_prob(images.flatten(1))


def drawn(count=300):
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(count, 2, generator=generator)
    images = LinearGaussian().decode(latent) + SIGMA * torch.randn(count, 1, 2, 2, generator=generator)
    return {"images": images.detach(), "image_ids": [f"img{n}" for n in range(count)]}


def evaluate(net, samples, batch):
    task = VAEModule(net, ADAM, likelihood=Gaussian(SIGMA), iwae_samples=samples).eval()
    with torch.no_grad():
        return task.test_step(batch, 0)["terms"]


def test_with_the_true_posterior_every_bound_is_the_likelihood():
    batch, net = drawn(), LinearGaussian()
    for samples in (1, 7):
        found = evaluate(net, samples, batch)[f"iwae_{samples}"]
        assert torch.allclose(found.float(), truth(net, batch["images"]), atol=1e-4)
    elbo = evaluate(net, 0, batch)["elbo"].mean()  # its KL is exact, its reconstruction sampled
    assert elbo.item() == pytest.approx(truth(net, batch["images"]).mean().item(), abs=0.1)


def test_the_bound_rises_to_the_likelihood():
    batch, net = drawn(300), LinearGaussian(off=0.3, wide=2.0)
    found = [evaluate(net, samples, batch)[f"iwae_{samples}"].mean().item() for samples in (1, 4, 16, 128, 512)]
    exact = truth(net, batch["images"]).mean().item()
    assert found == sorted(found)
    assert found[0] < exact - 0.3
    assert found[-1] == pytest.approx(exact, abs=0.02)


def test_the_elbo_misses_the_likelihood_by_the_posteriors_divergence():
    batch, net = drawn(20_000), LinearGaussian(off=0.3, wide=2.0)
    precision = net.weight.square().sum(0) / SIGMA**2 + 1  # (L,) of the true posterior
    divergence = 0.5 * (2.0 + 0.3**2 * precision - 1 - math.log(2.0)).sum()
    expected = (truth(net, batch["images"]).mean() - divergence).item()
    found = evaluate(net, 1, batch)
    assert found["elbo"].mean().item() == pytest.approx(expected, abs=0.08)  # four standard errors of its draws
    assert found["iwae_1"].mean().item() == pytest.approx(expected, abs=0.08)  # of one draw it is the ELBO


def test_evaluation_is_the_same_in_batches_of_any_size_and_order():
    batch, net = drawn(40), LinearGaussian(wide=2.0)
    whole = evaluate(net, 300, batch)
    order = [7, 3, 31]
    part = {"images": batch["images"][order], "image_ids": [batch["image_ids"][n] for n in order]}
    again = evaluate(net, 300, part)
    assert set(whole) == set(again) > {"elbo", "iwae_300", "reconstruction_mean"}
    for name, values in again.items():
        assert torch.allclose(values, whole[name][order], rtol=1e-5), name


def test_the_reconstruction_at_the_mean_flatters():
    batch = drawn()
    terms = evaluate(LinearGaussian(), 0, batch)
    gap = (terms["reconstruction"] - terms["reconstruction_mean"]).mean().item()
    variance = terms["log_var"].exp() @ LinearGaussian().weight.square().sum(0)  # of Wz, summed over pixels
    assert gap == pytest.approx((variance / (2 * SIGMA**2)).mean().item(), abs=0.1)


class Recorder(Callback):
    """What the run logged, step by step; keeps its state after the third."""

    def __init__(self, place):
        self.betas, self.place = {}, place

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.betas[trainer.global_step - 1] = trainer.callback_metrics["train/beta"].item()
        if trainer.global_step == 3:
            trainer.save_checkpoint(self.place)


def digits_run(folder, schedule, until, resume=None, **options):
    torch.manual_seed(0)
    task = VAEModule(ConvVAE(8, width=2, hidden=4, latent_size=2), ADAM, beta=4.0, beta_schedule=schedule, **options)
    data, seen = DigitsDataModule(size=8, batch_size=600), Recorder(folder / "state.ckpt")
    trainer = toy_trainer(folder, callbacks=[seen, CounterRandomness(0)], max_epochs=20, limit_val_batches=0,
                          log_every_n_steps=1, max_steps=until, use_distributed_sampler=False)  # fmt: skip
    task._planned_steps = lambda: 10
    trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True)
    return task, seen.betas, seen.place


@pytest.mark.parametrize("schedule", [LinearBeta(share=0.8, first=0.25), CyclicBeta(cycles=2), LinearBeta(steps=5)])
def test_beta_goes_on_after_a_resume_as_if_nothing_had_happened(tmp_path, schedule):
    whole, betas, third = digits_run(tmp_path / "whole", schedule, until=10)
    assert betas == pytest.approx({step: 4.0 * schedule(step, 10) for step in range(10)})
    assert len(set(betas.values())) > 3
    rest, again, _ = digits_run(tmp_path / "rest", schedule, until=10, resume=third)
    assert again == {step: beta for step, beta in betas.items() if step >= 3}
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, rest.state_dict()[name]), name


def test_a_schedule_beyond_the_end_is_warned_of(tmp_path):
    with pytest.warns(TrainingWarning, match="a schedule takes 500 steps, but the run has 10"):
        digits_run(tmp_path, LinearBeta(steps=500), until=1)
    with pytest.warns(TrainingWarning, match="a schedule takes 12 steps, but the run has 10"):
        digits_run(tmp_path, CyclicBeta(cycles=2, steps=6), until=1)
    net = ConvVAE(8, width=2, hidden=4, latent_size=2)
    task = VAEModule(net, ADAM, objective=Capacity(25.0, steps=1000))
    trainer = toy_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    with pytest.warns(TrainingWarning, match="a schedule takes 1000 steps, but the run has 1:"):
        trainer.fit(task, datamodule=DigitsDataModule(size=8))


def one_step(folder, **options):
    torch.manual_seed(0)
    task = VAEModule(ConvVAE(8, width=2, hidden=4, latent_size=2), **({"optimizer": ADAM} | options))
    trainer = toy_trainer(folder, max_steps=2, limit_val_batches=1)
    trainer.fit(task, datamodule=DigitsDataModule(size=8, batch_size=32))
    return task, {name: value.item() for name, value in trainer.callback_metrics.items()}, trainer


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"reconstruction", "kl", "beta"}),
        ({"objective": BetaVAE(free_bits=0.1), "beta": 2.0}, {"reconstruction", "kl", "beta"}),
        ({"objective": Capacity(steps=2)}, {"reconstruction", "kl", "capacity"}),
        ({"objective": BetaTCVAE(estimator="mss"), "beta": 6.0}, {"total_correlation", "information", "beta"}),
        ({"objective": FactorVAE(2, width=8)}, {"total_correlation", "loss_discriminator", "beta"}),
        ({"likelihood": LearnedGaussian(), "corruption": GaussianNoise(0.2)}, {"reconstruction", "kl"}),
    ],
)
def test_every_part_trains_and_logs(tmp_path, options, names):
    task, logged, trainer = one_step(tmp_path, **options)
    assert {f"train/{name}" for name in names} <= set(logged)
    assert all(math.isfinite(value) for value in logged.values())
    assert trainer.global_step == 2
    optimizer = trainer.optimizers[0]
    held = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert len(held) == len(list(task.parameters()))
    assert all(weight in optimizer.state for weight in held)


def test_the_discriminator_keeps_its_own_settings(tmp_path):
    task, _, trainer = one_step(tmp_path, objective=FactorVAE(2, width=8, lr=3e-4))
    net, own = trainer.optimizers[0].param_groups
    assert (net["lr"], net["betas"]) == (1e-3, (0.9, 0.999))
    assert (own["lr"], own["betas"], own["weight_decay"]) == (3e-4, (0.5, 0.9), 0.0)
    assert {id(weight) for weight in own["params"]} == {id(weight) for weight in task.objective.parameters()}


def test_the_data_sets_size_reaches_the_objective(tmp_path):
    sizes = []

    class Spy(BetaVAE):
        def forward(self, coded, beta, progress):
            sizes.append((progress.step, progress.dataset_size))
            return super().forward(coded, beta, progress)

    one_step(tmp_path, objective=Spy())
    assert sizes == [(0, 1258), (1, 1258)]


def test_what_is_hidden_is_told_apart():
    net = ConvVAE(8, width=2, hidden=4, latent_size=2)
    task = VAEModule(net, ADAM, corruption=BoxMask()).eval()
    batch = {"images": torch.rand(3, 1, 8, 8), "image_ids": ["a", "b", "c"]}
    with torch.no_grad():
        first, again = (task.validation_step(batch, index) for index in (0, 5))
    assert torch.equal(first["inputs"], again["inputs"])
    assert first["targets"] is batch["images"]
    logits = net.decode(net.encode(first["inputs"]).mean)
    nll = nn.functional.binary_cross_entropy_with_logits(logits, batch["images"], reduction="none")
    expected = (nll * first["hidden"]).sum((1, 2, 3))
    assert torch.allclose(first["terms"]["reconstruction_hidden"], expected, rtol=1e-5)


def test_an_image_that_hides_nothing_has_no_share_in_what_is_hidden():
    class Every2nd(BoxMask):
        def __call__(self, images, seeds):
            spoilt = super().__call__(images, seeds)
            hidden = spoilt.hidden & (torch.arange(len(images)) % 2 == 0)[:, None, None, None]
            return Corrupted(torch.where(hidden, spoilt.images, images), hidden)

    task = VAEModule(ConvVAE(16, width=2, hidden=4, latent_size=2), ADAM, corruption=Every2nd()).eval()
    batch = {"images": torch.rand(4, 1, 16, 16), "image_ids": ["a", "b", "c", "d"]}
    with torch.no_grad():
        outputs = task.validation_step(batch, 0)
    nats = outputs["terms"]["reconstruction_hidden"]
    assert nats.isnan().tolist() == [False, True, False, True]
    quality, means = ReconstructionQuality(), LikelihoodMeans(2)
    quality.update(outputs["preds"], batch["images"], batch["image_ids"], {"reconstruction_hidden": nats},
                   outputs["hidden"])  # fmt: skip
    means.update(outputs["terms"], batch["image_ids"], 256)
    expected = pytest.approx(nats[::2].mean().item(), rel=1e-6)
    assert quality.compute()["reconstruction_hidden"] == expected
    assert means.compute().others["reconstruction_hidden"].item() == expected


def test_codes_are_not_rounded_under_autocast():
    task = VAEModule(ConvVAE(16, width=2, hidden=4, latent_size=2), ADAM).eval()
    seen = []

    class Spy(BetaVAE):
        def forward(self, coded, beta, progress):
            seen.extend([coded.latent, coded.mean, coded.log_var])
            return super().forward(coded, beta, progress)

    task.objective, task.log_terms = Spy(), lambda *_: None
    with torch.autocast("cpu", torch.bfloat16):
        assert task.net.encode(image_batch(0)["images"]).mean.dtype == torch.bfloat16
        task.training_step(image_batch(0), 0)
        terms = task.validation_step(image_batch(0), 0)["terms"]
    assert {values.dtype for values in seen} == {torch.float32}
    assert not torch.equal(seen[0], seen[0].bfloat16().float())
    assert {terms[name].dtype for name in ("mean", "log_var", "kl_per_dim", "elbo")} == {torch.float32}
    double = task.double().validation_step({**image_batch(0), "images": image_batch(0)["images"].double()}, 0)
    assert double["terms"]["mean"].dtype == torch.float64


def test_a_net_all_in_half_precision_decodes_its_codes():
    task = VAEModule(ConvVAE(16, width=2, hidden=4, latent_size=2), ADAM, iwae_samples=3)
    task.log_terms = lambda *_: None
    batch = image_batch(1)
    with torch.no_grad():
        precise = task.test_step(batch, 0)["terms"]
        rounded = task.to(torch.bfloat16).test_step({**batch, "images": batch["images"].bfloat16()}, 0)["terms"]
    for name in ("elbo", "reconstruction_mean", "iwae_3"):
        assert torch.allclose(rounded[name].double(), precise[name].double(), rtol=0.02), name
        assert rounded[name].ne(precise[name]).all(), "nothing was in half precision"
    loss = task.training_step({**batch, "images": batch["images"].bfloat16()}, 0)["loss"]
    loss.backward()
    assert all(weight.grad.isfinite().all() for weight in task.parameters())


def test_slips_are_told():
    class WithoutVariance(ConvVAE):
        def encode(self, images, /):
            return Posterior(super().encode(images).mean, None)

    net = WithoutVariance(16, width=2, hidden=4)
    assert isinstance(net, Autoencoder)
    with pytest.raises(ValueError, match=r"WithoutVariance has no variance.*AutoencoderModule"):
        VAEModule(net, ADAM).training_step(image_batch(0), 0)
    with pytest.raises(ValueError, match=r"model\.beta and beta_schedule have no effect on Capacity"):
        VAEModule(net, ADAM, beta=4.0, objective=Capacity())
    with pytest.raises(ValueError, match=r"model\.beta must be at least 0, got -1\.0"):
        VAEModule(net, ADAM, beta=-1.0)


def test_beta_norm_reaches_the_loggers(tmp_path):
    task = VAEModule(ConvVAE(64, width=2, hidden=4), ADAM, beta=4.0)
    sent = {}

    class Logger:
        def log_hyperparams(self, values):
            sent.update(values)

    task.trainer = toy_trainer(tmp_path, max_steps=1)
    task.trainer._loggers = [Logger()]
    task.on_fit_start()
    assert sent == pytest.approx({"beta": 4.0, "beta_norm": 4 * 10 / 64**2})  # 0.00977, the published example


def test_without_our_data_module_beta_tc_says_what_it_needs(tmp_path):
    task = VAEModule(ConvVAE(16, width=2, hidden=4), ADAM, objective=BetaTCVAE())
    with pytest.raises(ValueError, match="number of training images"):
        toy_trainer(tmp_path).fit(task, datamodule=ToyData([image_batch(0)]))
