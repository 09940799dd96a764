from functools import partial

import pytest
import torch
from oracles.toy_training import ToyData, image_batch, toy_trainer
from torch import nn

from lightning_cv.callbacks import ReconstructionMetrics, ReconstructionPreview
from lightning_cv.callbacks.reproducible import CounterRandomness
from lightning_cv.contracts import Autoencoder, Posterior
from lightning_cv.datamodules import DigitsDataModule
from lightning_cv.metrics.images import masked_psnr, psnr, ssim
from lightning_cv.models import ConvVAE
from lightning_cv.ops import likelihoods
from lightning_cv.ops.corruptions import BoxMask, GaussianNoise, RandomMask
from lightning_cv.ops.likelihoods import Bernoulli, Gaussian
from lightning_cv.tasks import AutoencoderModule, VAEModule, vae
from lightning_cv.tasks.autoencoder import FirstLook

ADAM = partial(torch.optim.Adam, lr=1e-2)


class SmallAutoencoder(nn.Module):
    """One linear layer each way."""

    latent_size, image_shape = 16, (1, 16, 16)

    def __init__(self):
        super().__init__()
        self.coder, self.drawer = nn.Linear(256, 16), nn.Linear(16, 256)

    def encode(self, images, /):
        return Posterior(self.coder(images.flatten(1)), None)

    def decode(self, latent, /):
        return self.drawer(latent).unflatten(1, (1, 16, 16))


def fit(folder, corruption=None, **options):
    torch.manual_seed(0)
    task = AutoencoderModule(SmallAutoencoder(), ADAM, corruption=corruption)
    callbacks = [ReconstructionMetrics(), ReconstructionPreview(count=4), CounterRandomness(0)]
    settings = {"check_val_every_n_epoch": options["max_epochs"], "limit_val_batches": 1} | options
    trainer = toy_trainer(folder, callbacks=callbacks, use_distributed_sampler=False, **settings)
    trainer.fit(task, datamodule=DigitsDataModule(size=16, batch_size=64))
    return task, {name: value.item() for name, value in trainer.callback_metrics.items()}


def test_it_learns_to_draw_digits(tmp_path):
    assert isinstance(SmallAutoencoder(), Autoencoder)
    _, first = fit(tmp_path, max_epochs=1)
    _, logged = fit(tmp_path, max_epochs=5)
    assert logged["val/reconstruction"] < first["val/reconstruction"] - 10
    assert logged["val/psnr"] > first["val/psnr"] + 1
    assert 0.5 < logged["val/ssim"] <= 1
    assert "val/psnr_hidden" not in logged


def test_denoising_gives_back_more_than_it_was_shown(tmp_path):
    task, logged = fit(tmp_path, GaussianNoise(0.5), max_epochs=5)
    data = DigitsDataModule(size=16, eval_batch_size=270)
    data.setup("fit")
    (batch,) = data.val_dataloader()
    with torch.no_grad():
        output = task.validation_step(batch, 0)
    assert psnr(output["inputs"], batch["images"]).mean() + 3 < logged["val/psnr"]
    assert torch.equal(output["targets"], batch["images"])


@pytest.mark.parametrize("corruption", [BoxMask(), RandomMask(0.3)])
def test_the_figures_of_a_batch_by_hand(tmp_path, corruption):
    task, logged = fit(tmp_path, corruption, max_epochs=1)
    data = DigitsDataModule(size=16, batch_size=64)
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    with torch.no_grad():
        output = task.validation_step(batch, 3)
        logits = task.net.decode(task.net.encode(output["inputs"]).mean)
    nll = nn.functional.binary_cross_entropy_with_logits(logits, batch["images"], reduction="none")
    images, hidden = batch["images"], output["hidden"]
    expected = {
        "reconstruction": nll.sum((1, 2, 3)),
        "reconstruction_hidden": (nll * hidden).sum((1, 2, 3)),
        "psnr": psnr(logits.sigmoid(), images),
        "psnr_hidden": masked_psnr(logits.sigmoid(), images, hidden),
        "ssim": ssim(logits.sigmoid(), images),
        "mse": (logits.sigmoid() - images).square().mean((1, 2, 3)),
    }
    for name, values in expected.items():
        assert logged[f"val/{name}"] == pytest.approx(values.mean().item(), rel=1e-4), name
    assert list((tmp_path / "previews").glob("reconstruction-*.png"))


