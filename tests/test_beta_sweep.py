"""What beta does, for every seed: a shorter code, a worse reconstruction, no more latents in use."""

from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from oracles.toy_training import toy_trainer

from lightning_cv.callbacks import LikelihoodMetrics
from lightning_cv.callbacks.reproducible import CounterRandomness
from lightning_cv.datamodules import DigitsDataModule
from lightning_cv.models import ConvVAE
from lightning_cv.tasks import VAEModule

BETAS = (1.0, 4.0, 16.0)


def figures(folder: Path, beta: float, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    net = ConvVAE(16, latent_size=10, width=16, hidden=64)
    task = VAEModule(net, partial(torch.optim.Adam, lr=2e-3), beta=beta)
    data = DigitsDataModule(size=16, batch_size=64, eval_batch_size=270)
    data.seed = seed
    trainer = toy_trainer(folder, callbacks=[CounterRandomness(seed), LikelihoodMetrics()], max_epochs=30,
                          limit_val_batches=0, use_distributed_sampler=False)  # fmt: skip
    trainer.fit(task, datamodule=data)
    (found,) = trainer.test(task, datamodule=data, verbose=False)
    return dict(found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_beta_trades_code_length_for_reconstruction(tmp_path: Path, seed: int) -> None:
    sweep = [figures(tmp_path, beta, seed) for beta in BETAS]
    for smaller, larger in pairwise(sweep):
        assert larger["test/kl"] < smaller["test/kl"]
        assert larger["test/reconstruction"] > smaller["test/reconstruction"]
        assert larger["test/active_units"] <= smaller["test/active_units"]
        assert larger["test/elbo"] < smaller["test/elbo"]  # free of beta: best at 1
