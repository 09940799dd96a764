"""Training a VAE on grey MNIST in four ways, in turn, each in a process of its own: the same net, Adam, batch of 64.

- ours: MNISTDataModule, VAEModule and Lightning's Trainer with every callback that an experiment has, except previews;
- plain Lightning: a module of a few lines, torchvision's MNIST under a DataLoader, no callback, no logger;
- pythae: its BaseTrainer around the same layers, left out where it is not installed;
- bare loop: tensors in memory, fused Adam, channels last; no framework.

Two nets: the fully connected 784-400-20, 28 x 28, and that of Burgess et al. 2018, 32 x 32. Images a second of the
training itself, without setting up, with as many threads as torch takes by itself. Reads the MNIST folder of `--root`
(default: LIGHTNING_CV_DATA). Run it where nothing else runs.
"""

import argparse
import contextlib
import gzip
import importlib.util
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from lightning_cv.callbacks import GradientNorm, LikelihoodMetrics, NanGuard, ProgressLines, Throughput
from lightning_cv.callbacks.reproducible import CounterRandomness
from lightning_cv.cli.gpus import hide_missing_gpus
from lightning_cv.cli.memory import keep_freed_memory
from lightning_cv.datamodules import MNISTDataModule
from lightning_cv.models import MLPVAE, ConvVAE
from lightning_cv.ops.latents import kl_to_standard_normal, reparameterise
from lightning_cv.tasks import VAEModule
from lightning_cv.tracking import MetricsCSV

BATCH = 64
NETS: dict[str, tuple[int, Callable[[], Any]]] = {
    "MLP 784-400-20": (28, lambda: MLPVAE(28, latent_size=20, hidden=(400,))),
    "Burgess, 32 px": (32, lambda: ConvVAE(32)),
}


class Clock(Callback):
    """Seconds from the first training batch to the end of the last epoch."""

    begun = seconds = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begun = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self.begun


def loss_of(net: Any, images: Tensor) -> Tensor:
    mean, log_var = net.encode(images)
    logits = net.decode(reparameterise(mean, log_var))
    nll = F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(1)
    return (nll + kl_to_standard_normal(mean, log_var).sum(1)).mean()


def ours(root: str, size: int, make: Callable[[], Any], steps: int, folder: str) -> float:
    data = MNISTDataModule(root, size=size, val_fraction=0.0, batch_size=BATCH)
    task, clock = VAEModule(make(), partial(torch.optim.Adam, lr=1e-3, fused=True)), Clock()
    callbacks = [
        ModelCheckpoint(folder, filename="last", monitor=None, save_on_train_epoch_end=True),
        *(LearningRateMonitor("step"), NanGuard(), Throughput(), GradientNorm(), ProgressLines()),
        *(LikelihoodMetrics(), CounterRandomness(0), clock),
    ]
    settings = {"logger": MetricsCSV(folder), "log_every_n_steps": 50, "use_distributed_sampler": False}
    quiet_trainer(folder, steps, callbacks=callbacks, enable_checkpointing=True, **settings).fit(task, datamodule=data)
    return steps * BATCH / clock.seconds


class PlainModule(LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = loss_of(self.net, batch[0])
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def torchvision_set(root: str, size: int) -> MNIST:
    return MNIST(
        root, train=True, transform=transforms.Compose([transforms.Pad((size - 28) // 2), transforms.ToTensor()])
    )


def plain_lightning(root: str, size: int, make: Callable[[], Any], steps: int, folder: str) -> float:
    clock, loader = Clock(), DataLoader(torchvision_set(root, size), BATCH, shuffle=True, drop_last=True)
    quiet_trainer(folder, steps, callbacks=[clock], enable_checkpointing=False, logger=False).fit(
        PlainModule(make()), loader
    )
    return steps * BATCH / clock.seconds


def pythae(root: str, size: int, make: Callable[[], Any], steps: int, folder: str) -> float:
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    net = make()

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: Tensor) -> ModelOutput:
            mean, log_var = self.net.encode(images)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def forward(self, latent: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=net.decode(latent).sigmoid())

    config = VAEConfig(input_dim=(1, size, size), latent_dim=net.latent_size, reconstruction_loss="bce")
    images = memory(root, size)[: steps * BATCH]
    training = BaseTrainerConfig(
        output_dir=folder, num_epochs=1, per_device_train_batch_size=BATCH, learning_rate=1e-3, no_cuda=True
    )
    logging.disable(logging.INFO)
    model = VAE(config, Encoder(), Decoder())
    from pythae.data.datasets import BaseDataset

    trainer = BaseTrainer(model, BaseDataset(images, torch.zeros(len(images))), None, training, callbacks=[])
    trainer.prepare_training()
    begun = time.perf_counter()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # its progress bar
        trainer.train_step(1)  # an epoch
    return steps * BATCH / (time.perf_counter() - begun)


def bare_loop(root: str, size: int, make: Callable[[], Any], steps: int, folder: str) -> float:
    images, net = memory(root, size), make().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    begun = time.perf_counter()
    order = torch.randperm(len(images))
    for step in range(steps):
        loss = loss_of(net, images[order[step * BATCH : (step + 1) * BATCH]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return steps * BATCH / (time.perf_counter() - begun)


def memory(root: str, size: int) -> Tensor:
    data = MNISTDataModule(root, size=size, val_fraction=0.0)
    return data.split("train").images.float() / 255


def quiet_trainer(folder: str, steps: int, **settings: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(
        max_epochs=1,
        limit_train_batches=steps,
        limit_val_batches=0,
        accelerator="cpu",
        default_root_dir=folder,
        **quiet,
        **settings,
    )


def unpacked(root: Path, folder: Path) -> str:
    """A root with the idx files as torchvision wants them, not compressed."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (root / "MNIST" / "raw").iterdir():
        content = path.read_bytes()
        (raw / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)
    return str(folder)


def one_way(root: str, way: str, name: str, steps: int) -> float:
    """Images a second; the first steps of the process warm it up."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if way == "ours":
        keep_freed_memory()  # both as the command line does
        hide_missing_gpus()
    size, make = NETS[name]
    with tempfile.TemporaryDirectory() as scratch:
        for count in (20, steps):
            torch.manual_seed(0)
            speed = WAYS[way](root, size, make, count, scratch)
    return speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("LIGHTNING_CV_DATA", "data")))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "NET"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(one_way(str(asked.root), *asked.one, asked.steps))
        return
    ways = list(WAYS)
    if importlib.util.find_spec("pythae") is None:
        ways.remove("pythae")
        print("pythae is not installed and left out")
    with tempfile.TemporaryDirectory() as scratch:
        root = unpacked(asked.root, Path(scratch) / "data")
        for name in NETS:
            speeds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(asked.rounds):
                for way in ways:
                    command = [sys.executable, __file__, f"--root={root}", f"--steps={asked.steps}", "--one", way, name]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    speeds[way].append(float(done.stdout.split()[-1]))
            print(f"{name}, batch {BATCH}, median of {asked.rounds} rounds of {asked.steps} steps in turn")
            for way, values in speeds.items():
                ratio = statistics.median(mine / other for mine, other in zip(speeds["ours"], values, strict=True))
                print(f"  {way:16s} {statistics.median(values):9,.0f} images/s   ours is {ratio:.2f} times as fast")


WAYS = {"ours": ours, "plain Lightning": plain_lightning, "pythae": pythae, "bare loop": bare_loop}

if __name__ == "__main__":
    main()
