"""Whole epochs of Faster R-CNN with ResNet-50-FPN from VOC's files: ours beside torchvision's net and loop, in turns.

Ours is an experiment with its callbacks, loggers and checkpoint. Theirs is written after `references/detection`: its
transforms ("hflip", PIL), DataLoader with batches grouped by aspect, net that resizes within, loop that reads its
losses each step, and checkpoint. Both begin from the same weights, and share files, sizes, batch, frozen layers,
optimizer, threads and the number of loader workers. Our weights lie channels last, theirs as a step is faster with,
channels last or, as the reference has them, not: that is measured first and printed. Nothing is detected. Seconds are
those of a clock: run it where nothing else runs. An epoch is cut short after some batches; each of theirs lies between
two of ours and is compared with the mean of both.

`python benchmarks/faster_rcnn_epochs.py --root FOLDER` (with `VOCdevkit/VOC2007` in it).
"""

import argparse
import bisect
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from faster_rcnn_step import lay_out, theirs
from lightning import LightningModule, Trainer
from PIL import Image
from segmentation_step import NO_VALIDATION, QUIET, InTurns, told
from torch.utils.data import DataLoader, Sampler
from torchvision.datasets import VOCDetection, wrap_dataset_for_transforms_v2
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from lightning_cv.cli.experiments import shipped_experiments
from lightning_cv.cli.fit import launch
from lightning_cv.models.backbones.normalise import IMAGENET_MEAN, IMAGENET_STD
from lightning_cv.tools.import_torchvision_detectors import net_block, our_names

CLASSES, SPLIT, SHORTER, LONGER = 20, "val", 192, 320
SGD = {"lr": 1e-6, "momentum": 0.9, "weight_decay": 1e-4}
"""The rate is so small that random weights stay where they are."""


class ByAspect(Sampler[list[int]]):
    """Batches of pictures that are all wide or all high: `GroupedBatchSampler` of the reference with its factor 3."""

    def __init__(self, ratios: list[float], batch: int) -> None:
        edges = [2 ** (step / 3) for step in range(-3, 4)]
        self.groups = [bisect.bisect_right(edges, ratio) for ratio in ratios]
        self.batch = batch

    def __len__(self) -> int:
        return len(self.groups) // self.batch

    def __iter__(self) -> Iterator[list[int]]:
        waiting: dict[int, list[int]] = {}
        given = 0
        for index in random.sample(range(len(self.groups)), len(self.groups)):
            group = waiting.setdefault(self.groups[index], [])
            group.append(index)
            if len(group) == self.batch:
                given += 1
                yield waiting.pop(self.groups[index])
        for group in sorted(waiting.values(), key=len, reverse=True)[: len(self) - given]:
            yield (group * self.batch)[: self.batch]


def wall_seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class ReferenceLoop:
    """An epoch as the reference's `train_one_epoch` and `train.py` have it."""

    def __init__(self, root: str, batch: int, batches: int, workers: int) -> None:
        transforms = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.PILToTensor(), v2.ToDtype(torch.float, scale=True)])
        found = VOCDetection(root, year="2007", image_set=SPLIT, transforms=transforms)
        ratios = [width / height for width, height in (Image.open(path).size for path in found.images)]
        self.loader: DataLoader[Any] = DataLoader(
            wrap_dataset_for_transforms_v2(found, target_keys=("boxes", "labels")),
            batch_sampler=ByAspect(ratios, batch),
            num_workers=workers,
            collate_fn=list,
        )
        self.batches = batches
        self.net: Any = theirs(CLASSES + 1)
        self.net.transform = GeneralizedRCNNTransform(SHORTER, LONGER, IMAGENET_MEAN, IMAGENET_STD)
        self.optimizer = torch.optim.SGD([one for one in self.net.parameters() if one.requires_grad], **SGD)
        self.log: list[dict[str, float]] = []
        samples = next(iter(self.loader))
        print(f"torchvision's: {lay_out(self.net.train(), lambda: self.step(samples).backward(), wall_seconds)}")
        self.optimizer.zero_grad()
        self.log.clear()

    def step(self, samples: list[Any]) -> torch.Tensor:
        """The loss of a batch, its terms noted."""
        losses = self.net([image for image, _ in samples], [target for _, target in samples])
        loss: torch.Tensor = sum(losses.values())  # type: ignore[assignment]  # there are terms
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the loss is {loss.item()}")
        self.log.append({name: value.item() for name, value in losses.items()})
        return loss

    def epoch(self) -> None:
        self.net.train()
        warmup = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1e-3, total_iters=self.batches - 1)
        for samples in islice(self.loader, self.batches):
            loss = self.step(samples)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            warmup.step()
        with tempfile.TemporaryFile() as file:
            kept = {"model": self.net, "optimizer": self.optimizer, "lr_scheduler": warmup}
            torch.save({name: part.state_dict() for name, part in kept.items()}, file)


