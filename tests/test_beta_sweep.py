"""What beta does, for every seed: a shorter code, a worse reconstruction, no more latents in use."""

from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from oracles.toy_training import toy_trainer

from lightning_cv.callbacks import LikelihoodMetrics
from lightning_cv.callbacks.reproducible import CounterRandomness
from lightning_cv.datamodules import DSpritesDataModule
from lightning_cv.models import ConvVAE
from lightning_cv.tasks import VAEModule

BETAS = (1.0, 4.0, 16.0)


def figures(root: Path, folder: Path, beta: float, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    net = ConvVAE(32, latent_size=10, width=16, hidden=128)
    task = VAEModule(net, partial(torch.optim.Adam, lr=2e-3), beta=beta)
    data = DSpritesDataModule(str(root), 32, {"orientation": 0}, held_out=1000, batch_size=128, eval_batch_size=500)
    data.seed = seed
    trainer = toy_trainer(folder, callbacks=[CounterRandomness(seed), LikelihoodMetrics()], max_epochs=8,
                          limit_val_batches=0, use_distributed_sampler=False)  # fmt: skip
    trainer.fit(task, datamodule=data)
    (found,) = trainer.test(task, datamodule=data, verbose=False)
    return dict(found)


@pytest.fixture(scope="module")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root in which dSprites are drawn once."""
    root = tmp_path_factory.mktemp("sprites")
    DSpritesDataModule(str(root)).prepare_data()
    return root


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_beta_trades_code_length_for_reconstruction(sprites: Path, tmp_path: Path, seed: int) -> None:
    sweep = [figures(sprites, tmp_path, beta, seed) for beta in BETAS]
    for smaller, larger in pairwise(sweep):
        assert larger["test/kl"] < smaller["test/kl"]
        assert larger["test/reconstruction"] > smaller["test/reconstruction"]
        assert larger["test/active_units"] <= smaller["test/active_units"]
        assert larger["test/elbo"] < smaller["test/elbo"]  # free of beta: best at 1
