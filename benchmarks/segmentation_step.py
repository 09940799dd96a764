"""Training a segmentation net in our way beside plain PyTorch, in turns within one process.

- steps: blocks of steps of an experiment with all its callbacks and loggers, and blocks of a bare loop (forward,
  cross-entropy, backward, fused AdamW) on a copy of the same net, in the same memory layout, and the same batches,
  which lie ready for both. Seconds are the process's own on one thread, which other work on the machine disturbs least.
- epochs: whole epochs of `segmentation/fcn_lite0_voc07` from VOC's files, its checkpoint included, and epochs of a loop
  written after torchvision's `references/segmentation` (its transforms, DataLoader, loss, log and checkpoint) on a copy
  of the same net, the same files, batch, crop, optimizer and loader workers. Seconds on a clock: run it where nothing
  else runs.

Each part of theirs lies between two of ours and is compared with the mean of both.
`python benchmarks/segmentation_step.py steps --config encoder_decoder_drawn`,
`python benchmarks/segmentation_step.py epochs --root FOLDER` (with `VOCdevkit/VOC2007` in it).
"""

import argparse
import copy
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from torchvision.datasets import VOCSegmentation
from torchvision.transforms import functional as TF

from lightning_cv.cli.fit import launch
from lightning_cv.datamodules import DrawnSegmentationDataModule
from lightning_cv.models.backbones.normalise import Normalise

BLOCK, READY, VOID = 10, 8, 255
RATE = 0.001  # torchvision's is 0.01; with it the loss of four images a batch runs away
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
NO_VALIDATION = ["--trainer.limit_val_batches=0"]


class Repeated:
    """Batches over and over."""

    def __init__(self, batches: list[Any], steps: int) -> None:
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        return (self.batches[step % len(self.batches)] for step in range(self.steps))


class ReadyBatches(DrawnSegmentationDataModule):
    """A few batches that lie ready."""

    steps: ClassVar[int] = 0

    def train_dataloader(self) -> Any:
        return Repeated(list(islice(super().train_dataloader(), READY)), self.steps)


class InTurns(Callback):
    """Has the other way's part done between two of our training's, and notes how long each lasts."""

    ours: ClassVar[list[float]] = []
    theirs: ClassVar[list[float]] = []
    clock: ClassVar[Callable[[], float]] = time.process_time

    def __init__(self) -> None:
        self.begun: float | None = None

    def between(self, other: Callable[[], None]) -> None:
        """A part of ours ends here, the next begins when this returns. The first of each warms up."""
        now = self.clock()
        if self.begun is not None:
            self.ours.append(now - self.begun)
        before = self.clock()
        other()
        self.begun = self.clock()
        self.theirs.append(self.begun - before)


class StepTurns(InTurns):
    """Blocks of steps beside those of a bare loop."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        net: Any = pl_module.net
        self.net = copy.deepcopy(net)
        groups = trainer.optimizers[0].param_groups
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=groups[0]["lr"], weight_decay=0.05, fused=True)
        loader: Any = trainer.train_dataloader
        self.batches = loader.batches

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx % BLOCK == 0:
            self.between(self.block)

    def block(self) -> None:
        for step in range(BLOCK):
            batch = self.batches[step % READY]
            loss = F.cross_entropy(self.net(batch["images"]), batch["masks"], ignore_index=VOID)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


class EpochTurns(InTurns):
    """Whole epochs beside those of torchvision's loop."""

    root: ClassVar[str] = ""
    workers: ClassVar[int] = 2
    base: ClassVar[int] = 350  # the shorter side of VOC's pictures, which ours scales by 0.5 to 2

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        net: Any = pl_module.net
        self.loop = ReferenceLoop(copy.deepcopy(net), self.root, data.batch_size, 256, self.base, self.workers)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.between(self.loop.epoch)


