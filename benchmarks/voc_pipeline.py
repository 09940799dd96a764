"""Images/s of our VOC detection pipeline beside torchvision's reference transforms, in turn, in one run.

Both read the same files, augment as SSD does (colours, zoom-out, IoU crop, mirror), end at one size and hand over
batches from loader workers. torchvision: `references/detection/presets.py`, "ssd", with a resize at the end.
"""

import argparse
import re
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.datasets import VOCDetection as TorchvisionVOC
from torchvision.datasets import wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from lightning_cv.datamodules import VOCDetectionDataModule
from lightning_cv.datasets.drawn import DRAWN_CLASSES
from lightning_cv.datasets.voc import VOC_CLASSES
from lightning_cv.datasets.writers import write_voc
from lightning_cv.transforms import DetectionEval, SSDTrain


def ours(root: Path, split: str, names: list[str], size: int, batch: int, workers: int):
    data = VOCDetectionDataModule(
        str(root), SSDTrain(size), DetectionEval(size), batch_size=batch, train=split, class_names=names,
        num_workers=workers,
    )  # fmt: skip
    data.setup("fit" if split != "test" else "test")
    return data.train_dataloader()


def torchvisions(root: Path, split: str, size: int, batch: int, workers: int):
    transforms = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill={tv_tensors.Image: (123.0, 117.0, 104.0), "others": 0}),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(0.5),
            v2.Resize((size, size)),
            v2.ToDtype(torch.float, scale=True),
            v2.SanitizeBoundingBoxes(),
        ]
    )
    dataset = TorchvisionVOC(root, year="2007", image_set=split, transforms=transforms)
    dataset = wrap_dataset_for_transforms_v2(dataset, target_keys=("boxes", "labels"))
    return DataLoader(
        dataset, batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True, collate_fn=collate
    )


def collate(samples):
    return torch.stack([image for image, _ in samples]), [target for _, target in samples]


def rate(loader, batch: int) -> float:
    begun, images = time.perf_counter(), 0
    for _ in loader:
        images += batch
    return images / (time.perf_counter() - begun)


def rename_classes(root: Path) -> None:
    """Drawn classes by VOC's names: torchvision's reader knows no others."""
    names = dict(zip(DRAWN_CLASSES, VOC_CLASSES, strict=False))
    for path in root.rglob("Annotations/*.xml"):
        path.write_text(
            re.sub(r"<name>(\w+)</name>", lambda found: f"<name>{names[found[1]]}</name>", path.read_text())
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="folder with VOCdevkit/VOC2007; drawn scenes of 500 pixels otherwise")
    parser.add_argument("--split", default="trainval")
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        root, split, names = options.root, options.split, list(VOC_CLASSES)
        if root is None:
            root, split = Path(scratch) / "drawn", "train"
            write_voc(root, "2007", {"train": 400, "val": 1, "test": 1}, 0, 500)
            rename_classes(root)
        loaders = {
            "lightning_cv": ours(root, split, names, options.size, options.batch, options.workers),
            "torchvision": torchvisions(root, split, options.size, options.batch, options.workers),
        }
        rates: dict[str, list[float]] = {name: [] for name in loaders}
        for pair in range(options.pairs + 1):
            for name, loader in loaders.items():
                value = rate(loader, options.batch)
                if pair > 0:  # the first starts the workers
                    rates[name].append(value)
                    print(f"pair {pair}: {name} {value:.0f} images/s", flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(", ".join(f"{name} {value:.0f} images/s" for name, value in medians.items()))
    print(f"ratio of medians {medians['lightning_cv'] / medians['torchvision']:.2f}")


if __name__ == "__main__":
    main()
