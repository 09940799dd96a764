"""An autoencoder against hard-coded codecs: the same images, real bytes. Letters: N images; L latent size."""

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lightning_cv.contracts import Autoencoder
from lightning_cv.metrics.compression import (
    Coded,
    Figures,
    LinearAutoencoder,
    code_latents,
    code_spread,
    eight_bits,
    figures,
    jpeg_scans,
    mosaics,
    png_mosaics,
    zlib_all,
)
from lightning_cv.viz.compression import CodecPoint, compression_curves

STEPS = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0625)
"""Of the quantiser, in units of the training codes' deviation."""

JPEG_QUALITIES = (1, 5, 10, 20, 40, 60, 80, 95)
WEBP_QUALITIES = (0, 5, 10, 20, 40, 60, 80, 95)
WIDER = 4
"""So many times the net's latents has the second linear autoencoder."""

BATCH = 256


class Row(NamedTuple):
    """One setting of one codec on one data set."""

    data: str
    codec: str
    setting: str
    figures: Figures


class Images(NamedTuple):
    """Images (N, C, H, W), rounded to 8 bits, and what they are called."""

    name: str
    images: Tensor


def compare(
    net: Autoencoder,
    train: Images,
    others: Sequence[Images],
    device: torch.device,
    picture: Callable[[Tensor], Tensor] = torch.sigmoid,
) -> list[Row]:
    """Every codec on every data set. Tables, components and the unit of the steps come from `train` alone.

    `picture` turns the net's outputs into images.
    """
    rows = [_learned_rows(f"net, {net.latent_size} latents", _Net(net, device, picture), train, others)]
    values = min(len(train.images), train.images[0].numel())
    for size in dict.fromkeys(min(values, net.latent_size * factor) for factor in (1, WIDER)):
        rows.append(_learned_rows(f"PCA, {size} components", LinearAutoencoder(train.images, size), train, others))
    rows += [_hard_coded_rows(one) for one in others]
    return [row for group in rows for row in group]


class _Net:
    """The net's verbs on many images: posterior means as codes, pictures from 0 to 1."""

    def __init__(self, net: Autoencoder, device: torch.device, picture: Callable[[Tensor], Tensor]) -> None:
        self.net, self.device, self.picture = net, device, picture

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Codes (N, L)."""
        return torch.cat([self.net.encode(batch.to(self.device)).mean.cpu() for batch in torch.split(images, BATCH)])

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Images (N, C, H, W)."""
        return torch.cat(
            [self.picture(self.net.decode(batch.to(self.device))).cpu() for batch in torch.split(codes, BATCH)]
        )


def _learned_rows(name: str, codec: _Net | LinearAutoencoder, train: Images, others: Sequence[Images]) -> Iterator[Row]:
    known = codec.encode(train.images)
    spread = code_spread(known) or 1.0  # codes that are all the same: any step will do
    for one in others:
        codes = codec.encode(one.images)
        for step in STEPS:
            received, size = code_latents(codes, known, step * spread)
            coded = Coded(eight_bits(codec.decode(received)), size)
            yield Row(one.name, name, f"step {step:g}", figures(coded, one.images))


def _hard_coded_rows(one: Images) -> Iterator[Row]:
    for quality in JPEG_QUALITIES:
        yield _row(one, "JPEG, scans only", quality, jpeg_scans(one.images, quality))
    for quality in JPEG_QUALITIES:
        yield _row(one, "JPEG, mosaic", quality, mosaics(one.images, "JPEG", quality))
    for quality in WEBP_QUALITIES:
        yield _row(one, "WebP, mosaic", quality, mosaics(one.images, "WEBP", quality))
    yield _row(one, "PNG, mosaic", None, png_mosaics(one.images))
    yield _row(one, "zlib", None, zlib_all(one.images))


def _row(one: Images, codec: str, quality: int | None, coded: Coded) -> Row:
    setting = "lossless" if quality is None else f"quality {quality}"
    return Row(one.name, codec, setting, figures(coded, one.images))


def write_comparison(rows: Sequence[Row], about: dict[str, Any], out: Path) -> None:
    """`compression.csv`, `compression.json` and `compression.png` in a folder."""
    with (out / "compression.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["data", "codec", "setting", *Figures._fields])
        writer.writerows([row.data, row.codec, row.setting, *row.figures] for row in rows)
    (out / "compression.json").write_text(json.dumps(as_json(rows, about), indent=1) + "\n")
    panels: dict[str, Sequence[CodecPoint]] = {
        data: [CodecPoint(r.codec, r.figures.bits_per_pixel, r.figures.psnr) for r in rows if r.data == data]
        for data in dict.fromkeys(row.data for row in rows)
    }
    Image.fromarray(compression_curves(panels)).save(out / "compression.png")


def as_json(rows: Sequence[Row], about: dict[str, Any]) -> dict[str, Any]:
    """What JSON can hold of it: figures that are no finite numbers become null."""
    return about | {
        "rows": [
            {"data": row.data, "codec": row.codec, "setting": row.setting}
            | {name: value if math.isfinite(value) else None for name, value in row.figures._asdict().items()}
            for row in rows
        ]
    }


def print_comparison(rows: Sequence[Row], console: Console | None = None) -> None:
    """A table in the terminal for each data set."""
    shown = console or Console()
    for data in dict.fromkeys(row.data for row in rows):
        table = Table(title=data, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for column in ("codec", "setting", "bits an image", "bits a pixel", "PSNR dB", "SSIM"):
            table.add_column(column, justify="left" if column in ("codec", "setting") else "right")
        for row in rows:
            if row.data == data:
                table.add_row(row.codec, row.setting, *_shown(row.figures))
        shown.print(table)


def _shown(found: Figures) -> tuple[str, ...]:
    quality = f"{found.psnr:.2f}" if math.isfinite(found.psnr) else "lossless"
    likeness = "" if math.isnan(found.ssim) else f"{found.ssim:.3f}"
    return f"{found.bits_per_image:.1f}", f"{found.bits_per_pixel:.3f}", quality, likeness