class ReferenceLoop:
    """An epoch as torchvision's `references/segmentation/train.py` trains it, of the version with PIL transforms.

    Scale of the shorter side by chance, mirror, padded crop, normalised tensors; `DataLoader` with a random sampler,
    workers started each epoch; cross-entropy with 255 left out; SGD with a polynomial schedule a step; loss and rate
    read for the log each step; the checkpoint of net, optimizer and schedule at the end.
    """

    def __init__(self, net: nn.Module, root: str, batch: int, crop: int, base: int, workers: int) -> None:
        self.net, self.crop, self.base = normalised_outside(net.train()), crop, base
        sets = [
            VOCSegmentation(root, year="2007", image_set=split, transforms=self.prepared) for split in ("train", "val")
        ]
        both: Any = torch.utils.data.ConcatDataset(sets)
        self.loader: DataLoader[Any] = DataLoader(
            both, batch, sampler=RandomSampler(both), num_workers=workers, collate_fn=collated, drop_last=True
        )
        trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(trained, lr=RATE, momentum=0.9, weight_decay=1e-4)
        steps = 30 * len(self.loader)
        self.schedule = torch.optim.lr_scheduler.PolynomialLR(self.optimizer, total_iters=steps, power=0.9)
        self.log: list[tuple[float, float]] = []

    def prepared(self, image: Image.Image, mask: Image.Image) -> tuple[Tensor, Tensor]:
        side = random.randint(int(0.5 * self.base), int(2.0 * self.base))
        image = TF.resize(image, [side], antialias=True)
        mask = TF.resize(mask, [side], interpolation=TF.InterpolationMode.NEAREST)
        if random.random() < 0.5:
            image, mask = TF.hflip(image), TF.hflip(mask)
        right, bottom = (max(0, self.crop - length) for length in image.size)
        image, mask = TF.pad(image, [0, 0, right, bottom], fill=0), TF.pad(mask, [0, 0, right, bottom], fill=VOID)
        width, height = image.size
        top, left = random.randint(0, height - self.crop), random.randint(0, width - self.crop)
        image, mask = (TF.crop(one, top, left, self.crop, self.crop) for one in (image, mask))
        pixels = TF.convert_image_dtype(TF.pil_to_tensor(image), torch.float)
        pixels = TF.normalize(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        return pixels, torch.as_tensor(np.array(mask), dtype=torch.int64)

    def epoch(self) -> None:
        self.net.train()
        for images, masks in self.loader:
            loss = F.cross_entropy(self.net(images), masks, ignore_index=VOID)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.log.append((loss.item(), self.optimizer.param_groups[0]["lr"]))
        if not math.isfinite(self.log[-1][0]):
            raise RuntimeError("torchvision's loop: the loss is no number")
        with tempfile.TemporaryFile() as file:
            kept = {"model": self.net, "optimizer": self.optimizer, "lr_scheduler": self.schedule}
            torch.save({name: part.state_dict() for name, part in kept.items()}, file)


def normalised_outside(net: nn.Module) -> nn.Module:
    """The net without its own first layer: torchvision's transforms normalise in the loader's workers."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Normalise):
                setattr(parent, name, nn.Identity())
    return net


def collated(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Torchvision's: a canvas of the largest size, 0 and void around, though crops share a size."""
    batches = []
    for parts, fill in zip(zip(*samples, strict=True), (0, VOID), strict=True):
        size = tuple(max(sides) for sides in zip(*(part.shape for part in parts), strict=True))
        canvas = parts[0].new_full((len(parts), *size), fill)
        for part, place in zip(parts, canvas, strict=True):
            place[..., : part.shape[-2], : part.shape[-1]].copy_(part)
        batches.append(canvas)
    return batches[0], batches[1]


def ratios(ours: list[float], theirs: list[float]) -> Iterator[float]:
    """The mean of the parts of ours around each part of theirs, over it; the warm-up is left out."""
    for before, after, between in zip(ours[1:], ours[2:], theirs[2:], strict=False):
        yield (before + after) / 2 / between


def steps(config: str, blocks: int) -> None:
    torch.set_num_threads(1)
    import segmentation_step  # the module that the command line imports by this name, too

    segmentation_step.ReadyBatches.steps = BLOCK * blocks
    asked = ["--data.class_path=segmentation_step.ReadyBatches", "--data.train=100", "--trainer.max_epochs=1"]
    asked += ["--trainer.check_val_every_n_epoch=1", "--trainer.callbacks+=segmentation_step.StepTurns"]
    with tempfile.TemporaryDirectory() as folder:
        launch("fit", ["--config", f"segmentation/{config}", "--runs", folder, *asked, *NO_VALIDATION, *QUIET])
    told(segmentation_step.InTurns, f"{BLOCK} steps of {config}, CPU-seconds of one thread", "a bare loop")


def epochs(root: str, count: int, workers: int) -> None:
    import segmentation_step

    segmentation_step.InTurns.clock = time.perf_counter
    turns = segmentation_step.EpochTurns
    turns.root, turns.workers = root, workers
    asked = [f"--data.num_workers={workers}", f"--data.root={root}"]
    asked += ["--data.cache=false", f"--trainer.max_epochs={count}", f"--trainer.check_val_every_n_epoch={count}"]
    sgd = "{class_path: torch.optim.SGD, init_args: {"
    sgd += f"lr: {RATE}, momentum: 0.9, weight_decay: 1.0e-4, fused: false}}}}"
    asked += ["--trainer.callbacks+=segmentation_step.EpochTurns", f"--model.optimizer={sgd}"]
    asked += ["--trainer.gradient_clip_val=null"]
    with tempfile.TemporaryDirectory() as folder:
        launch("fit", ["--config", "segmentation/fcn_lite0_voc07", "--runs", folder, *asked, *NO_VALIDATION, *QUIET])
    told(segmentation_step.InTurns, "an epoch of VOC, seconds", "torchvision's loop")


def told(turns: type[InTurns], what: str, other: str) -> None:
    found = list(ratios(turns.ours, turns.theirs))
    mine, its = statistics.median(turns.ours[1:]), statistics.median(turns.theirs[1:])
    quartiles = statistics.quantiles(found)[::2] if len(found) > 1 else found * 2
    spread = " and ".join(f"{100 * (share - 1):+.1f} %" for share in quartiles)
    print(f"{what}: ours {mine:.3f}, {other} {its:.3f}")
    print(f"ours takes {100 * (statistics.median(found) - 1):+.1f} %, the median of {len(found)}, quartiles {spread}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("steps", "epochs"), default="steps")
    parser.add_argument("--config", default="encoder_decoder_drawn", help="experiment on drawn scenes; also fcn_drawn")
    parser.add_argument("--blocks", type=int, default=60, help="of 10 steps each")
    parser.add_argument("--root", default=os.environ.get("LIGHTNING_CV_DATA", "data"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    if min(asked.blocks, asked.epochs) < 4:  # the first warm up, and each part of theirs lies between two of ours
        parser.error("--blocks and --epochs are at least 4")
    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
    if asked.what == "steps":
        steps(asked.config, asked.blocks)
    elif (Path(asked.root) / "VOCdevkit").is_dir():
        epochs(str(Path(asked.root).resolve()), asked.epochs, asked.workers)
    else:
        print(f"epochs: no VOCdevkit in {asked.root}, left out")


if __name__ == "__main__":
    main()