class EpochTurns(InTurns):
    """Whole epochs of ours and of the reference, from the same weights."""

    root: ClassVar[str] = ""
    batches: ClassVar[int] = 16
    workers: ClassVar[int] = 2

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        net: Any = pl_module.net
        self.loop = ReferenceLoop(self.root, data.batch_size, self.batches, self.workers)
        net.load_state_dict(our_names(self.loop.net.state_dict(), range(1, CLASSES + 1)), strict=False)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.between(self.loop.epoch)


def experiment(root: str, batch: int, batches: int, workers: int, count: int) -> dict[str, Any]:
    """The settings of our run."""
    base = shipped_experiments() / "_base"
    net = net_block(with_masks=False)
    net["init_args"]["num_classes"] = CLASSES
    transforms = "lightning_cv.transforms.ShorterSide"
    return {
        "base": [str(base / f"{name}.yaml") for name in ("trainer", "voc_detection", "detection")],
        "data": {
            "init_args": {
                "root": root,
                "train": SPLIT,
                "batch_size": batch,
                "num_workers": workers,
                "train_transform": {
                    "class_path": f"{transforms}Train",
                    "init_args": {"shorter": [SHORTER], "longer": LONGER},
                },
                "eval_transform": {"class_path": f"{transforms}Eval", "init_args": {"shorter": SHORTER}},
            }
        },
        "model": {
            "class_path": "lightning_cv.tasks.TwoStageDetector",
            "init_args": {"net": net, "optimizer": {"class_path": "torch.optim.SGD", "init_args": SGD}},
        },
        "trainer": {
            "max_epochs": count,
            "limit_train_batches": batches,
            "check_val_every_n_epoch": count,
            "callbacks+": [{"class_path": "faster_rcnn_epochs.EpochTurns"}],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=os.environ.get("LIGHTNING_CV_DATA", "data"))
    parser.add_argument("--epochs", type=int, default=5, help="the first warms up")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--batches", type=int, default=16, help="of an epoch, at most 64")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    if asked.epochs < 4:
        parser.error("--epochs is at least 4")
    if not (Path(asked.root) / "VOCdevkit").is_dir():
        print(f"epochs of Faster R-CNN: no VOCdevkit in {asked.root}, left out")
        return
    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
    import faster_rcnn_epochs  # the module that the command line imports by this name, too

    InTurns.clock = time.perf_counter
    root = str(Path(asked.root).resolve())
    turns = faster_rcnn_epochs.EpochTurns
    turns.root, turns.batches, turns.workers = root, asked.batches, asked.workers
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "faster_rcnn_voc.yaml"
        file.write_text(yaml.safe_dump(experiment(root, asked.batch, asked.batches, asked.workers, asked.epochs)))
        launch("fit", ["--config", str(file), "--runs", folder, *NO_VALIDATION, *QUIET])
    told(InTurns, f"an epoch of VOC 2007's {SPLIT}, seconds", "torchvision's loop")


if __name__ == "__main__":
    main()
