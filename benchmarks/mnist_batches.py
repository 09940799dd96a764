"""Grey MNIST batches of 128: ours beside torchvision's data set under a DataLoader, in turn, in one process.

Reads the MNIST folder of `--root` (default: the environment's LIGHTNING_CV_DATA), or one that it makes up for itself.
"""

import argparse
import gzip
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from lightning_cv.datamodules import MNISTDataModule
from lightning_cv.datasets.small_writers import write_mnist

BATCH, ROUNDS, EPOCHS_OF_OURS = 128, 5, 5
MADE_UP = {"train": 20_000, "test": 100}


def ours(root: str) -> tuple[DataLoader, int]:
    data = MNISTDataModule(root, size=28, val_fraction=0.0, batch_size=BATCH)
    data.setup("fit")
    return data.train_dataloader(), EPOCHS_OF_OURS


def torchvision_loader(root: str, workers: int) -> tuple[DataLoader, int]:
    data = MNIST(root, train=True, transform=ToTensor())
    return DataLoader(data, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0), 1


def images_per_second(loader: Iterable, epochs: int) -> float:
    begun, seen = time.perf_counter(), 0
    for epoch in range(epochs):
        if epochs > 1:
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]  # ours
        for batch in loader:
            seen += len(batch["images"] if isinstance(batch, dict) else batch[0])
    return seen / (time.perf_counter() - begun)


def unpacked(root: Path, folder: Path) -> str:
    """A root with the idx files as torchvision wants them, not compressed."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (root / "MNIST" / "raw").iterdir():
        content = path.read_bytes()
        (raw / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)
    return str(folder)


def measure(root: Path, scratch: Path) -> None:
    plain = unpacked(root, scratch / "plain")
    loaders = {
        "ours": ours(str(root)),
        "torchvision, 0 workers": torchvision_loader(plain, 0),
        "torchvision, 2 workers": torchvision_loader(plain, 2),
    }
    for loader, _ in loaders.values():  # warm up: workers start, files are in memory
        images_per_second(loader, 1)
    speeds: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(ROUNDS):
        for name, (loader, epochs) in loaders.items():
            speeds[name].append(images_per_second(loader, epochs))
    print(f"MNIST, {len(loaders['ours'][0].dataset):,} images, grey, batch {BATCH}, median of {ROUNDS} rounds in turn")
    for name, values in speeds.items():
        ratio = statistics.median(mine / other for mine, other in zip(speeds["ours"], values, strict=True))
        beside = "" if name == "ours" else f"   ours is {ratio:.1f} times as fast"
        print(f"{name:24s} {statistics.median(values):12,.0f} images/s{beside}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="data root with MNIST/raw")
    root = parser.parse_args().root
    if root is None and (Path(os.environ.get("LIGHTNING_CV_DATA", "data")) / "MNIST" / "raw").is_dir():
        root = Path(os.environ.get("LIGHTNING_CV_DATA", "data"))
    with tempfile.TemporaryDirectory() as folder:
        if root is None:
            root = Path(folder) / "made-up"
            write_mnist(root, MADE_UP)
            print("no MNIST at hand: made-up digits in its layout")
        measure(root, Path(folder))


if __name__ == "__main__":
    main()