def test_an_image_is_spoilt_in_the_same_way_in_any_batch():
    task = AutoencoderModule(SmallAutoencoder(), ADAM, corruption=GaussianNoise(0.3)).eval()
    both, second = image_batch(0, images=2), image_batch(1, images=1)
    assert torch.equal(task.test_step(both, 0)["inputs"][1:], task.test_step(second, 9)["inputs"])


def test_training_noise_follows_the_counters(tmp_path):
    """The same run twice gives the same weights; the corruption takes part in them."""
    runs = [fit(tmp_path, corruption, max_epochs=1)[0] for corruption in (RandomMask(), RandomMask(), None)]
    first, again, clean = (run.net.coder.weight for run in runs)
    assert torch.equal(first, again)
    assert not torch.equal(first, clean)


def test_use_shows_pictures_of_what_it_is_given():
    task = AutoencoderModule(SmallAutoencoder(), ADAM, likelihood=Gaussian(0.1), corruption=BoxMask())
    images = torch.rand(2, 1, 16, 16)
    outputs = task.net.decode(task.net.encode(images).mean)
    assert torch.equal(task.predict_step(images), outputs.clamp(0, 1))


class OnAccelerator:
    """Images as far as a look at them goes."""

    device = torch.device("cuda")


def test_images_on_an_accelerator_are_looked_at_once_after_each_start(tmp_path):
    looks = []

    class Watched(Bernoulli):
        def check(self, images):
            looks.append(images)

    look, likelihood = FirstLook(), Watched()
    for _ in range(3):
        look(likelihood, OnAccelerator())
    assert len(looks) == 1
    look(likelihood, torch.rand(2, 1, 16, 16))  # on the CPU a look costs little
    assert len(looks) == 2
    for task in (
        AutoencoderModule(SmallAutoencoder(), ADAM, likelihood=Watched()),
        VAEModule(ConvVAE(16, width=2, hidden=4, latent_size=2), ADAM, likelihood=Watched()),
    ):
        for _ in range(2):
            toy_trainer(tmp_path, limit_val_batches=0).fit(task, datamodule=ToyData([image_batch(0)]))
            assert task.first_look.done
            looks.clear()
            task.first_look(task.likelihood, OnAccelerator())
            assert not looks
        task.on_fit_start()
        task.first_look(task.likelihood, OnAccelerator())
        assert len(looks) == 1


@pytest.mark.parametrize("verb", ["training_step", "validation_step", "test_step"])
def test_normalised_images_are_refused(verb):
    batch = image_batch(0) | {"images": image_batch(0)["images"] - 0.5}
    net = ConvVAE(16, width=2, hidden=4, latent_size=2)
    for task in (AutoencoderModule(SmallAutoencoder(), ADAM), VAEModule(net, ADAM)):
        with pytest.raises(ValueError, match=r"needs images within 0 and 1, got -0\.5 to -0\.4"):
            getattr(task, verb)(batch, 0)


def test_evaluation_looks_at_its_images_once(monkeypatch):
    looks = []
    monkeypatch.setattr(vae, "CODES_AT_ONCE", 4)  # three rounds of the bound
    monkeypatch.setattr(likelihoods, "in_unit_range", looks.append)
    for task in (
        AutoencoderModule(SmallAutoencoder(), ADAM),
        VAEModule(ConvVAE(16, width=2, hidden=4, latent_size=2), ADAM, iwae_samples=6),
    ):
        looks.clear()
        with torch.no_grad():
            task.eval().test_step(image_batch(0), 0)
        assert len(looks) == 1


def test_a_net_with_a_variance_is_refused():
    task = AutoencoderModule(ConvVAE(16, width=2, hidden=4), ADAM)
    with pytest.raises(ValueError, match=r"ConvVAE has a variance.*VAEModule is for such nets"):
        task.training_step(image_batch(0), 0)
