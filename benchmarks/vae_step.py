"""Training a small VAE: our task under Lightning beside a bare loop over the same tensors, in turn, in one run."""

import statistics
import tempfile
import time
import warnings
from functools import partial

import torch
import torch.nn.functional as F
from lightning import Trainer

from lightning_cv.callbacks.reproducible import CounterRandomness
from lightning_cv.datamodules import DigitsDataModule
from lightning_cv.models import ConvVAE
from lightning_cv.ops.latents import kl_to_standard_normal, reparameterise
from lightning_cv.tasks import VAEModule

EPOCHS, PAIRS, BATCH = 12, 3, 64


def net() -> ConvVAE:
    torch.manual_seed(0)
    return ConvVAE(image_size=32, latent_size=10, width=16, hidden=128)


def framework(images: torch.Tensor) -> float:
    data = DigitsDataModule(size=32, batch_size=BATCH)
    task = VAEModule(net(), partial(torch.optim.Adam, lr=1e-3, fused=True))
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(
            max_epochs=EPOCHS,
            accelerator="cpu",
            limit_val_batches=0,
            use_distributed_sampler=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[CounterRandomness(0)],
            **quiet,
        )
        begun = time.perf_counter()
        trainer.fit(task, datamodule=data)
    return EPOCHS * data.batches_per_epoch() * BATCH / (time.perf_counter() - begun)


def bare_loop(images: torch.Tensor) -> float:
    model = net().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    batches = len(images) // BATCH
    begun = time.perf_counter()
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        for index in range(batches):
            batch = images[order[index * BATCH : (index + 1) * BATCH]]
            mean, log_var = model.encode(batch)
            logits = model.decode(reparameterise(mean, log_var, None))
            nll = F.binary_cross_entropy_with_logits(logits, batch, reduction="none").flatten(1).sum(1)
            loss = (nll + kl_to_standard_normal(mean, log_var).sum(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return EPOCHS * batches * BATCH / (time.perf_counter() - begun)


def main() -> None:
    warnings.simplefilter("ignore")
    data = DigitsDataModule(size=32, batch_size=BATCH)
    data.prepare_data()
    data.setup("fit")
    images = data.train_set().images  # type: ignore[attr-defined]  # the in-memory set of this data module
    framework(images), bare_loop(images)  # warm up
    pairs = [(framework(images), bare_loop(images)) for _ in range(PAIRS)]
    ratio = statistics.median(ours / bare for ours, bare in pairs)
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"VAE on digits, 32 x 32, batch {BATCH}: {ours:,.0f} images/s, bare loop {bare:,.0f}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
